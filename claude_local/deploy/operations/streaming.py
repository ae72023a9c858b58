"""Commands with live output and errors that say what to do; pyinfra's own would be silent."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FunctionCommand, Host, State, StringCommand
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS

# A shell prints this where the runtime's Python is missing, because a stage ran before tasks/runtime.py.
_NO_RUNTIME = re.compile(r"/claude-local/venv/bin/python: (not found|No such file or directory)$")


def connector_arguments(*, as_user: bool = False) -> dict[str, Any]:
    """The arguments of the current operation that say how a command runs (``_sudo`` ...).

    A function that an operation yields does not inherit them. ``as_user`` leaves sudo out.
    """
    given: dict[str, Any] = dict(host.current_op_global_arguments or {})
    arguments = {key: given[key] for key in CONNECTOR_ARGUMENT_KEYS if key in given}
    return {**arguments, "_sudo": False} if as_user else arguments


def print_error(host: Host, message: str) -> None:
    """Log ``message`` for this host in red."""
    host.log_styled(message, fg="red", log_func=logger.error)


def stream(
    command: StringCommand | str, *, failure: str | Callable[[list[str]], str] | None = None, as_user: bool = False
) -> FunctionCommand:
    """A command whose output appears line by line. pyinfra shows nothing of a plain yield below -vvv.

    + command: runs on the target, with the operation's own global arguments
    + failure: the error to log, or a function that makes it from the last 40 lines of output
    + as_user: run as the connecting user, also where the operation has ``_sudo``

    Example: ``yield stream(shell.join(["docker", "pull", name]), failure=f"{name} could not be pulled")``
    """
    arguments = connector_arguments(as_user=as_user)

    def run(state: State, host: Host) -> bool:
        merged = StringCommand("(", command, ") 2>&1")
        ok, output = host.run_shell_command(merged, print_output=True, **arguments)
        if not ok and failure is not None:
            tail = [line.line for line in output][-40:]
            if any(map(_NO_RUNTIME.search, tail)):
                print_error(host, "the runtime is missing; run tasks/runtime.py first")
            else:
                print_error(host, failure(tail) if callable(failure) else failure)
        return ok

    return FunctionCommand(run, (), {})


def fail(message: str) -> FunctionCommand:
    """A command that fails with ``message``.

    An exception would end a ``--dry`` run, and later it would make pyinfra print a traceback.
    """

    def run(state: State, host: Host) -> bool:
        print_error(host, message)
        return False

    return FunctionCommand(run, (), {})


def last_lines(intro: str, count: int, advice: str = "") -> Callable[[list[str]], str]:
    """A ``failure`` for :func:`stream`: ``intro``, the last ``count`` lines of output, then ``advice``."""
    return lambda tail: "\n  ".join([f"{intro}:", *tail[-count:]]) + (f"\n{advice}" if advice else "")
