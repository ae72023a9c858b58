"""After tasks/commands.py in a temporary home, real shells find the commands and complete llama-local."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.machine import PYINFRA, need, run
from tests.integration.tty import Tty

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).parents[2]
BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")
COMPINIT = "\nautoload -Uz compinit && compinit -D\n"
INTERACTIVE, LOGIN, LOGIN_COMMAND = "-ic", "-lic", "-lc"
SHELLS = {
    "bash": 'command -v claude-local; echo "$PATH"',
    "zsh": 'command -v claude-local; echo "$PATH"',
    "fish": "command -s claude-local; string join : $PATH",
}


@pytest.fixture(scope="module", autouse=True)
def shells() -> None:
    """Install zsh, fish and bash's completion if they are missing."""
    need(*SHELLS)
    if not BASH_COMPLETION.exists():
        need("bash-completion")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the user's own start-up files, after two deploys."""
    path = tmp_path_factory.mktemp("a home")
    (path / ".bashrc").write_text(f"export FROM_BASHRC=yes\n. {BASH_COMPLETION}\n")
    (path / ".zshrc").write_text("export FROM_ZSHRC=yes" + COMPINIT.rstrip())
    assert deploy(path)["success"] > 0
    assert deploy(path)["success"] == 0
    profiles = path / ".local/share/claude-local/manager/profiles.json"
    profiles.parent.mkdir(parents=True)
    profiles.write_text(json.dumps({"profiles": {"small-model": {}, "tiny-model": {}}}))
    # The runtime's Python, with this project's code.
    python = path / ".local/share/claude-local/venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nshift\nPYTHONPATH={PROJECT} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return path


def deploy(home: Path) -> dict[str, int]:
    env = {**os.environ, "HOME": str(home)}
    done = run(PYINFRA, "--json", "-y", "@local", "tasks/commands.py", timeout=120, env=env)
    assert done.returncode == 0
    totals: dict[str, int] = json.loads(done.stdout)["results"]["totals"]
    return totals


def new_shell(home: Path, *words: str) -> list[str]:
    """The output lines of a shell that starts with only HOME and a system PATH."""
    env = {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "dumb", "LANG": "C.UTF-8"}
    done = subprocess.run(
        words, env=env, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("how", [INTERACTIVE, LOGIN, LOGIN_COMMAND])
@pytest.mark.parametrize("shell", SHELLS)
def test_a_new_shell_finds_the_command_and_has_its_directory_on_path_once(home: Path, shell: str, how: str) -> None:
    found, path = new_shell(home, shell, how, SHELLS[shell])
    assert found == str(home / "bin/claude-local")
    assert path.split(":").count(str(home / "bin")) == 1


def test_nested_shells_add_nothing_to_path(home: Path) -> None:
    script = 'bash -ic \'zsh -lic "fish -lic \\"bash -lic env\\""\''
    lines = new_shell(home, "sh", "-c", script)
    (path,) = (line for line in lines if line.startswith("PATH="))
    assert path.removeprefix("PATH=").split(":").count(str(home / "bin")) == 1
    assert {"FROM_BASHRC=yes", "FROM_ZSHRC=yes"} <= set(lines), "the user's own lines still count"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_tab_key_completes_a_command_and_a_profile(home: Path, shell: str, tmp_path: Path) -> None:
    # bash-completion 2.11 finds nothing in a home with a space in its name.
    (tmp_path / "home").symlink_to(home)
    env = {"HOME": str(tmp_path / "home"), "PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "dumb", "LANG": "C.UTF-8"}
    with Tty([shell, "-i"], env=env, cwd=str(home)) as tty:
        tty.send("PS1='ready> '\r")
        tty.wait(lambda: tty.text.count("ready>") >= 2, "the shell's prompt")
        for keys, line in (("llama-local swi\t", "llama-local switch"), ("sm\t", "llama-local switch small-model")):
            tty.send(keys)
            tty.wait(lambda line=line: line in tty.text, f"the line {line}")


def test_fish_offers_commands_and_profiles(home: Path) -> None:
    (offer,) = new_shell(home, "fish", "-c", 'complete -C "llama-local swi"')
    assert offer.split("\t")[0] == "switch"
    assert sorted(new_shell(home, "fish", "-c", 'complete -C "llama-local start "')) == ["small-model", "tiny-model"]


def test_zsh_completes_where_compinit_runs_after_our_lines(home: Path, tmp_path: Path) -> None:
    (tmp_path / ".zshrc").write_text((home / ".zshrc").read_text().replace(COMPINIT, "\n", 1) + COMPINIT)
    env = {"HOME": str(home), "ZDOTDIR": str(tmp_path)}
    script = "print -r -- $_comps[llama-local]"
    assert new_shell(home, "env", *(f"{k}={v}" for k, v in env.items()), "zsh", "-ic", script) == [
        "_llama_local_completion"
    ]
