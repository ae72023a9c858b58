"""A host that answers only the facts it was given and remembers what an operation ran."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pyinfra.operations.files
import pyinfra.operations.server
import pyinfra.operations.systemd
from pyinfra.api import Config, FileUploadCommand, FunctionCommand, StringCommand

from claude_local.deploy.facts.docker import KINDS, DockerObjects
from claude_local.deploy.operations import known


class StrictHost:
    """Stands in for ``pyinfra.host`` in operations; an unlisted fact fails the test.

    ``facts``: name of a fact -> its answer, or a function of the fact's arguments. ``root``: the operation runs with
    ``_sudo``. ``asked`` has each fact with whether it was read as root.
    """

    def __init__(self, facts: dict[str, Any], *, root: bool = False) -> None:
        self.facts = facts
        self.current_op_global_arguments = {"_sudo": root}
        self.connector_data: dict[str, Any] = {}
        self.noop_reason: str | None = None
        self.asked: list[tuple[str, bool]] = []
        self.ran: list[str] = []
        self.sudo: list[bool] = []
        self.logged: list[str] = []
        self.succeeds = True
        self.output: list[str] = []

    def get_fact(self, fact: type, _sudo: bool | None = None, **arguments: Any) -> Any:
        if fact is DockerObjects:  # it says what the facts about one object say
            client, objects = arguments["client"], arguments["objects"]
            return {
                (kind, name): self.get_fact(KINDS[kind], _sudo, client=client, reference=name) for kind, name in objects
            }
        assert fact.__name__ in self.facts, f"the operation asked for {fact.__name__}, which the test does not expect"
        root = self.current_op_global_arguments["_sudo"] if _sudo is None else _sudo
        self.asked.append((fact.__name__, root))
        value = self.facts[fact.__name__]
        return value(**arguments) if callable(value) else value

    def noop(self, reason: str) -> None:
        self.noop_reason = reason

    def get_temp_filename(self, key: str, **_: Any) -> str:
        return f"/tmp/upload-{key.rsplit('/', 1)[-1]}"

    def run_shell_command(self, command: StringCommand, print_output: bool = False, **arguments: Any) -> Any:
        self.ran.append(command.get_raw_value())
        self.sudo.append(bool(arguments.get("_sudo")))
        lines = [type("Line", (), {"line": line}) for line in self.output]
        return self.succeeds, type("Output", (list,), {"stdout_lines": self.output})(lines)

    def log_styled(self, message: str, **_: Any) -> None:
        self.logged.append(message)


PYINFRA = [pyinfra.operations.files, pyinfra.operations.server, pyinfra.operations.systemd]


def use(monkeypatch: Any, host: StrictHost) -> None:
    """Let the operations' modules ask this host."""
    ours = [module for name, module in sys.modules.items() if name.startswith("claude_local.deploy.operations.")]
    for module in [*ours, *PYINFRA]:
        if hasattr(module, "host"):
            monkeypatch.setattr(module, "host", host)
    monkeypatch.setattr(known, "state", SimpleNamespace(is_executing=True, check_for_changes=False))
    monkeypatch.setattr(pyinfra.operations.files, "state", SimpleNamespace(config=Config(), cwd=None))


def run(monkeypatch: Any, operation: Any, host: StrictHost, **arguments: Any) -> list[str]:
    """Run an operation's generator against ``host``; the shell commands in order (uploads as ``upload DEST``)."""
    use(monkeypatch, host)
    commands = []
    for command in operation._inner(**arguments) or ():
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
