"""Run verify on the workstation. On this machine it takes pyinfra's place, so that it has the terminal to itself."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from typing import Any, NoReturn

from pyinfra.api import FunctionCommand, Host, QuoteString, State, StringCommand, operation
from pyinfra.connectors.local import LocalConnector

from claude_local.deploy import shell
from claude_local.deploy.operations.streaming import connector_arguments
from claude_local.verify.docker_rows import SCRIPT
from claude_local.verify.running_sessions import ASK

MISSING = "FAIL  runtime.python  the runtime is not installed: {python} is missing\n      fix: ./provision"
# pyinfra's spinner would write over the rows.
os.environ.setdefault("PYINFRA_PROGRESS", "off")


def docker_answers(container: str, image: str) -> StringCommand:
    """The command that collects Docker's answers for verify. It needs the rights that Docker is used with."""
    return shell.script(SCRIPT, container, image)


def verify_command(python: str, parameters: str, *arguments: str) -> StringCommand:
    """The command that runs verify. ``parameters``: a file, or - for stdin. Without the runtime it says what to do."""
    return StringCommand(
        "{ test -x", QuoteString(python), "|| { printf '%s\\n'", QuoteString(MISSING.format(python=python)),
        "; exit 1; }; } &&",
        shell.join(["exec", python, "-I", "-u", "-m", "claude_local.verify", "--parameters", parameters, *arguments]),
        "2>&1",
    )  # fmt: skip


def become(python: str, parameters: str, *arguments: str, ask: bool) -> NoReturn:
    """Become verify. pyinfra prints nothing after its last line, and its status is the status of the run.

    ``parameters``: JSON. ``ask``: a person at the terminal may be asked whether running sessions can wait.
    """
    descriptor = os.memfd_create("parameters")
    os.write(descriptor, parameters.encode())
    os.set_inheritable(descriptor, True)
    command = verify_command(python, f"/proc/self/fd/{descriptor}", *arguments).get_raw_value()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # pyinfra's own messages go to stderr, too.
    os.dup2(2, 1)
    os.execve("/bin/sh", ["sh", "-c", command], {**os.environ, **({ASK: "1"} if ask else {})})


@operation()
def run(
    parameters: dict[str, Any], python: str, changed: bool = False, deep: bool = False, only: str = ""
) -> Generator[FunctionCommand]:
    """Prove that the workstation works. Only the report in the state directory outlives it.

    + parameters: claude_local.verify.parameters.Parameters as a dict, without ``docker``
    + python: the runtime's interpreter
    + changed: only the quick rows, and those about what has changed since they passed
    + deep: hash every model again
    + only: patterns of row ids with commas between them; empty for all rows

    Fails when a row failed. Alone on this machine it does not return: see :func:`become`. With ``_sudo``, only Docker
    is asked as root; the rest runs as the connecting user. The operation always runs, because a check has no state to
    compare with.

    Example::

        verify.run(name="Verify the workstation", parameters=parameters, python=ws.paths.python, _sudo=True)
    """
    as_user, as_docker_user = connector_arguments(as_user=True), connector_arguments()
    arguments = [*(["--changed"] if changed else []), *(["--deep"] if deep else [])]
    for pattern in filter(None, map(str.strip, only.split(","))):
        arguments += ["--only", pattern]

    def check(state: State, host: Host) -> bool:
        given = dict(parameters)
        if as_docker_user.get("_sudo"):
            questions = docker_answers(parameters["container"], parameters["image"])
            answered, output = host.run_shell_command(questions, **as_docker_user)
            given |= {"docker": output.stdout} if answered else {}
        options = [*arguments, "--verbose"] if state.print_noop_info else arguments
        single = len(state.activated_hosts) == 1
        if single and isinstance(host.connector, LocalConnector) and len(state.get_op_order()) == 1:
            become(python, json.dumps(given), *options, ask=state.check_for_changes or ASK in os.environ)
        command, stdin = verify_command(python, "-", *options), {"_stdin": json.dumps(given)}
        ok = host.run_shell_command(command, print_output=True, **{**as_user, **stdin})[0]
        if single and not ok:
            # The failures are the last words.
            raise SystemExit(1)
        return ok

    yield FunctionCommand(check, (), {})
