"""Verifying through pyinfra: parameters on stdin, rows shown as they come, Docker asked with the right rights."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

from pyinfra.api import StringCommand

from claude_local.deploy.operations import verify
from claude_local.verify.docker_rows import parse
from tests.deploy.strict_host import StrictHost, run

PARAMETERS = {"container": "it's mine", "image": "claude-local/llama-server:b1-cpu-x", "home": "/home/o'neil"}
PYTHON = "/home/o'neil/venv/bin/python"


class Host(StrictHost):
    """Also keeps the parameters that verify gets on stdin, and answers for Docker."""

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
        return True, type("Answer", (), {"stdout_lines": ["@@ version 0", '{"Version": "1"}']})


def test_root_lets_verify_ask_docker_itself(monkeypatch: Any) -> None:
    host = Host()
    (command,) = run(monkeypatch, verify.run, host, parameters=PARAMETERS, python=PYTHON)
    assert "-m claude_local.verify --parameters -" in command and "--deep" not in command
    assert host.parameters == [PARAMETERS] and host.sudo == [False] and host.logged == []


def test_a_user_has_docker_asked_with_sudo_and_all_else_done_as_the_user(monkeypatch: Any) -> None:
    host = Host(root=True)
    asked, command = run(monkeypatch, verify.run, host, parameters=PARAMETERS, python=PYTHON)
    assert "docker container inspect" in asked and "claude_local.verify" in command
    assert host.sudo == [True, False]
    assert parse(host.parameters[0]["docker"])["version"].decoded == {"Version": "1"}


def test_deep_and_chosen_rows_are_passed_on(monkeypatch: Any) -> None:
    (command,) = run(
        monkeypatch, verify.run, Host(), parameters=PARAMETERS, python=PYTHON, deep=True, only="server.*, claude.chat,"
    )  # fmt: skip
    assert "--deep" in command
    arguments = shlex.split(command.split("claude_local.verify", 1)[1].split("2>&1")[0])
    assert arguments[-4:] == ["--only", "server.*", "--only", "claude.chat"]


def test_a_red_row_fails_the_operation_with_words(monkeypatch: Any) -> None:
    host = Host()
    host.succeeds = False
    run(monkeypatch, verify.run, host, parameters=PARAMETERS, python=PYTHON)
    assert host.logged == [verify.FAILURE]


def test_without_the_runtime_one_row_says_what_to_do() -> None:
    command = verify.verify_command(PYTHON, deep=False, only=[]).get_raw_value()
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, input="{}", timeout=20)
    assert done.returncode == 1
    assert done.stdout == f"FAIL  runtime.python  {PYTHON} is missing: the runtime is not installed; fix: ./provision\n"


def test_dockers_questions_survive_the_shell_and_a_machine_without_docker() -> None:
    script = verify.docker_answers("it's mine", "image").get_raw_value()
    env = {"PATH": "/nonexistent"}
    done = subprocess.run(
        ["/bin/sh", "-c", script.replace("sh -c", "/bin/sh -c", 1)], capture_output=True, text=True, env=env
    )
    answers = parse(done.stdout)
    assert set(answers) == {"version", "image", "container", "build"}
    assert all(answer.status == 127 for answer in answers.values())
