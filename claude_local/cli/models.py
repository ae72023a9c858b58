"""``llama-local models``: the model files, whether they are verified and used. ``prune`` deletes the orphaned ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from claude_local.cli.machine import Machine, pass_machine
from claude_local.cli.output import Exit, Problem, ask, console, json_option, print_json
from claude_local.cli.profiles import comparison, placed, size
from claude_local.models.run_lock import AnotherRun, run_lock
from claude_local.models.stored import Inventory, Stored, StoredError, delete, inventory

STYLES = {
    "verified": "green", "changed": "yellow", "missing": "red", "unfinished": "yellow", "unknown": "dim",
    "orphaned": "yellow",
}  # fmt: skip


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> None:
    """List the profiles: size, context, whether they fit this machine, which one is active. Then the model files: who
    put them there, whether they are verified, which profiles use them."""
    if ctx.invoked_subcommand:
        return
    machine = ctx.ensure_object(Machine)
    where = machine.paths
    try:
        found = inventory(where.placements, where.presets)
    except StoredError as error:
        raise Problem(str(error), "./provision") from None
    profiles = placed(where, _loaded(machine))
    if as_json:
        print_json({"profiles": profiles, **as_data(found)})
        return
    if profiles:
        console().print(comparison(profiles), "")
    show(found, console())


def _loaded(machine: Machine) -> list[dict[str, Any]]:
    """What the management API says of the models; nothing while it is down."""
    with suppress(Problem), machine.manager() as manager:
        return list(manager.json("GET", "/models")["models"])
    return []


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


@models.command()
@click.option("--dry-run", is_flag=True, help="List them and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--unfinished", is_flag=True, help="Delete unfinished downloads too.")
@json_option
@pass_machine
def prune(machine: Machine, dry_run: bool, yes: bool, unfinished: bool, as_json: bool) -> Exit:
    """Delete files that no profile uses, if claude-local placed them and nobody has changed them since.

    Asks first. Never touches your own files or model_search_dirs.
    """
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json asks nothing: it needs --yes or --dry-run.", click.get_current_context())
    where = machine.paths
    try:
        # The first inventory says where the models are, the second one is taken under the lock.
        model_dir = inventory(where.placements, where.presets).model_dir
        if not os.path.isdir(model_dir):
            raise Problem(f"{model_dir} does not exist", f"mount the disk of {model_dir}, or ./provision")
        with run_lock(model_dir, where.placements, timeout=0) as read_only:
            found = inventory(where.placements, where.presets)
            files = found.orphaned + (found.unfinished if unfinished else [])
            if files and read_only and not dry_run:
                raise Problem(f"{model_dir} is not writable ({read_only})", f"ls -ld {model_dir}")
            if not as_json:
                _announce(files)
            problems: list[str] = []
            if files and not dry_run:
                if not yes:
                    _confirm(files)
                problems = delete(files, where.placements)
    except StoredError as error:
        raise Problem(str(error), "./provision") from None
    except AnotherRun as error:
        raise Problem(str(error), "llama-local models prune    (when it has ended)") from None
    except OSError as error:
        fix = "df -h; ls -ld    (space, permissions)"
        raise Problem(f"{error.filename or where.placements}: {error.strerror}", fix) from None
    if as_json:
        print_json({"files": [file.as_data() for file in files], "deleted": not dry_run, "problems": problems})
    elif files and not dry_run and not problems:
        print(f"deleted {_count(files)}, {_total(files)}")
    if problems:
        raise Problem(f"not deleted: {'; '.join(problems)}", "llama-local models")
    return Exit.DONE


def _announce(files: Sequence[Stored]) -> None:
    for file in files:
        print(f"{file.path}  {size(file.size)}{'  unfinished' if file.state == 'unfinished' else ''}")
    if not files:
        print(
            "nothing to delete: each file that claude-local placed is used by a profile, belongs to a deploy that has "
            "not ended, or has changed since"
        )


def _confirm(files: Sequence[Stored]) -> None:
    """Ask whether to delete. Raises Problem unless the answer is yes."""
    answer = ask(f"Delete {_count(files)}, {_total(files)}? [y/N] ")
    if answer is None:
        raise Problem("nothing was deleted: there was no answer", "llama-local models prune --yes")
    if answer.lower() not in ("y", "yes"):
        raise Problem("nothing was deleted", "llama-local models prune --yes")


def _count(files: Sequence[Stored]) -> str:
    return "this file" if len(files) == 1 else f"these {len(files)} files"
