"""``llama-local fence why``: what the fence refused in the last sessions, and the setting that allows it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from os.path import join

import click
from rich.text import Text

from claude_local.cli.machine import Machine, pass_machine
from claude_local.cli.output import console, json_option, print_json, table
from claude_local.fence.messages import printable
from claude_local.fence.refusals import history


@click.group()
def fence() -> None:
    """Show what the fence refused."""


@fence.command()
@click.option("-n", "count", default=20, metavar="COUNT", help="The most refusals to list (default: 20).")
@json_option
@pass_machine
def why(machine: Machine, count: int, as_json: bool) -> None:
    """List what the fence refused in your sessions, from their transcripts, and the settings that allow it.

    docs/fence.md explains the settings.
    """
    found = history(join(machine.paths.config_dir, "projects"), max(1, count))
    if as_json:
        print_json([asdict(each) for each in found])
        return
    if not found:
        print("no session that is still in ~/.claude-local was refused anything")
        return
    rows = table("WHEN", "WORKSPACE", "REFUSED")
    for column in rows.columns:
        column.overflow, column.no_wrap = "fold", column.header == "WHEN"
    for each in found:
        when = datetime.fromisoformat(each.when).astimezone().strftime("%m-%d %H:%M")
        rows.add_row(when, Text(printable(each.workspace)), Text(printable(each.what)))
    console().print(rows)
