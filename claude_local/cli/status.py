"""``llama-local status``: what runs, on one screen."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from claude_local.claude.running_sessions import RunningSession, running_sessions, shortened
from claude_local.cli.machine import Machine, pass_machine
from claude_local.cli.output import Exit, console, json_option, print_json, table
from claude_local.fence.messages import printable


@click.command()
@json_option
@pass_machine
def status(machine: Machine, as_json: bool) -> Exit:
    """Show the active model, what it does, and the sessions. Exit status 1: it failed; 3: the server is down."""
    with machine.manager() as manager:
        state = manager.json("GET", "/status")
        models = manager.json("GET", "/models")["models"]
        slots = manager.json("GET", "/slots")["slots"]
    sessions = running_sessions(machine.paths.start_program)
    if as_json:
        print_json({**state, "models": models, "slots": slots, "sessions": [asdict(each) for each in sessions]})
    else:
        console().print(_rows(state, models, slots, sessions, machine.paths.home))
        if fix := _fix(state, machine):
            print(f"  Fix: {fix}")
    return {"down": Exit.DOWN, "failed": Exit.PROBLEM}.get(state["state"], Exit.DONE)


def _rows(
    state: dict[str, Any],
    models: list[dict[str, Any]],
    slots: list[dict[str, Any]],
    sessions: list[RunningSession],
    home: str,
) -> Table:
    rows = table()
    window = f", {state['ctx_size']:,} tokens of context" if state["ctx_size"] else ""
    rows.add_row("model", Text(f"{state['model_name']} ({state['model']}){window}"))
    rows.add_row("state", Text(state["status"]))
    for slot in slots:
        rows.add_row("slot", _slot(slot))
    others = ", ".join(each["id"] for each in models if not each["active"]) or "none"
    rows.add_row("others", Text(f"{others}    (llama-local switch)"))
    for number, session in enumerate(sessions):
        profile = f"  ({session.profile})" if session.profile else ""
        rows.add_row("" if number else "sessions", Text(shortened(printable(session.workspace), home) + profile))
    if not sessions:
        rows.add_row("sessions", "none")
    return rows


def _slot(slot: dict[str, Any]) -> str:
    """What one slot does; the counts are tokens."""
    if not slot["busy"]:
        return "idle"
    read = slot["cached"] + slot["processed"]
    if slot["decoded"] == 0:
        return f"reads a prompt: {read:,} of {slot['prompt']:,} tokens, {slot['cached']:,} of them from its cache"
    return f"answers: {slot['decoded']:,} tokens, after a prompt of {slot['prompt']:,}"


def _fix(state: dict[str, Any], machine: Machine) -> str:
    return {
        "down": f"sudo docker start {machine.container}",
        "failed": "llama-local logs; llama-local switch    (to another model)",
    }.get(state["state"], "")
