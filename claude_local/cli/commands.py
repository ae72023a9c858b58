"""The subcommands of llama-local: name, module and one line of help. A module is imported when its command runs.

A new command is one entry in COMMANDS, and a module with a click command of that name (``-`` is ``_``) that takes
``--json``. Raise ``output.Problem`` for what goes wrong, or return an ``output.Exit``.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from claude_local.cli.machine import Machine
from claude_local.cli.output import Exit

PROGRAM = "llama-local"


class Entry(NamedTuple):
    """A command: the module in claude_local.cli that has it, its name there, and its line in ``--help``."""

    module: str
    name: str
    help: str


# In the order of --help.
COMMANDS = {
    "status": Entry("status", "status", "the server, its model, memory, sessions, and problems"),
    "models": Entry("models", "models", "the models on disk; prune deletes those that no profile uses"),
    "switch": Entry("switching", "switch", "make another model the active one"),
    "start": Entry("switching", "start", "load the active model, or another one"),
    "stop": Entry("switching", "stop", "unload the model and free its memory, also after a reboot"),
    "dashboard": Entry("dashboard", "dashboard", "status live, with keys to switch, stop and restart; also: top"),
    "restart": Entry("server", "restart", "restart llama-server"),
    "logs": Entry("server", "logs", "llama-server's log"),
    "bench": Entry("bench", "bench", "measure a profile, and compare with the last time"),
    "verify": Entry("verify", "verify", "prove that this machine works, check by check"),
    "update": Entry("update", "update", "what a deploy from a newer checkout would change"),
    "doctor": Entry("doctor", "doctor", "find problems, and fix those that need no deploy"),
    "open": Entry("page", "open_page", "the address of llama-server's web page, and how to log in"),
    "cache": Entry("cache", "cache", "the prompts kept over a restart; clear deletes them"),
    "hardware": Entry("hardware", "hardware", "GPUs, processor, memory, disks, and the image that fits"),
    "fence": Entry("fence", "fence", "why: what the fence refused, and which setting allows it"),
}
# Further names of commands, which --help does not show.
ALIASES = {"top": "dashboard"}


class Commands(click.Group):
    """Imports a command's module when the command is asked for, so that ``--help`` and ``status`` answer quickly."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if entry is None:
            return None
        command: click.Command = getattr(importlib.import_module(f"claude_local.cli.{entry.module}"), entry.name)
        return command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        items = [
            CompletionItem(name, help=entry.help) for name, entry in COMMANDS.items() if name.startswith(incomplete)
        ]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            # head or less has closed the pipe. Without this the interpreter would report an error at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return Exit.DONE


@click.group(
    cls=Commands,
    help="See, switch and measure the model. Each command has --help and --json.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="COMMAND",
    options_metavar="",
)
# The command in ~/bin passes these, from the settings.
@click.option("--port", default=8081, hidden=True)
@click.option("--server-port", default=8080, hidden=True)
@click.option("--container", default="claude-local-server", hidden=True)
@click.pass_context
def llama_local(ctx: click.Context, port: int, server_port: int, container: str) -> None:
    """The command."""
    ctx.obj = Machine(port, server_port, container)
