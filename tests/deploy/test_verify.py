"""Verifying through pyinfra: parameters on stdin, Docker asked with the right rights, and what a person sees."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api import StringCommand

from claude_local.deploy.operations import streaming, verify
from claude_local.verify.docker_rows import parse
from tests.deploy.strict_host import StrictHost

PARAMETERS = {"container": "it's mine", "image": "claude-local/llama-server:b1-cpu-x", "home": "/home/o'neil"}
PYTHON = "/home/o'neil/venv/bin/python"


class Host(StrictHost):
    """Another machine. Also keeps the parameters that verify gets on stdin, and answers for Docker."""

    connector = None

    def __init__(self, *, root: bool = False) -> None:
        super().__init__({}, root=root)
        self.parameters: list[dict[str, Any]] = []

    def run_shell_command(self, command: StringCommand, print_output: bool = False, **arguments: Any) -> Any:
        self.ran.append(command.get_raw_value())
        self.sudo.append(bool(arguments.get("_sudo")))
        if "_stdin" in arguments:
            assert print_output, "the rows must be shown as they come"
            self.parameters.append(json.loads(arguments["_stdin"]))
            return self.succeeds, None
        return True, SimpleNamespace(stdout='@@ version 0\n{"Version": "1"}')


def verified(host: Host, hosts: int = 1, **arguments: Any) -> list[str]:
    """Run the operation on one of ``hosts`` hosts; its commands."""
    state = SimpleNamespace(activated_hosts=range(hosts), print_noop_info=False)
    (command,) = verify.run._inner(parameters=PARAMETERS, python=PYTHON, **arguments)
    assert command.function(state, host) is host.succeeds
    return host.ran


@pytest.fixture
def as_host(monkeypatch: pytest.MonkeyPatch) -> Callable[[Host], Host]:
    """Make a host the current one."""

    def use(host: Host) -> Host:
        monkeypatch.setattr(streaming, "host", host)
        return host

    return use


def test_root_lets_verify_ask_docker_itself(as_host: Any) -> None:
    host = as_host(Host())
    (command,) = verified(host)
    assert "-m claude_local.verify --parameters -" in command and "--deep" not in command
    assert host.parameters == [PARAMETERS] and not any(host.sudo)


def test_a_user_has_docker_asked_with_sudo_and_all_else_done_as_the_user(as_host: Any) -> None:
    host = as_host(Host(root=True))
    asked, command = verified(host)
    assert "docker container inspect" in asked and "claude_local.verify" in command
    assert host.sudo == [True, False]
    assert parse(host.parameters[0]["docker"])["version"].decoded == {"Version": "1"}


def test_deep_and_chosen_rows_are_passed_on(as_host: Any) -> None:
    host = as_host(Host())
    (command,) = verified(host, deep=True, only="server.*, claude.chat,")
    arguments = shlex.split(command.split("claude_local.verify", 1)[1].split("2>&1")[0])
    assert arguments[2:7] == ["--deep", "--only", "server.*", "--only", "claude.chat"]


def test_a_failed_row_fails_the_operation_and_the_other_hosts_go_on(as_host: Any) -> None:
    host = as_host(Host())
    host.succeeds = False
    verified(host, hosts=2)
    with pytest.raises(SystemExit, match="1"):
        verified(host, hosts=1)


def test_without_the_runtime_one_row_says_what_to_do() -> None:
    command = verify.verify_command(PYTHON, "-").get_raw_value()
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, input="{}", timeout=20)
    assert done.returncode == 1
    assert done.stdout.startswith("FAIL  runtime.python") and PYTHON in done.stdout
    assert done.stdout.endswith("fix: ./provision\n")


def test_dockers_questions_survive_the_shell_and_a_machine_without_docker(tmp_path: Path) -> None:
    script = verify.docker_answers("it's mine", "image").get_raw_value()
    for tool in ("sed", "timeout"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    done = subprocess.run(
        ["/bin/sh", "-c", script.replace("sh -c", "/bin/sh -c", 1)], capture_output=True, text=True,
        env={"PATH": str(tmp_path)}, timeout=60,
    )  # fmt: skip
    answers = parse(done.stdout)
    assert set(answers) == {"version", "image", "container", "build", "reach"}
    assert all(answer.status == 127 for answer in answers.values())


# --- through pyinfra in a terminal ------------------------------------------------------------------------------------

# Stands in for the runtime's Python: says what verify gets, and ends with the status in a file.
RUNTIME = """#!/bin/sh
for last; do case $last in /proc/self/fd/*) parameters=$last ;; esac; done
grep -o '"server_port": [0-9]*' "$parameters"
test -t 0 && test -t 1 && echo "a terminal of $(stty size) ${CLAUDE_LOCAL_ASK:-not asked}"
echo the last words
exit "$(cat "$HOME/status")"
"""


@pytest.mark.parametrize(("status", "ask"), [(0, False), (1, False), (0, True)])
def test_on_this_machine_verify_has_the_terminal_and_the_last_words(tmp_path: Path, status: int, ask: bool) -> None:
    python = tmp_path / ".local/share/claude-local/venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(RUNTIME)
    python.chmod(0o755)
    (tmp_path / "status").write_text(f"{status}\n")
    controller, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (40, 80))
    env = {**os.environ, "HOME": str(tmp_path), "TERM": "xterm", **({"CLAUDE_LOCAL_ASK": "1"} if ask else {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "pyinfra", "-y", "@local", "tasks/verify.py"],
        stdin=terminal, stdout=terminal, stderr=terminal, env=env, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    output = b""
    with contextlib.suppress(OSError):  # EIO: the terminal's last process has ended
        while data := os.read(controller, 65536):
            output += data
    os.close(controller)
    assert process.wait() == status
    assert output.decode().splitlines()[-3:] == [
        '"server_port": 8080', f"a terminal of 40 80 {'1' if ask else 'not asked'}", "the last words",
    ]  # fmt: skip
