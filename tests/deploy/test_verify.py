"""Verifying through pyinfra: parameters on stdin, Docker asked with the right rights, and what a person sees."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
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
    """Also keeps the parameters that verify gets on stdin, and answers for Docker and for running sessions."""

    name, print_prefix = "@local", "[@local] "

    def __init__(self, *, root: bool = False) -> None:
        super().__init__({}, root=root)
        self.parameters: list[dict[str, Any]] = []
        self.refusal: list[str] = []

    def run_shell_command(self, command: StringCommand, print_output: bool = False, **arguments: Any) -> Any:
        self.ran.append(command.get_raw_value())
        self.sudo.append(bool(arguments.get("_sudo")))
        if "--sessions" in self.ran[-1]:
            return not self.refusal, SimpleNamespace(stdout_lines=[], output_lines=self.refusal)
        if "_stdin" in arguments:
            assert print_output, "the rows must be shown as they come"
            self.parameters.append(json.loads(arguments["_stdin"]))
            return self.succeeds, None
        return True, SimpleNamespace(stdout='@@ version 0\n{"Version": "1"}')


def verified(monkeypatch: pytest.MonkeyPatch, host: Host, hosts: int = 1, **arguments: Any) -> list[str]:
    """Run the operation on one of ``hosts`` hosts; its commands without the look for sessions."""
    monkeypatch.setattr(verify, "screen", SimpleNamespace(add=lambda *_, **__: None))
    state = SimpleNamespace(activated_hosts=range(hosts), print_noop_info=False, check_for_changes=False)
    (command,) = verify.run._inner(parameters=PARAMETERS, python=PYTHON, **arguments)
    assert command.function(state, host) is host.succeeds
    assert any("--sessions" in command for command in host.ran)
    return [command for command in host.ran if "--sessions" not in command]


@pytest.fixture
def as_host(monkeypatch: pytest.MonkeyPatch) -> Callable[[Host], Host]:
    """Make a host the current one."""

    def use(host: Host) -> Host:
        monkeypatch.setattr(streaming, "host", host)
        return host

    return use


def test_root_lets_verify_ask_docker_itself(monkeypatch: pytest.MonkeyPatch, as_host: Any) -> None:
    host = as_host(Host())
    (command,) = verified(monkeypatch, host)
    assert "-m claude_local.verify --parameters -" in command and "--deep" not in command
    assert host.parameters == [PARAMETERS] and not any(host.sudo)


def test_a_user_has_docker_asked_with_sudo_and_all_else_done_as_the_user(
    monkeypatch: pytest.MonkeyPatch, as_host: Any
) -> None:
    host = as_host(Host(root=True))
    asked, command = verified(monkeypatch, host)
    assert "docker container inspect" in asked and "claude_local.verify" in command
    assert host.sudo == [True, False, False]
    assert parse(host.parameters[0]["docker"])["version"].decoded == {"Version": "1"}


def test_deep_and_chosen_rows_are_passed_on(monkeypatch: pytest.MonkeyPatch, as_host: Any) -> None:
    host = as_host(Host())
    (command,) = verified(monkeypatch, host, deep=True, only="server.*, claude.chat,")
    for each in (host.ran[0], command):
        arguments = shlex.split(each.split("claude_local.verify", 1)[1].split("2>&1")[0])
        assert arguments[2:7] == ["--deep", "--only", "server.*", "--only", "claude.chat"]


def test_a_failed_row_fails_the_operation_and_the_other_hosts_go_on(
    monkeypatch: pytest.MonkeyPatch, as_host: Any
) -> None:
    host = as_host(Host())
    host.succeeds = False
    verified(monkeypatch, host, hosts=2)
    with pytest.raises(SystemExit, match="1"):
        verified(monkeypatch, host, hosts=1)


def test_on_a_shared_screen_each_line_names_its_host(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify, "set_echo", lambda echo: None)
    monkeypatch.setattr(verify.atexit, "register", lambda close: None)
    screen = verify.VerifyScreen()
    for name in ("one", "two"):
        screen.add(SimpleNamespace(name=name, print_prefix=f"<{name}> "), shared=True, verbose=False)
    for name, row in (("two", PASSING), ("one", FAILING)):
        screen.echo(f"<{name}> " + json.dumps({"row": row, "count": 1}))
        screen.echo(f"<{name}> " + json.dumps({"report": "/verify.json"}))
    screen.echo("<one> a line of some other program")
    screen.close()
    rows, _, closing = capsys.readouterr().err.partition("some other program\n")
    assert rows.startswith("[two] PASS") and "\n[one] FAIL" in rows
    assert "[two] 1 check passed\n" in closing and closing.endswith("[one]     fix: ./provision\n")


def test_a_runtime_of_another_version_is_called_that(
    monkeypatch: pytest.MonkeyPatch, as_host: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    host = as_host(Host())
    host.refusal = ["usage: verify", "verify: error: unrecognized arguments: --sessions"]
    with pytest.raises(SystemExit, match="1"):
        verified(monkeypatch, host)
    assert host.parameters == [] and capsys.readouterr().err.endswith("fix: ./provision\n")


def test_without_the_runtime_one_row_says_what_to_do() -> None:
    command = verify.verify_command(PYTHON).get_raw_value()
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, input="{}", timeout=20)
    assert done.returncode == 1
    assert done.stdout.startswith("FAIL  runtime.python") and PYTHON in done.stdout
    assert done.stdout.endswith("fix: ./provision\n")


def test_dockers_questions_survive_the_shell_and_a_machine_without_docker() -> None:
    script = verify.docker_answers("it's mine", "image").get_raw_value()
    env = {"PATH": "/nonexistent"}
    done = subprocess.run(
        ["/bin/sh", "-c", script.replace("sh -c", "/bin/sh -c", 1)], capture_output=True, text=True, env=env
    )
    answers = parse(done.stdout)
    assert set(answers) == {"version", "image", "container", "build", "reach"}
    assert all(answer.status == 127 for answer in answers.values())


# --- through pyinfra in a terminal ------------------------------------------------------------------------------------

LONG = "many words " * 30
FAILING = {"id": "token", "title": "the token", "status": "FAIL", "evidence": LONG, "fix": "./provision", "seconds": 0}
PASSING = {**FAILING, "id": "tool", "status": "PASS", "fix": ""}
# Stands in for the runtime's Python: the events of a run, and a session that would wait.
RUNTIME = """#!/bin/sh
case "$*" in
*--sessions*) [ ! -e "$HOME/session" ] || echo '1 session is running'; exit ;;
esac
cat "$HOME/events"
exit "$(cat "$HOME/status")"
"""


@dataclass
class Verified:
    """What a person saw, line by line and without colours, and pyinfra's exit status."""

    lines: list[str]
    status: int


def in_a_terminal(home: Path, rows: list[dict[str, Any]], status: int, answer: str = "", ask: bool = False) -> Verified:
    """Run tasks/verify.py with pyinfra in a terminal of 80 columns; verify shows ``rows`` and ends with ``status``."""
    python = home / ".local/share/claude-local/venv/bin/python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(RUNTIME)
    python.chmod(0o755)
    events = [{"running": ["tool", "", 16.0]}, *({"row": row, "count": len(rows)} for row in rows)]
    (home / "events").write_text("".join(json.dumps(event) + "\n" for event in [*events, {"report": "/verify.json"}]))
    (home / "status").write_text(f"{status}\n")
    controller, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (40, 80))
    env = {**os.environ, "HOME": str(home), "TERM": "xterm", **({verify.ASK: "1"} if ask else {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "pyinfra", "-y", "@local", "tasks/verify.py"],
        stdin=terminal, stdout=terminal, stderr=terminal, env=env, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    output = b""
    with contextlib.suppress(OSError):  # EIO: the terminal's last process has ended
        while data := os.read(controller, 65536):
            output += data
            if answer and b"Verify now?" in output:
                os.write(controller, answer.encode() + b"\n")
                answer = ""
    os.close(controller)
    text = re.sub(r"\x1b\[[0-9;]*m", "", output.decode()).replace("\r\n", "\n")
    return Verified([line.rpartition("\r\x1b[K")[2] for line in text.rstrip("\n").split("\n")], process.wait())


def test_failures_are_the_last_words_and_the_status_is_1(tmp_path: Path) -> None:
    run = in_a_terminal(tmp_path, [PASSING, FAILING], 1)
    assert run.status == 1
    (first,) = [number for number, line in enumerate(run.lines) if line.startswith("PASS")]
    assert all(len(line) <= 80 for line in run.lines[first:])
    assert run.lines[-1] == "    fix: ./provision" and "1 of 2 checks failed:" in run.lines
    assert not any("No hosts remaining" in line or "executed 0 commands" in line for line in run.lines)


def test_a_run_without_failures_ends_with_the_total_and_status_0(tmp_path: Path) -> None:
    (tmp_path / "session").touch()
    run = in_a_terminal(tmp_path, [PASSING], 0)
    assert run.status == 0 and run.lines[-1] == "1 check passed"
    assert "1 session is running" in run.lines and not any("Verify now?" in line for line in run.lines)


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1)])
def test_who_types_provision_verify_is_asked_when_sessions_would_wait(tmp_path: Path, answer: str, status: int) -> None:
    (tmp_path / "session").touch()
    run = in_a_terminal(tmp_path, [PASSING], 0, answer, ask=True)
    assert run.status == status, "\n".join(run.lines)
    assert any(line.startswith("PASS") for line in run.lines) is (answer == "y")
