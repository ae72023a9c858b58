"""A session in a terminal: does a command ask in each permission mode, and does the status line tell the fence."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from claude_local.verify import terminal
from claude_local.verify.checks import Failed
from claude_local.verify.fence_session import fence_session
from claude_local.verify.scripted_backend import ScriptedBackend, tool_use
from claude_local.verify.terminal import Terminal
from claude_local.verify.workbench import Workbench

# Seconds: the start, and one answer on the screen.
START, ANSWER = 40.0, 20.0
ASKS = "Do you want to proceed"
# What files/status-line says of the fence.
STATUS = re.compile(r"^\s*(fence: |NO FENCE)")
# How each mode is told at the bottom of the screen; the default mode says nothing there.
MODES = {"default": "", "plan": "plan mode on"}


@dataclass
class Asked:
    """What the screen showed. ``asked``: the modes in which a command asked, ``ran``: in which it ran without."""

    asked: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    status_line: str = ""


def asked(bench: Workbench) -> Asked:
    """The run's one session of this kind. Raises Failed."""
    return bench.once("fence.terminal", lambda: _ask(bench))


def _ask(bench: Workbench) -> Asked:
    run = fence_session(bench)
    # An allow rule of the project's would answer for the user, as it may: here nobody has allowed anything.
    for name in ("settings.json", "settings.local.json"):
        (run.workspace / ".claude" / name).unlink(missing_ok=True)
    found = Asked()
    turns = [tool_use("Bash", {"command": f"touch asked-{mode}.txt"}) for mode in MODES]
    with ScriptedBackend(turns, n_ctx=32768) as backend:
        argv = run.place.inside([bench.paths.wrapper, "--permission-mode", "default", "--tools=Bash"], run.inside)
        env = {**run.place.environment(backend.url), **terminal.columns_environment()}
        with Terminal(argv, env=env, cwd=str(run.place.root)) as screen:
            _start(screen)
            for mode in MODES:
                _switch(screen, MODES[mode])
                screen.send("go on")
                screen.read(0.3)
                screen.send("\r")
                file = run.workspace / f"asked-{mode}.txt"
                screen.wait_for(lambda lines, file=file: _shows(lines, ASKS) or file.exists(), ANSWER)  # type: ignore[misc]
                if not _shows(screen.lines(), ASKS) and not file.exists():
                    raise Failed(f"{mode} mode: neither a question nor a result; the screen shows: {screen.tail()}")
                if file.exists():
                    found.ran.append(mode)
                    continue
                found.asked.append(mode)
                screen.send("\x1b")
                screen.wait_for(lambda lines: not _shows(lines, ASKS) and terminal.at_prompt(lines), ANSWER)
                if file.exists():
                    found.ran.append(mode)
            screen.wait_for(lambda lines: any(STATUS.search(line) for line in lines), 5)
            found.status_line = next((line.strip() for line in screen.lines() if STATUS.search(line)), "")
    return found


def _shows(lines: list[str], words: str) -> bool:
    return any(words in line for line in lines)


def _start(screen: Terminal) -> None:
    def something(lines: list[str]) -> bool:
        return bool(terminal.question(lines)) or terminal.at_prompt(lines)

    if not screen.wait_for(something, START):
        raise Failed(f"claude-local shows no prompt; the screen shows: {screen.tail()}")
    screen.read(0.5)
    if (question := terminal.question(screen.lines())) is not None:
        raise Failed(f"the session asks for {question}: {screen.tail(3)}")


def _switch(screen: Terminal, words: str) -> None:
    """Press Shift-Tab until the mode that is told as ``words`` is on; none: the session is in it already."""
    for _ in range(6):
        if not words or _shows(screen.lines(), words):
            return
        screen.send("\x1b[Z")
        screen.read(0.5)
        if (question := terminal.question(screen.lines())) is not None:
            raise Failed(f"the session asks for {question}: {screen.tail(3)}")
    raise Failed(f"no {words!r} after six presses of Shift-Tab; the screen shows: {screen.tail()}")
