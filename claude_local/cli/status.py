"""``llama-local status``: what runs, on one screen, and the problems."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from claude_local.claude.running_sessions import shortened
from claude_local.cli.findings import QUICK, Finding
from claude_local.cli.hardware import gibibytes, probe_hardware
from claude_local.cli.machine import Machine, pass_machine
from claude_local.cli.output import Exit, console, json_option, print_json, table
from claude_local.fence.messages import printable
from claude_local.hardware.machine import Hardware
from claude_local.server.turns import Turn, turns

# Lines of the server's log in which the last turn is looked for, and seconds that the hardware may take to answer.
LINES, PROBE = 1000, 5.0


@click.command()
@json_option
@pass_machine
def status(machine: Machine, as_json: bool) -> Exit:
    """Show the active model and what it does, the memory, the sessions, the last turn, and problems.

    Exit status 1: the model failed to load. 3: the server is down.
    """
    with machine.manager() as manager:
        state = manager.json("GET", "/status")
        models = manager.json("GET", "/models")["models"]
        slots = manager.json("GET", "/slots")["slots"]
        sessions = manager.json("GET", "/sessions")["sessions"]
        answered = turns(manager.request("GET", f"/logs?lines={LINES}").text.splitlines())
    turn = answered[-1] if answered else None
    hardware = _hardware()
    wrong = [*_state_finding(state, machine), *(each for check in QUICK for each in check(machine))]
    if as_json:
        print_json(
            {
                **state,
                "models": models,
                "slots": slots,
                "sessions": sessions,
                "last_turn": turn and turn.as_data(),
                "memory": _memory_data(hardware),
                "wrong": [{"id": each.id, "what": each.what, "fix": each.fix} for each in wrong],
            }
        )
    else:
        rows = table()
        _model_rows(rows, state, models, slots)
        if turn:
            rows.add_row("last turn", Text(_owner(turn.model, state) + _turn(turn)))
        for number, line in enumerate(_memory(hardware)):
            rows.add_row("" if number else "memory", Text(line))
        _session_rows(rows, sessions, machine.paths.home)
        console().print(rows)
        for each in wrong:
            print(f"{each.what}\n  Fix: {each.fix}")
    return {"down": Exit.DOWN, "failed": Exit.PROBLEM}.get(state["state"], Exit.DONE)


def _model_rows(
    rows: Table, state: dict[str, Any], models: Sequence[dict[str, Any]], slots: Sequence[dict[str, Any]]
) -> None:
    window = f", {state['ctx_size']:,} tokens of context" if state["ctx_size"] else ""
    rows.add_row("model", Text(f"{state['model_name']} ({state['model']}){window}"))
    rows.add_row("state", Text(state["status"]))
    for slot in slots:
        rows.add_row("slot", Text(_owner(slot["model"], state) + _slot(slot)))
    others = ", ".join(_other(each) for each in models if not each["active"]) or "none"
    rows.add_row("others", Text(f"{others}    (llama-local switch)"))


def _owner(model: str, state: dict[str, Any]) -> str:
    """The id of a model other than the active one."""
    return "" if model in ("", state["model"]) else f"{model}: "


def _other(profile: dict[str, Any]) -> str:
    return f"{profile['id']} (in memory)" if profile["state"] == "loaded" else str(profile["id"])


def _slot(slot: dict[str, Any]) -> str:
    """What one slot does; the counts are tokens."""
    if not slot["busy"]:
        return "idle"
    read = slot["cached"] + slot["processed"]
    if slot["decoded"] == 0:
        return f"reads a prompt: {read:,} of {slot['prompt']:,} tokens, {slot['cached']:,} of them from its cache"
    return f"answers: {slot['decoded']:,} tokens, after a prompt of {slot['prompt']:,}"


def _turn(turn: Turn) -> str:
    """The last answered request: tokens and tokens a second."""
    read = f" at {turn.read_speed:,.0f}/s" if turn.read_speed else ""
    wrote = f" at {turn.decode_speed:,.1f}/s" if turn.decode_speed else ""
    why = f"; {turn.cause}" if turn.cause else ""
    return f"{turn.cached:,} tokens cached, {turn.computed:,} computed{read}, {turn.decoded:,} answered{wrote}{why}"


def _hardware() -> Hardware | None:
    try:
        return probe_hardware(timeout=PROBE)
    except (OSError, subprocess.TimeoutExpired):
        return None


def _memory(hardware: Hardware | None) -> list[str]:
    """What is free, a line for each GPU and one for the machine."""
    if hardware is None:
        return ["unknown: nvidia-smi or df hangs    (llama-local hardware)"]
    lines = [
        f"{gpu.name}: {gibibytes(gpu.free_mib)} free of {gibibytes(gpu.memory_mib)}"
        for gpu in hardware.gpus
        if gpu.memory_mib
    ]
    return [*lines, f"machine: {gibibytes(hardware.available_mib)} free of {gibibytes(hardware.memory_mib)}"]


def _memory_data(hardware: Hardware | None) -> dict[str, Any] | None:
    if hardware is None:
        return None
    return {
        "memory_mib": hardware.memory_mib,
        "available_mib": hardware.available_mib,
        "gpus": [{"name": gpu.name, "memory_mib": gpu.memory_mib, "free_mib": gpu.free_mib} for gpu in hardware.gpus],
    }


def _session_rows(rows: Table, sessions: Sequence[dict[str, Any]], home: str) -> None:
    for number, session in enumerate(sessions):
        profile = f"  ({session['profile']})" if session["own"] else ""
        rows.add_row("" if number else "sessions", Text(shortened(printable(session["workspace"]), home) + profile))
    if not sessions:
        rows.add_row("sessions", "none")


def _state_finding(state: dict[str, Any], machine: Machine) -> list[Finding]:
    """The server's own problem, if it has one."""
    fixes = {
        "down": f"sudo docker start {machine.container}    (or llama-local doctor)",
        "failed": "llama-local logs; llama-local switch    (to another model)",
    }
    fix = fixes.get(state["state"])
    return [Finding("server", f"{state['model']}: {state['status']}", fix)] if fix else []
