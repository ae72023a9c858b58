"""A host that answers only the facts it was given and remembers what an operation wanted to run."""

from __future__ import annotations

import subprocess
from typing import Any

from pyinfra.api import FileUploadCommand, FunctionCommand, StringCommand


class StrictHost:
    """Stands in for ``pyinfra.host`` in an operation module; an unlisted fact fails the test."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.noop_reason: str | None = None
        self.ran: list[str] = []
        self.sudo: list[bool] = []
        self.logged: list[str] = []
        self.succeeds = True
        self.output: list[str] = []

    def get_fact(self, fact: type, **arguments: Any) -> Any:
        assert fact.__name__ in self.facts, f"the operation asked for {fact.__name__}, which the test does not expect"
        value = self.facts[fact.__name__]
        return value(**arguments) if callable(value) else value

    def noop(self, reason: str) -> None:
        self.noop_reason = reason

    def get_temp_filename(self, key: str) -> str:
        return f"/tmp/upload-{key.rsplit('/', 1)[-1]}"

    def run_shell_command(self, command: StringCommand, print_output: bool = False, **arguments: Any) -> Any:
        assert print_output, "a streamed command must show its output"
        self.ran.append(command.get_raw_value())
        self.sudo.append(bool(arguments.get("_sudo")))
        return self.succeeds, [type("Line", (), {"line": line}) for line in self.output]

    def log_styled(self, message: str, **_: Any) -> None:
        self.logged.append(message)


def run(monkeypatch: Any, operation: Any, host: StrictHost, **arguments: Any) -> list[str]:
    """Run an operation's generator against ``host``; the shell commands in order (uploads as ``upload DEST``)."""
    inner = operation._inner
    monkeypatch.setitem(inner.__globals__, "host", host)
    commands = []
    for command in inner(**arguments) or ():
        if isinstance(command, FunctionCommand):
            before = len(host.ran)
            ok = command.function(None, host, *command.args, **command.kwargs)
            commands += host.ran[before:]
            if not ok:
                break
        elif isinstance(command, FileUploadCommand):
            commands.append(f"upload {command.dest}")
        else:
            commands.append(command.get_raw_value() if isinstance(command, StringCommand) else str(command))
    return commands


def fact_on_this_machine(fact: Any, **arguments: Any) -> Any:
    """Run a fact's real command with sh here and process its real output, as pyinfra does."""
    command = fact.command(**arguments)
    text = command.get_raw_value() if isinstance(command, StringCommand) else command
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True, timeout=60)
    lines = done.stdout.splitlines()
    return fact.process(lines) if lines else fact.default()
