"""After tasks/commands.py in a temporary home, real shells find the command."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.machine import PYINFRA, need, run

pytestmark = pytest.mark.integration

INTERACTIVE, LOGIN, LOGIN_COMMAND = "-ic", "-lic", "-lc"
SHELLS = {
    "bash": 'command -v claude-local; echo "$PATH"',
    "zsh": 'command -v claude-local; echo "$PATH"',
    "fish": "command -s claude-local; string join : $PATH",
}


@pytest.fixture(scope="module", autouse=True)
def shells() -> None:
    """Install zsh and fish if they are missing."""
    need(*SHELLS)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the user's own start-up files, after two deploys."""
    path = tmp_path_factory.mktemp("a home")
    (path / ".bashrc").write_text("export FROM_BASHRC=yes\n")
    (path / ".zshrc").write_text("export FROM_ZSHRC=yes")
    assert deploy(path)["success"] > 0
    assert deploy(path)["success"] == 0
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
