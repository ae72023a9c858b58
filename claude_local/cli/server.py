"""``llama-local status | switch | start | stop | restart | logs``: the daily half, over the management API."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from claude_local.claude.running_sessions import RunningSession, running_sessions, shortened
from claude_local.cli.models import paths
from claude_local.cli.output import console, fail
from claude_local.fence.messages import printable
from claude_local.manager.container import container_name
from claude_local.manager.log import follow, last_lines
from claude_local.server.client import LlamaClient, ServerError

# Seconds between two events of a switch: its longest stage sends a comment every 15.
SWITCH_SILENCE = 60.0
# Seconds that docker may take to restart the container: it kills the server after 10.
RESTART = 90


def register(subparsers: Any) -> None:
    """Add the subcommands to argparse's ``subparsers``."""
    status = subparsers.add_parser("status", help="the active model, what it does, and the sessions")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(func=show_status)
    switch = subparsers.add_parser("switch", help="make another model the active one")
    switch.set_defaults(func=lambda options: change(options, "switch"))
    start = subparsers.add_parser("start", help="load the active model, or another one")
    start.set_defaults(func=lambda options: change(options, "start"))
    for command in (switch, start):
        command.add_argument("profile", nargs="?", metavar="PROFILE", help="ask in a terminal if it is left out")
        command.add_argument("--json", action="store_true", help="print JSON")
    stop = subparsers.add_parser("stop", help="unload the model and free its memory, also after a reboot")
    stop.add_argument("--json", action="store_true", help="print JSON")
    stop.set_defaults(func=stop_server)
    subparsers.add_parser("restart", help="restart llama-server").set_defaults(func=restart)
    logs = subparsers.add_parser("logs", help="llama-server's log")
    logs.add_argument("-f", "--follow", action="store_true", help="print new lines as they come")
    logs.add_argument("-n", type=int, default=40, metavar="LINES", help="so many of the last lines (default: 40)")
    logs.set_defaults(func=show_logs)


def _manager(options: argparse.Namespace) -> LlamaClient:
    """A client of the management API. Raises OSError without a token."""
    return LlamaClient(f"http://127.0.0.1:{options.port}", Path(paths().token).read_text().strip())


def _failed(error: Exception, options: argparse.Namespace) -> int:
    """Report why the management API did not do it; the exit status."""
    if isinstance(error, OSError):
        return fail(f"the API token cannot be read: {error.strerror}", "./provision")
    if isinstance(error, ServerError) and error.status is not None:
        return fail(str(error), "llama-local status; llama-local models")
    manager = container_name(options.container)
    return fail(f"the management API does not answer: {error}", f"sudo docker start {options.container} {manager}")


def show_status(options: argparse.Namespace) -> int:
    """Print the state of the server and the sessions; the exit status, 1 unless a model answers or is on its way."""
    try:
        manager = _manager(options)
        status = manager.json("GET", "/status")
        models = manager.json("GET", "/models")["models"]
        slots = manager.json("GET", "/slots")["slots"]
    except (ServerError, OSError) as error:
        return _failed(error, options)
    sessions = running_sessions(paths().start_program)
    if options.json:
        print(
            json.dumps(
                {**status, "models": models, "slots": slots, "sessions": [asdict(each) for each in sessions]}, indent=2
            )
        )
    else:
        console().print(_status_table(status, models, slots, sessions))
        if fix := _fix(status, options):
            print(f"  Fix: {fix}")
    return 1 if status["state"] in ("down", "failed") else 0


def _status_table(
    status: dict[str, Any], models: list[dict[str, Any]], slots: list[dict[str, Any]], sessions: list[RunningSession]
) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    window = f", {status['ctx_size']:,} tokens of context" if status["ctx_size"] else ""
    table.add_row("model", Text(f"{status['model_name']} ({status['model']}){window}"))
    table.add_row("state", Text(status["status"]))
    for slot in slots:
        table.add_row("slot", _slot(slot))
    others = ", ".join(each["id"] for each in models if not each["active"]) or "none"
    table.add_row("others", Text(f"{others}    (llama-local switch)"))
    for number, session in enumerate(sessions):
        profile = f"  ({session.profile})" if session.profile else ""
        table.add_row(
            "" if number else "sessions", Text(shortened(printable(session.workspace), paths().home) + profile)
        )
    if not sessions:
        table.add_row("sessions", "none")
    return table


def _slot(slot: dict[str, Any]) -> str:
    """What one slot does; the counts are tokens."""
    if not slot["busy"]:
        return "idle"
    read = slot["cached"] + slot["processed"]
    if slot["decoded"] == 0:
        return f"reads a prompt: {read:,} of {slot['prompt']:,} tokens, {slot['cached']:,} of them from its cache"
    return f"answers: {slot['decoded']:,} tokens, after a prompt of {slot['prompt']:,}"


def _fix(status: dict[str, Any], options: argparse.Namespace) -> str:
    return {
        "down": f"sudo docker start {options.container}",
        "failed": "llama-local logs; llama-local switch    (to another model)",
    }.get(status["state"], "")


def change(options: argparse.Namespace, verb: str) -> int:
    """Switch to a profile, or start the active one; the exit status."""
    try:
        manager = _manager(options)
        models = manager.json("GET", "/models")["models"]
        profile = options.profile or _ask(models, verb)
        if profile is None:
            return fail("no profile was named", f"llama-local {verb} {' | '.join(each['id'] for each in models)}")
        if profile not in {each["id"] for each in models}:
            known = ", ".join(each["id"] for each in models)
            return fail(f"there is no profile {profile!r} on this machine", f"llama-local {verb} PROFILE    ({known})")
        return _follow(manager, profile, as_json=options.json)
    except (ServerError, OSError) as error:
        return _failed(error, options)


def _ask(models: list[dict[str, Any]], verb: str) -> str | None:
    """The profile that the user chooses in a terminal. Without one: the active one to start, None to switch."""
    active = next((each["id"] for each in models if each["active"]), None)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return active if verb == "start" else None
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "PROFILE", "NAME", "CONTEXT", "STATE", "LOADS IN"):
        table.add_column(heading, justify="right" if heading in ("CONTEXT", "LOADS IN") else "left")
    for number, each in enumerate(models, 1):
        seconds = f"{each['load_seconds']:.0f} s" if each["load_seconds"] else ""
        state = f"{each['state']}, active" if each["active"] else each["state"]
        window = f"{each['ctx_size']:,}" if each["ctx_size"] else ""
        table.add_row(str(number), Text(each["id"]), Text(each["name"]), window, state, seconds)
    console().print(table)
    try:
        answer = input(f"Which one? [1-{len(models)}, Enter: {active}] ").strip()
    except EOFError:
        print()
        return None
    if not answer:
        return active
    return models[int(answer) - 1]["id"] if answer.isdigit() and 0 < int(answer) <= len(models) else answer


def _follow(manager: LlamaClient, profile: str, *, as_json: bool) -> int:
    """Switch and show each stage; the exit status."""
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"), transient=True
    )
    last: dict[str, Any] = {}
    with progress if sys.stderr.isatty() and not as_json else Progress(disable=True) as bar:
        task = bar.add_task(profile, total=1.0, left="")
        for name, last in manager.stream("/switch", {"model": profile}, timeout=SWITCH_SILENCE):
            if name == "stage":
                left = f"{last['seconds_left']:.0f} s left" if last["seconds_left"] else ""
                bar.update(task, description=f"{profile}: {last['stage']}", completed=last["progress"] or 0, left=left)
    if "error" in last:
        for line in last.get("log", []):
            print(f"  {line}", file=sys.stderr)
        return fail(last["error"], "llama-local status")
    if as_json:
        print(json.dumps(last, indent=2))
    else:
        print(_done(last))
    return 0


def _done(answer: dict[str, Any]) -> str:
    """The result of a switch, in one line."""
    smaller = answer["previous_ctx_size"] and answer["ctx_size"] < answer["previous_ctx_size"]
    note = f", {answer['previous_ctx_size']:,} before: a long conversation is compacted" if smaller else ""
    seconds = sum(answer["seconds"].values())
    return f"{answer['model']} answers after {seconds:.1f} s, {answer['ctx_size']:,} tokens of context{note}"


def stop_server(options: argparse.Namespace) -> int:
    """Unload the model; the exit status."""
    try:
        status = _manager(options).json("POST", "/stop", {}, timeout=RESTART)
    except (ServerError, OSError) as error:
        return _failed(error, options)
    print(json.dumps(status, indent=2) if options.json else "no model is loaded; llama-local start loads one")
    return 0


def restart(options: argparse.Namespace) -> int:
    """Restart the server's container; the exit status."""
    problem = ""
    for words in (["docker"], ["sudo", "docker"]):
        command = [*words, "restart", options.container]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=RESTART, env=None)
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = str(error)
            continue
        if done.returncode == 0:
            print("llama-server restarts, and loads the active model: llama-local status")
            return 0
        problem = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit status {done.returncode}"
        if "permission denied" not in done.stderr.lower():
            break
    return fail(f"docker does not restart {options.container}: {problem}", "./provision")


def show_logs(options: argparse.Namespace) -> int:
    """Print the last lines of the log, and new ones with --follow; the exit status."""
    log = Path(paths().server_log)
    if not log.exists():
        return fail(f"there is no log {log}", f"sudo docker start {options.container}")
    lines, end = last_lines(log, max(0, options.n))
    for line in lines:
        print(line)
    if options.follow:
        asyncio.run(_print_new(log, end))
    return 0


async def _print_new(log: Path, end: int) -> None:
    async for line in follow(log, end):
        print(line, flush=True)
