"""Run verify on the workstation and show its rows as they come."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

from pyinfra import logger
from pyinfra.api import FunctionCommand, Host, QuoteString, State, StringCommand, operation

from claude_local.verify.docker_rows import SCRIPT

MISSING = "FAIL  runtime.python  {python} is missing: the runtime is not installed; fix: ./provision"
FAILURE = "verify found something wrong; each failed row above ends with its fix"


def docker_answers(container: str, image: str) -> StringCommand:
    """The command that asks Docker everything that verify wants to know; run with the rights that Docker is used with."""
    return StringCommand("sh", "-c", QuoteString(SCRIPT), "sh", QuoteString(container), QuoteString(image))


def verify_command(python: str, *, deep: bool, only: list[str]) -> StringCommand:
    """The command that runs verify with its parameters on stdin; without the runtime it says what to do and fails."""
    words: list[str] = ["--parameters", "-", *(["--deep"] if deep else [])]
    for pattern in only:
        words += ["--only", pattern]
    return StringCommand(
        "{ test -x", QuoteString(python), "|| { echo", QuoteString(MISSING.format(python=python)), "; exit 1; }; } &&",
        "PYTHONUNBUFFERED=1", QuoteString(python), "-m", "claude_local.verify",
        *[QuoteString(word) for word in words], "2>&1",
    )  # fmt: skip


@operation()
def verified(
    parameters: dict[str, Any], python: str, deep: bool = False, only: str = "", root: bool = False
) -> Generator[FunctionCommand]:
    """Prove that the workstation works; nothing that outlives it is changed but the report in the state directory.

    + parameters: claude_local.verify.parameters.Parameters as a dict, without ``docker``
    + python: the runtime's interpreter
    + deep: hash every model again
    + only: patterns of row ids with commas between them; empty: all rows
    + root: ask Docker with sudo (the rest runs as the connecting user)

    Fails when a row failed.
    """

    def run(state: State, host: Host) -> bool:
        told = dict(parameters)
        if root:
            ask = docker_answers(parameters["container"], parameters["image"])
            asked, answer = host.run_shell_command(ask, _sudo=True)
            if asked:
                told["docker"] = "\n".join(answer.stdout_lines)
        patterns = [pattern.strip() for pattern in only.split(",") if pattern.strip()]
        command = verify_command(python, deep=deep, only=patterns)
        ok, _ = host.run_shell_command(command, print_output=True, _stdin=json.dumps(told))
        if not ok:
            host.log_styled(FAILURE, fg="red", log_func=logger.error)
        return ok

    yield FunctionCommand(run, (), {})
