"""Run one long command with its output shown live; everything else uses plain yields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyinfra.api import FunctionCommand, Host, OperationError, State, StringCommand


def streamed(
    command: StringCommand | str,
    *,
    root: bool = False,
    failure: str | Callable[[list[str]], str] | None = None,
) -> FunctionCommand:
    """A command whose lines appear as they come (pyinfra shows nothing below -vvv for a plain yield).

    ``command`` runs on the target through whatever connector; ``root`` runs it with sudo (pass ``bool(ws.root)``:
    connector arguments are not inherited by functions). ``failure`` is the message of the OperationError, or makes it
    from the last 40 lines that the command printed.
    """

    def run(state: State, host: Host) -> bool:
        arguments: dict[str, Any] = {"_sudo": True} if root else {}
        merged = StringCommand("(", command, ") 2>&1")
        ok, output = host.run_shell_command(merged, print_output=True, **arguments)
        if not ok and failure is not None:
            tail = [line.line for line in output][-40:]
            raise OperationError(failure(tail) if callable(failure) else failure)
        return ok

    return FunctionCommand(run, (), {})
