"""``llama-local models``: the model files, whether they are verified and used. ``prune`` deletes the orphaned ones."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from claude_local.cli.output import console, fail
from claude_local.models.run_lock import AnotherRun, run_lock
from claude_local.models.stored import Inventory, Stored, StoredError, delete, inventory
from claude_local.paths import Paths

STYLES = {
    "verified": "green", "changed": "yellow", "missing": "red", "unfinished": "yellow", "unknown": "dim",
    "orphaned": "yellow",
}  # fmt: skip


def register(subparsers: Any) -> None:
    """Add the subcommand to argparse's ``subparsers``."""
    command = subparsers.add_parser(
        "models",
        help="list the model files; delete those that no profile uses",
        description="List the model files: who put them there, whether they are verified, which profiles use them.",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(func=run)
    actions = command.add_subparsers(title="actions", metavar="[prune]")
    prune_command = actions.add_parser(
        "prune",
        help="delete the files that claude-local placed and no profile uses",
        description="Delete the files that claude-local placed, that have not changed since and that no profile uses. "
        "Asks first. Never touches your own files and model_search_dirs.",
    )
    prune_command.add_argument("--yes", action="store_true", help="do not ask")
    prune_command.add_argument("--unfinished", action="store_true", help="delete unfinished downloads too")
    prune_command.set_defaults(func=prune)


def paths() -> Paths:
    """This user's paths. model_dir is the default one: models.json says where the models are."""
    home = os.path.expanduser("~")
    return Paths(home=home, model_dir=os.path.join(home, ".local/share/claude-local/models"), bin_dir=f"{home}/bin")


def size(count: int) -> str:
    """A number of bytes for people, in decimal units as disks are sold: ``4.9 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def run(options: argparse.Namespace) -> int:
    """List the files; the exit status."""
    where = paths()
    try:
        models = inventory(where.placements, where.presets)
    except StoredError as error:
        return fail(str(error), "./provision")
    if options.json:
        print(json.dumps(as_data(models), indent=2))
    else:
        show(models, console())
    return 0


def as_data(models: Inventory) -> dict[str, Any]:
    """The inventory for JSON; sizes in bytes."""
    return {
        "model_dir": models.model_dir,
        "free": models.free,
        "files": [file.as_data() for file in models.files],
    }


def show(models: Inventory, out: Console) -> None:
    """Print the inventory as a table, and its totals."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("FILE", "SIZE", "STATE", "OWNER", "USED BY"):
        wraps = heading in ("FILE", "USED BY")
        table.add_column(heading, justify="right" if heading == "SIZE" else "left", overflow="fold", no_wrap=not wraps)
    for file in models.files:
        table.add_row(*_cells(file, models.model_dir))
    out.print(table)
    free = "" if models.free is None else f", {size(models.free)} free"
    out.print(Text(f"\n{models.model_dir}: {_total(models.files)} in models{free}"))
    if models.unfinished:
        out.print(f"{_total(models.unfinished)} unfinished: the next deploy that needs them resumes")
    if models.orphaned:
        out.print(f"{_total(models.orphaned)} orphaned: llama-local models prune    (asks before it deletes)")


def _cells(file: Stored, model_dir: str) -> list[str | Text]:
    name = file.path
    if name.startswith(model_dir.rstrip("/") + "/"):
        name = os.path.relpath(name, model_dir)
    state = "orphaned" if file.orphaned else file.state
    owner = "deploy" if file.placed else "you"
    return [Text(name), size(file.size), Text(state, style=STYLES[state]), owner, Text(", ".join(file.used_by) or "-")]


def _total(files: Sequence[Stored]) -> str:
    return size(sum(file.size for file in files))


def prune(options: argparse.Namespace) -> int:
    """Ask, then delete the orphaned files; the exit status."""
    where = paths()
    try:
        # The first inventory says where the models are, the second one is taken under the lock.
        model_dir = inventory(where.placements, where.presets).model_dir
        if not os.path.isdir(model_dir):
            return fail(f"{model_dir} does not exist", f"mount the disk of {model_dir}, or ./provision")
        with run_lock(model_dir, where.placements, timeout=0) as read_only:
            models = inventory(where.placements, where.presets)
            files = models.orphaned + (models.unfinished if options.unfinished else [])
            if files and read_only:
                return fail(f"{model_dir} is not writable ({read_only})", f"ls -ld {model_dir}")
            return _delete(files, where.placements, ask=not options.yes)
    except StoredError as error:
        return fail(str(error), "./provision")
    except AnotherRun as error:
        return fail(str(error), "llama-local models prune    (when it has ended)")
    except OSError as error:
        return fail(f"{error.filename or where.placements}: {error.strerror}", "df -h; ls -ld    (space, permissions)")


def _delete(files: Sequence[Stored], placements: str, *, ask: bool) -> int:
    """Delete ``files``; the exit status."""
    if not files:
        print(
            "nothing to delete: each file that claude-local placed is used by a profile, belongs to a deploy that has "
            "not ended, or has changed since"
        )
        return 0
    for file in files:
        print(f"{file.path}  {size(file.size)}{'  unfinished' if file.state == 'unfinished' else ''}")
    count = "this file" if len(files) == 1 else f"these {len(files)} files"
    if ask:
        try:
            answer = input(f"Delete {count}, {_total(files)}? [y/N] ")
        except EOFError:
            print()
            return fail("nothing was deleted: there was no answer", "llama-local models prune --yes")
        if answer.strip().lower() not in ("y", "yes"):
            print("nothing was deleted")
            return 1
    problems = delete(files, placements)
    for problem in problems:
        print(f"llama-local: not deleted: {problem}", file=sys.stderr)
    if not problems:
        print(f"deleted {count}, {_total(files)}")
    return 1 if problems else 0
