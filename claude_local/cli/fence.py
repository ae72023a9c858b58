"""``llama-local fence why``: what the fence refused in the last sessions, and the setting that allows it."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import datetime
from os.path import join
from typing import Any

from rich.table import Table
from rich.text import Text

from claude_local.cli.models import paths
from claude_local.cli.output import console
from claude_local.fence.messages import printable
from claude_local.fence.refusals import history


def register(subparsers: Any) -> None:
    """Add the subcommand to argparse's ``subparsers``."""
    command = subparsers.add_parser("fence", help="show what the fence refused")
    actions = command.add_subparsers(title="actions", metavar="why", required=True)
    why = actions.add_parser(
        "why",
        help="list the last refusals, and the settings that allow them",
        description="List what the fence refused in the sessions of this user, from their transcripts. "
        "docs/fence.md explains the settings.",
    )
    why.add_argument("--json", action="store_true", help="print JSON")
    why.add_argument("-n", type=int, default=20, metavar="COUNT", help="so many at most (default: 20)")
    why.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """List the refusals; the exit status."""
    found = history(join(paths().config_dir, "projects"), max(1, options.n))
    if options.json:
        print(json.dumps([asdict(each) for each in found], indent=2))
        return 0
    if not found:
        print("no session that is still in ~/.claude-local was refused anything")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("WHEN", "WORKSPACE", "REFUSED"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "WHEN")
    for each in found:
        when = datetime.fromisoformat(each.when).astimezone().strftime("%m-%d %H:%M")
        table.add_row(when, Text(printable(each.workspace)), Text(printable(each.what)))
    console().print(table)
    return 0
