"""files/shims/npm: answers Claude Code's own question at once, and is the user's npm for everything else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FILES = Path(__file__).parents[2] / "files"


@pytest.fixture
def shims(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FILES / "shims", tmp_path / "own shims"))


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    npm = tmp_path / "node 24" / "bin" / "npm"
    npm.parent.mkdir(parents=True)
    npm.write_text('#!/bin/sh\necho "theirs: $#: $*"\nexit 3\n')
    npm.chmod(0o755)
    return npm.parent


def ask(*words: str, path: list[Path | str], cwd: Path | str = "/") -> tuple[int, str, str]:
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@"', "sh", "npm", *words], cwd=cwd, capture_output=True, text=True, check=False, timeout=10,
        env={"PATH": ":".join(map(str, path)), "PWD": str(cwd)},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_claudes_question_is_answered_without_npm(shims: Path, theirs: Path) -> None:
    answer = (0, f"{theirs.parent}/lib/node_modules\n", "")
    assert ask("root", "-g", path=[shims, "/nowhere", theirs]) == answer


@pytest.mark.parametrize("words", [("root",), ("root", "-g", "--json"), ("install", "a b", ""), ()])
def test_every_other_question_is_npms(shims: Path, theirs: Path, words: tuple[str, ...]) -> None:
    expected = (3, f"theirs: {len(words)}: {' '.join(words)}\n", "")
    assert ask(*words, path=[shims, theirs]) == expected


def test_the_same_question_from_a_project_is_npms(shims: Path, theirs: Path, tmp_path: Path) -> None:
    assert ask("root", "-g", path=[shims, theirs], cwd=tmp_path)[0] == 3


def test_without_npm_it_is_as_if_there_were_none(shims: Path) -> None:
    assert ask("root", "-g", path=[shims, "/nowhere"]) == (127, "", "npm: not found\n")


@pytest.mark.parametrize("rest", ["{}:/usr/bin:/bin", "/usr/bin:{}:/bin", "/usr/bin:/bin:{}", "/usr/bin:/bin"])
def test_commands_get_a_path_without_it(shims: Path, rest: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'. "{FILES}/bash-env.sh"; printf %s "$PATH"'], capture_output=True, text=True, check=True,
        timeout=10, env={"PATH": rest.format(shims), "CLAUDE_LOCAL_SHIMS": str(shims), "CLAUDE_LOCAL_BLOCKED": "x"},
    )  # fmt: skip
    assert done.stdout == "/usr/bin:/bin"
