"""Run verify on the workstation and show its rows as they come."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

from pyinfra.api import FunctionCommand, Host, QuoteString, State, StringCommand, operation

from claude_local.deploy import shell
from claude_local.deploy.operations.streaming import connector_arguments, print_error
from claude_local.verify.docker_rows import SCRIPT

MISSING = "FAIL  runtime.python  {python} is missing: the runtime is not installed; fix: ./provision"
FAILURE = "verify found problems; each FAIL row above ends with its fix"


def docker_answers(container: str, image: str) -> StringCommand:
    """The command that collects Docker's answers for verify. It needs the rights that Docker is used with."""
    return shell.script(SCRIPT, container, image)


def verify_command(python: str, *, deep: bool, only: list[str]) -> StringCommand:
    """The command that runs verify with its parameters on stdin. Without the runtime it fails and says what to do."""
    argv: list[str] = ["--parameters", "-", *(["--deep"] if deep else [])]
    for pattern in only:
        argv += ["--only", pattern]
    return StringCommand(
        "{ test -x", QuoteString(python), "|| { echo", QuoteString(MISSING.format(python=python)), "; exit 1; }; } &&",
        "PYTHONUNBUFFERED=1", shell.join([python, "-m", "claude_local.verify", *argv]), "2>&1",
    )  # fmt: skip


@operation()
def run(parameters: dict[str, Any], python: str, deep: bool = False, only: str = "") -> Generator[FunctionCommand]:
    """Prove that the workstation works. Only the report in the state directory outlives it.

    + parameters: claude_local.verify.parameters.Parameters as a dict, without ``docker``
    + python: the runtime's interpreter
    + deep: hash every model again
    + only: patterns of row ids with commas between them; empty for all rows

    Fails when a row failed. With ``_sudo``, only Docker is asked as root; the rest runs as the connecting user. The
    operation always runs, because a check has no state to compare with.

    Example::

        verify.run(name="Verify the workstation", parameters=parameters, python=ws.paths.python, _sudo=True)
    """
    as_user, as_docker_user = connector_arguments(as_user=True), connector_arguments()

    def check(state: State, host: Host) -> bool:
        given = dict(parameters)
        if as_docker_user.get("_sudo"):
            ask = docker_answers(parameters["container"], parameters["image"])
            ok, answers = host.run_shell_command(ask, **as_docker_user)
            if ok:
                given["docker"] = "\n".join(answers.stdout_lines)
        patterns = [pattern.strip() for pattern in only.split(",") if pattern.strip()]
        command = verify_command(python, deep=deep, only=patterns)
        ok, _ = host.run_shell_command(command, print_output=True, **{**as_user, "_stdin": json.dumps(given)})
        if not ok:
            print_error(host, FAILURE)
        return ok

    yield FunctionCommand(check, (), {})
