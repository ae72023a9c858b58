"""Run one long command with its output shown live; everything else uses plain yields."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pyinfra import logger
from pyinfra.api import FunctionCommand, Host, QuoteString, State, StringCommand

# What a shell says of the runtime's Python where a stage is run alone before tasks/runtime.py.
_NO_RUNTIME = re.compile(r"/claude-local/venv/bin/python: (not found|No such file or directory)$")


def shell(words: list[str]) -> StringCommand:
    """A command from its words, each quoted."""
    return StringCommand(*[QuoteString(word) for word in words])


def streamed(
    command: StringCommand | str,
    *,
    root: bool = False,
    failure: str | Callable[[list[str]], str] | None = None,
) -> FunctionCommand:
    """A command whose lines appear as they come (pyinfra shows nothing below -vvv for a plain yield).

    ``command`` runs on the target through whatever connector; ``root`` runs it with sudo (pass ``bool(ws.root)``:
    connector arguments are not inherited by functions). ``failure`` is the error message to log, or makes it from the
    last 40 lines that the command printed. (Raising here would make pyinfra print a traceback.)
    """

    def run(state: State, host: Host) -> bool:
        arguments: dict[str, Any] = {"_sudo": True} if root else {}
        merged = StringCommand("(", command, ") 2>&1")
        ok, output = host.run_shell_command(merged, print_output=True, **arguments)
        if not ok and failure is not None:
            tail = [line.line for line in output][-40:]
            if any(map(_NO_RUNTIME.search, tail)):
                message = "the runtime is not there yet; tasks/runtime.py makes it"
            else:
                message = failure(tail) if callable(failure) else failure
            host.log_styled(message, fg="red", log_func=logger.error)
        return ok

    return FunctionCommand(run, (), {})
