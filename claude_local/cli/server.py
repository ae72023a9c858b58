"""``llama-local restart | logs``: llama-server itself, also while the management API is down."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from claude_local.cli.containers import DockerFailed, docker
from claude_local.cli.machine import Machine, pass_machine
from claude_local.cli.output import Exit, Problem, json_option, print_json
from claude_local.manager.log import follow as new_lines
from claude_local.manager.log import last_lines


@click.command()
@json_option
@pass_machine
def restart(machine: Machine, as_json: bool) -> None:
    """Restart llama-server. It loads the active model again."""
    try:
        docker("restart", machine.container)
    except DockerFailed as error:
        raise Problem(f"docker could not restart {machine.container}: {error}", "./provision") from None
    if as_json:
        print_json({"restarted": machine.container})
    else:
        print("llama-server restarts, and loads the active model: llama-local status")


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they come.")
@click.option("-n", "count", default=40, metavar="LINES", help="The number of last lines (default: 40).")
@json_option
@pass_machine
def logs(machine: Machine, follow: bool, count: int, as_json: bool) -> None:
    """Print the last lines of llama-server's log. With --json, each line is an object."""
    log = Path(machine.paths.server_log)
    if not log.exists():
        raise Problem(f"there is no log {log}", f"sudo docker start {machine.container}", Exit.DOWN)
    lines, end = last_lines(log, max(0, count))
    for line in lines:
        _print(line, as_json)
    if follow:
        asyncio.run(_print_new(log, end, as_json))


async def _print_new(log: Path, end: int, as_json: bool) -> None:
    async for line in new_lines(log, end):
        _print(line, as_json)


def _print(line: str, as_json: bool) -> None:
    print(json.dumps({"line": line}) if as_json else line, flush=True)
