"""``llama-local switch | start | stop``: which model is loaded, over the management API."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from claude_local.cli.completion import profiles
from claude_local.cli.machine import Machine, pass_machine
from claude_local.cli.output import Exit, Problem, ask, console, in_terminal, json_option, print_json

if TYPE_CHECKING:
    from claude_local.server.client import LlamaClient

# Seconds between two events of a switch: its longest stage sends a comment every 15.
SILENCE = 60.0
# Seconds that the router may take to end a model.
UNLOAD = 90.0


def _profile(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument("profile", required=False, shell_complete=profiles)(command)


@click.command()
@_profile
@click.option("--force", is_flag=True, help="Switch even if a session's conversation does not fit.")
@json_option
@pass_machine
def switch(machine: Machine, profile: str | None, force: bool, as_json: bool) -> None:
    """Make PROFILE the active model of all sessions. Without PROFILE, choose from a list in a terminal."""
    _change(machine, profile, "switch", as_json, force=force)


@click.command()
@_profile
@json_option
@pass_machine
def start(machine: Machine, profile: str | None, as_json: bool) -> None:
    """Load PROFILE. Without PROFILE, choose from a list in a terminal; elsewhere the active one is loaded."""
    _change(machine, profile, "start", as_json)


@click.command()
@json_option
@pass_machine
def stop(machine: Machine, as_json: bool) -> None:
    """Unload the model and free its memory, also after a reboot. The next request loads it again."""
    with machine.manager() as manager:
        state = manager.json("POST", "/stop", {}, timeout=UNLOAD)
    if as_json:
        print_json(state)
    else:
        print("no model is loaded; llama-local start loads one")


def _change(machine: Machine, profile: str | None, verb: str, as_json: bool, *, force: bool = False) -> None:
    """Switch to a profile, or start the active one."""
    with machine.manager() as manager:
        models = manager.json("GET", "/models")["models"]
        ids = [each["id"] for each in models]
        profile = profile or _choose(machine, models, verb)
        if profile is None:
            fix = (
                f"llama-local {verb} {ids[0]}    (or {', '.join(ids[1:])})"
                if ids[1:]
                else f"llama-local {verb} {ids[0]}"
            )
            raise Problem("no profile was named", fix, Exit.USAGE)
        if profile not in ids:
            known = ", ".join(ids)
            raise Problem(
                f"there is no profile {profile!r} on this machine", f"llama-local {verb} PROFILE    ({known})"
            )
        answer = follow(manager, profile, silent=as_json, force=force)
    if as_json:
        print_json(answer)
    else:
        print(_done(answer))


def _choose(machine: Machine, models: list[dict[str, Any]], verb: str) -> str | None:
    """The profile that the user chooses in a terminal. Without one: the active one to start, None to switch."""
    active = next((each["id"] for each in models if each["active"]), None)
    if not in_terminal():
        return active if verb == "start" else None
    from claude_local.cli.profiles import comparison, placed

    console().print(comparison(placed(machine.paths, models), numbered=True))
    answer = ask(f"Which one? [1-{len(models)}, Enter: {active}] ")
    if not answer:
        return None if answer is None else active
    return models[int(answer) - 1]["id"] if answer.isdigit() and 0 < int(answer) <= len(models) else answer


def follow(manager: LlamaClient, profile: str, *, silent: bool, force: bool = False) -> dict[str, Any]:
    """Switch and show each stage; the answer. Raises Problem when the switch fails, ServerError when it is refused."""
    # An older management API does not know the member "force".
    body = {"model": profile} | ({"force": True} if force else {})
    from rich.progress import BarColumn, Progress, TextColumn

    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"), transient=True
    )
    last: dict[str, Any] = {}
    with progress if sys.stderr.isatty() and not silent else Progress(disable=True) as bar:
        task = bar.add_task(profile, total=1.0, left="")
        for name, last in manager.stream("/switch", body, timeout=SILENCE):
            if name == "stage":
                left = f"{last['seconds_left']:.0f} s left" if last["seconds_left"] else ""
                bar.update(task, description=f"{profile}: {last['stage']}", completed=last["progress"] or 0, left=left)
    if "error" in last:
        for line in last.get("log", []):
            print(f"  {line}", file=sys.stderr)
        raise Problem(last["error"], "llama-local status")
    return last


def _done(answer: dict[str, Any]) -> str:
    """The result of a switch, in one line."""
    smaller = answer["previous_ctx_size"] and answer["ctx_size"] < answer["previous_ctx_size"]
    note = f", {answer['previous_ctx_size']:,} before: a long conversation is compacted" if smaller else ""
    seconds = sum(answer["seconds"].values())
    return f"{answer['model']} answers after {seconds:.1f} s, {answer['ctx_size']:,} tokens of context{note}"
