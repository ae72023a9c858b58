"""files/shim: answers Claude Code's own questions at once, and is the user's npm, dpkg and ps for everything else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from claude_local.paths import SHIMS

FILES = Path(__file__).parents[2] / "files"
THEIRS = '#!/bin/sh\necho "theirs: $#: $*"\nexit 3\n'
# As Claude Code 2.1.330 asks it, when it starts in a terminal.
EDITORS = 'ps aux | grep -E "code|cursor|windsurf|devin-desktop|idea|pycharm" | grep -v grep'
BEHIND = {"CLAUDE_LOCAL_FENCE": "outer+inner"}


@pytest.fixture
def shims(tmp_path: Path) -> Path:
    directory = tmp_path / "own shims"
    directory.mkdir()
    for name in SHIMS:
        shutil.copy(FILES / "shim", directory / name)
    return directory


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    directory = tmp_path / "node 24" / "bin"
    directory.mkdir(parents=True)
    for name in SHIMS:
        (directory / name).write_text(THEIRS)
        (directory / name).chmod(0o755)
    return directory


def ask(*words: str, path: list[Path | str], cwd: Path | str = "/", **env: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@"', "sh", *words], cwd=cwd, capture_output=True, text=True, check=False, timeout=10,
        env={"PATH": ":".join(map(str, path)), "PWD": str(cwd), **env},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def pipeline(script: str, path: list[Path | str], **env: str) -> str:
    """What ``script`` prints, run as Claude Code runs it."""
    _, said, errors = ask("/bin/sh", "-c", script, path=[*path, "/usr/bin", "/bin"], **env)
    assert errors == ""
    return said


def test_claudes_question_is_answered_without_npm(shims: Path, theirs: Path) -> None:
    answer = (0, f"{theirs.parent}/lib/node_modules\n", "")
    assert ask("npm", "root", "-g", path=[shims, "/nowhere", theirs]) == answer


@pytest.mark.parametrize("words", [("root",), ("root", "-g", "--json"), ("install", "a b", ""), ()])
def test_every_other_question_is_npms(shims: Path, theirs: Path, words: tuple[str, ...]) -> None:
    expected = (3, f"theirs: {len(words)}: {' '.join(words)}\n", "")
    assert ask("npm", *words, path=[shims, theirs]) == expected


def test_the_same_question_from_a_project_is_npms(shims: Path, theirs: Path, tmp_path: Path) -> None:
    assert ask("npm", "root", "-g", path=[shims, theirs], cwd=tmp_path)[0] == 3


def test_no_package_has_anything_in_a_home_directory(shims: Path, theirs: Path) -> None:
    claude = "/home/ada lovelace/.local/share/claude/versions/2.1.330"
    said = f"dpkg-query: no path found matching pattern {claude}\n"
    assert ask("dpkg", "-S", claude, path=[shims, theirs], HOME="/home/ada lovelace") == (1, "", said)


@pytest.mark.parametrize(
    "words",
    [("-S", "/usr/bin/claude"), ("-S", "/home/ada"), ("-S", "/home/adam/x"), ("-S", "/home/ada/*"),
     ("-S", "/home/ada/x", "/usr/bin/env"), ("-L", "/home/ada/x"), ("-S",), ()],
)  # fmt: skip
def test_every_other_question_is_dpkgs(shims: Path, theirs: Path, words: tuple[str, ...]) -> None:
    expected = (3, f"theirs: {len(words)}: {' '.join(words)}\n", "")
    assert ask("dpkg", *words, path=[shims, theirs], HOME="/home/ada") == expected


def test_the_real_dpkg_says_the_same(shims: Path, tmp_path: Path) -> None:
    file = tmp_path / "claude"
    file.touch()
    ours = ask("dpkg", "-S", str(file), path=[shims, "/usr/bin", "/bin"], HOME=str(tmp_path))
    assert ours == ask("dpkg", "-S", str(file), path=["/usr/bin", "/bin"], HOME=str(tmp_path), LC_ALL="C")


def test_behind_the_outer_fence_no_editor_runs(shims: Path, theirs: Path) -> None:
    (theirs / "ps").write_text("#!/bin/sh\necho code cursor\n")
    assert pipeline(EDITORS, [shims, theirs], **BEHIND) == ""
    assert pipeline(EDITORS, [shims, theirs]) == "code cursor\n"
    assert pipeline(EDITORS, [shims, theirs], CLAUDE_LOCAL_FENCE="inner") == "code cursor\n"


@pytest.mark.parametrize("script", ["ps aux", "ps aux | grep -E code", "ps -e", "ps aux x"])
def test_every_other_question_is_pss(shims: Path, theirs: Path, script: str) -> None:
    (theirs / "ps").write_text("#!/bin/sh\necho a code editor\n")
    assert pipeline(script, [shims, theirs], **BEHIND) == "a code editor\n"


@pytest.mark.parametrize("name", SHIMS)
def test_without_the_program_it_is_as_if_there_were_none(shims: Path, name: str) -> None:
    assert ask(name, "root", "-g", path=[shims, "/nowhere"]) == (127, "", f"{name}: not found\n")


@pytest.mark.parametrize("rest", ["{}:/usr/bin:/bin", "/usr/bin:{}:/bin", "/usr/bin:/bin:{}", "/usr/bin:/bin"])
def test_commands_get_a_path_without_it(shims: Path, rest: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'. "{FILES}/bash-env.sh"; printf %s "$PATH"'], capture_output=True, text=True, check=True,
        timeout=10, env={"PATH": rest.format(shims), "CLAUDE_LOCAL_SHIMS": str(shims), "CLAUDE_LOCAL_BLOCKED": "x"},
    )  # fmt: skip
    assert done.stdout == "/usr/bin:/bin"
