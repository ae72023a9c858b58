"""A session in a terminal: whether a command asks in each permission mode, and what the status line shows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from claude_local.verify import terminal
from claude_local.verify.checks import Failed
from claude_local.verify.fence_session import FenceSession, fence_session
from claude_local.verify.scripted_backend import ScriptedBackend, tool_use
from claude_local.verify.terminal import Terminal
from claude_local.verify.workbench import Workbench

# Seconds: the start, and one answer on the screen.
START, ANSWER = 40.0, 20.0
QUESTION = "Do you want to proceed"
# How files/status-line shows the fence.
STATUS = re.compile(r"^\s*(fenced|NO FENCE)\b")
# Permission mode -> what the bottom of the screen shows; nothing in the default mode.
MODES = {"default": "", "plan": "plan mode on"}


@dataclass
class PromptResult:
    """What the screen showed. ``asked``: the modes in which a command asked first, ``ran``: in which it just ran."""

    asked: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    status_line: str = ""


def prompt_result(bench: Workbench) -> PromptResult:
    """The run's one session of this kind. Raises Failed."""
    return bench.once("fence terminal", lambda: _session(bench))


def _session(bench: Workbench) -> PromptResult:
    run = fence_session(bench)
    # An allow rule of the project's could answer for the user, as it may; in this session nothing is allowed.
    for name in ("settings.json", "settings.local.json"):
        (run.workspace / ".claude" / name).unlink(missing_ok=True)
    result = PromptResult()
    turns = [tool_use("Bash", {"command": f"touch asked-{mode}.txt"}) for mode in MODES]
    with ScriptedBackend(turns, n_ctx=32768) as backend:
        argv = run.place.inside([bench.paths.wrapper, "--permission-mode", "default", "--tools=Bash"], run.inside)
        env = {**run.place.environment(backend.url), **terminal.columns_environment()}
        with Terminal(argv, env=env, cwd=str(run.place.root)) as screen:
            _start(screen)
            for mode, bottom in MODES.items():
                _switch(screen, bottom)
                _try(screen, run, mode, result)
            screen.wait_for(lambda lines: any(STATUS.search(line) for line in lines), 5)
            result.status_line = next((line.strip() for line in screen.lines() if STATUS.search(line)), "")
    return result


def _try(screen: Terminal, run: FenceSession, mode: str, result: PromptResult) -> None:
    """Have the backend ask for a command, and refuse it if the screen asks. Raises Failed when nothing happens."""
    file = run.workspace / f"asked-{mode}.txt"
    screen.enter("go on")
    screen.wait_for(lambda lines: _shows(lines, QUESTION) or file.exists(), ANSWER)
    if not _shows(screen.lines(), QUESTION) and not file.exists():
        raise Failed(f"{mode} mode: neither a question nor a result; the screen shows: {screen.tail()}")
    if not file.exists():
        result.asked.append(mode)
        screen.send("\x1b")
        screen.wait_for(lambda lines: not _shows(lines, QUESTION) and terminal.at_prompt(lines), ANSWER)
    if file.exists():
        result.ran.append(mode)


def _mode(lines: list[str]) -> str:
    """The line at the bottom that names a permission mode other than the default one."""
    return next((line.strip() for line in lines if "shift+tab to cycle" in line), "")


def _shows(lines: list[str], text: str) -> bool:
    return any(text in line for line in lines)


def _start(screen: Terminal) -> None:
    def arrived(lines: list[str]) -> bool:
        return bool(terminal.question(lines)) or terminal.at_prompt(lines)

    if not screen.wait_for(arrived, START):
        raise Failed(f"claude-local shows no prompt; the screen shows: {screen.tail()}")
    screen.read(0.5)
    _no_question(screen)


def _no_question(screen: Terminal) -> None:
    if (question := terminal.question(screen.lines())) is not None:
        raise Failed(f"the session asks for {question}: {screen.tail(3)}")


def _switch(screen: Terminal, bottom: str) -> None:
    """Press Shift-Tab until the screen shows ``bottom``; empty: the session is in that mode already."""
    for _ in range(6):
        if not bottom or _shows(screen.lines(), bottom):
            return
        before = _mode(screen.lines())
        screen.send("\x1b[Z")
        screen.wait_for(lambda lines: _mode(lines) != before, 2)  # noqa: B023 - it is called in this round only
        _no_question(screen)
    raise Failed(f"no {bottom!r} after Shift-Tab was pressed six times; the screen shows: {screen.tail()}")
