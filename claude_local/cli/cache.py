"""``llama-local cache``: the prompts that llama-server keeps over a restart. ``clear`` deletes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from claude_local.cli.machine import Machine, pass_machine
from claude_local.cli.output import Exit, Problem, console, json_option, print_json, table
from claude_local.server.prompt_files import PromptFile, clear, prompt_files

MEANING = {"shared": "system and tools, for every session", "session": "a conversation"}


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def cache(ctx: click.Context, as_json: bool) -> None:
    """List the prompts that llama-server keeps over a restart, a switch and a reboot."""
    if ctx.invoked_subcommand:
        return
    found = _files(ctx.ensure_object(Machine), prompt_files)
    if as_json:
        print_json(_data(found))
        return
    rows = table("profile", "holds", "tokens", "MiB", "last used", right=("tokens", "MiB"))
    for each in found:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.used))
        holds = MEANING[each.kind] if each.whole else "not complete"
        rows.add_row(each.profile, holds, f"{each.tokens:,}", f"{each.size / 2**20:,.0f}", used)
    console().print(rows if found else "No prompts are kept yet: the first session of a profile writes them.")


@cache.command("clear")
@json_option
@pass_machine
def clear_command(machine: Machine, as_json: bool) -> Exit:
    """Delete the kept prompts. The next session reads its whole prompt, and llama-server keeps it again."""
    gone = _files(machine, clear)
    if as_json:
        print_json(_data(gone))
    else:
        print(f"Deleted {len(gone)} prompts, {sum(each.size for each in gone) / 2**20:,.0f} MiB.")
    return Exit.DONE


def _files(machine: Machine, read: Callable[[Path], list[PromptFile]]) -> list[PromptFile]:
    try:
        return read(Path(machine.paths.server_prompts))
    except FileNotFoundError:
        raise Problem(f"{machine.paths.server_prompts} is missing", "./provision") from None
    except OSError as error:
        raise Problem(
            f"{error.filename or machine.paths.server_prompts}: {error.strerror}",
            f"sudo ls -l {machine.paths.server_prompts}",
        ) from None


def _data(found: list[PromptFile]) -> list[dict[str, Any]]:
    return [{**asdict(each), "path": str(each.path)} for each in found]
