"""``llama-local models``: what is placed, what is verified, what nobody uses; ``llama-local models prune`` deletes the last."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from claude_local.models.exclusive import Locked, locked
from claude_local.models.stored import Inventory, Stored, StoredError, delete, inventory
from claude_local.paths import Paths

STYLES = {"verified": "green", "changed": "yellow", "missing": "red", "unfinished": "yellow", "unknown": "dim"}


def register(subparsers: Any) -> None:
    """Add the subcommand to argparse's ``subparsers``."""
    command = subparsers.add_parser(
        "models",
        help="model files: placed, verified, orphaned; delete the orphaned",
        description="List the model files: whose they are, whether they were verified, which profiles use them.",
    )
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(func=run)
    actions = command.add_subparsers(metavar="prune")
    prune_command = actions.add_parser(
        "prune",
        help="delete what claude-local placed and no profile uses",
        description="Delete the files that claude-local placed, that have not changed since and that no profile uses. "
        "Asks first. Files of your own and model_search_dirs are never touched.",
    )
    prune_command.add_argument("--yes", action="store_true", help="do not ask")
    prune_command.add_argument("--unfinished", action="store_true", help="downloads that were begun, too")
    prune_command.set_defaults(func=prune)


def paths() -> Paths:
    """This user's; models.json itself says where the models are."""
    home = os.path.expanduser("~")
    return Paths(home=home, model_dir=os.path.join(home, ".local/share/claude-local/models"), bin_dir=f"{home}/bin")


def size(count: int) -> str:
    """Bytes for people: ``4.9 GB``, as disks are sold."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def failed(text: str, fix: str) -> int:
    """Say what is wrong and what mends it; the exit status."""
    print(f"llama-local: {text}\n  Fix: {fix}", file=sys.stderr)
    return 1


def run(options: argparse.Namespace) -> int:
    """The list."""
    where = paths()
    try:
        found = inventory(where.placements, where.presets)
    except StoredError as error:
        return failed(str(error), "./provision")
    if options.json:
        print(json.dumps(as_data(found), indent=2))
    else:
        show(found, Console(width=None if sys.stdout.isatty() else 200, soft_wrap=True))
    return 0


def as_data(found: Inventory) -> dict[str, Any]:
    """The inventory for JSON; sizes in bytes."""
    files = [file.as_data() for file in found.files]
    return {"model_dir": found.model_dir, "free": found.free, "files": files}


def use(file: Stored) -> str:
    """Who uses a file, in words."""
    if file.orphaned:
        return "orphaned: no profile uses it"
    if file.state == "unfinished":
        return "the next deploy that wants it carries on"
    return ", ".join(file.used_by) or "no profile"


def show(found: Inventory, console: Console) -> None:
    """The inventory as a table, with the totals."""
    table = Table(box=None, pad_edge=False)
    for heading in ("FILE", "SIZE", "STATE", "WHOSE", "USED BY"):
        table.add_column(heading, justify="right" if heading == "SIZE" else "left", overflow="fold")
    for file in found.files:
        name = file.path
        if name.startswith(found.model_dir.rstrip("/") + "/"):
            name = os.path.relpath(name, found.model_dir)
        table.add_row(
            Text(name),
            size(file.size),
            Text(file.state, style=STYLES[file.state]),
            "claude-local" if file.placed else "yours",
            Text(use(file), style="yellow" if file.orphaned else ""),
        )
    console.print(table)
    free = "" if found.free is None else f", {size(found.free)} free"
    console.print(Text(f"\n{found.model_dir}: {size(sum(file.size for file in found.files))} in models{free}"))
    if found.orphaned:
        total = size(sum(file.size for file in found.orphaned))
        console.print(f"{total} orphaned: llama-local models prune    (asks before it deletes)")


def prune(options: argparse.Namespace) -> int:
    """Delete what is orphaned, after a question."""
    where = paths()
    try:
        # Taken once to know the directory, and again once nobody else can change anything.
        found = inventory(where.placements, where.presets)
        if not os.path.isdir(found.model_dir):
            return failed(f"{found.model_dir} is not there", f"mount the disk of {found.model_dir}, or ./provision")
        with locked(found.model_dir, where.placements, timeout=0) as read_only:
            return _prune(options, inventory(where.placements, where.presets), where, read_only)
    except StoredError as error:
        return failed(str(error), "./provision")
    except Locked as error:
        return failed(str(error), "llama-local models prune    (once it has ended)")
    except OSError as error:
        return failed(f"{error.filename or where.placements}: {error.strerror}", "df -h; ls -ld    (room, permissions)")


def _prune(options: argparse.Namespace, found: Inventory, where: Paths, read_only: str) -> int:
    doomed = found.orphaned + (found.unfinished if options.unfinished else [])
    if not doomed:
        print(
            "nothing to delete: every file that claude-local placed is used by a profile, belongs to a deploy that has "
            "not ended, or has changed since"
        )
        return 0
    if read_only:
        return failed(f"{found.model_dir} cannot be written to ({read_only})", f"ls -ld {found.model_dir}")
    for file in doomed:
        print(f"{file.path}  {size(file.size)}{'  unfinished' if file.state == 'unfinished' else ''}")
    count = "this file" if len(doomed) == 1 else f"these {len(doomed)} files"
    total = size(sum(file.size for file in doomed))
    if not options.yes:
        try:
            answer = input(f"Delete {count}, {total}? [y/N] ")
        except EOFError:
            print()
            return failed("nothing was deleted: nobody answered", "llama-local models prune --yes")
        if answer.strip().lower() not in ("y", "yes"):
            print("nothing was deleted")
            return 1
    problems = delete(doomed, where.placements)
    for problem in problems:
        print(f"llama-local: not deleted: {problem}", file=sys.stderr)
    if not problems:
        print(f"deleted {count}, {total}")
    return 1 if problems else 0
