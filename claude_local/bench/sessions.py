"""Runs a task through the real Claude Code and its fence, and checks the result.

There are two kinds of failure. ``problem``: the model did not do the task. ``fault``: claude-local, Claude Code or
llama-server failed, whatever the model did.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_local.bench.tasks import Task
from claude_local.verify.session import parse_events, tool_calls

# Seconds that a command may take to end after SIGTERM.
GRACE = 10.0
# Seconds and turns that a graded task may take.
TIMEOUT, TURNS = 600.0, 8
# A tool call that reached the answer as text.
_CALL_AS_TEXT = re.compile(r'"name":\s*"[A-Z]\w+",\s*"(arguments|input|parameters)":')


@dataclass
class Session:
    """One finished run of ``claude -p``. ``status``: the exit status, None after a timeout.
    ``calls``: each tool call and whether its result has no error. ``answer``: the last words."""

    status: int | None
    errors: str
    seconds: float
    events: list[dict[str, Any]]

    @property
    def result(self) -> dict[str, Any]:
        """The last event of the type ``result``; {} when there is none."""
        return next((event for event in reversed(self.events) if event.get("type") == "result"), {})

    @property
    def answer(self) -> str:
        return str(self.result.get("result") or "")

    @property
    def calls(self) -> list[tuple[str, bool]]:
        """Every tool call as (tool, whether its result has no error), in order."""
        return [(call.tool, not call.is_error) for call in tool_calls(event.get("message") for event in self.events)]

    def _blocks(self) -> list[dict[str, Any]]:
        contents = [(event.get("message") or {}).get("content") for event in self.events]
        return [block for content in contents if isinstance(content, list) for block in content]

    def tokens(self, *kinds: str) -> int:
        """The sum of these counts of the session's usage."""
        usage = self.result.get("usage") or {}
        return sum(int(usage.get(kind) or 0) for kind in kinds)

    @property
    def fault(self) -> str:
        """What failed whatever the model did; empty if nothing did."""
        if self.status is None:
            return f"no end after {self.seconds:.0f} s"
        if not self.result:
            return f"no result, exit status {self.status}: {self.errors.strip()[-200:]}"
        retries = [event for event in self.events if event.get("subtype") == "api_retry"]
        if retries:
            return f"requests sent again: {len(retries)}; {retries[0].get('error') or retries[0]}"
        if self.answer.startswith("API Error"):
            return self.answer[:200]
        texts = [block["text"] for block in self._blocks() if block.get("type") == "text"]
        if any(_CALL_AS_TEXT.search(text) for text in texts):
            return "a tool call came as text"
        return ""


def prepare(task: Task, workspace: Path) -> None:
    """Write the task's files into ``workspace``."""
    for name, text in task.files.items():
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run(task: Task, command: Sequence[str], timeout: float, max_turns: int) -> tuple[Session, str]:
    """Run ``task`` once in a workspace of its own, for at most ``timeout`` seconds. Returns the session, and what is
    wrong with what it left (:func:`missing`)."""
    argv = [*command, "-p", task.prompt, "--output-format", "stream-json", "--verbose"]
    argv += ["--permission-mode", "acceptEdits", "--max-turns", str(max_turns), "--no-session-persistence"]
    # One path for all tasks: it is part of the prompt. With a new path, all that follows it would be read again.
    workspace = Path.home() / f"claude-local-benchmark-{os.getpid()}"
    workspace.mkdir()
    try:
        prepare(task, workspace)
        started = time.monotonic()
        output, errors, status = execute(argv, workspace, timeout)
        session = Session(status, errors, round(time.monotonic() - started, 1), parse_events(output))
        return session, missing(task, workspace, session.answer)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def graded(task: Task, command: Sequence[str]) -> dict[str, Any]:
    """Run one of the graded tasks; the outcome as JSON data."""
    session, lacking = run(task, command, TIMEOUT, TURNS)
    return {
        "kind": task.kind,
        "held_out": task.held_out,
        "prompt": task.prompt,
        "problem": lacking,
        "fault": session.fault,
        "calls": [name if succeeded else f"{name} (error)" for name, succeeded in session.calls],
        "answer": session.answer,
        "seconds": session.seconds,
        "read": session.tokens("input_tokens"),
        "cached": session.tokens("cache_read_input_tokens"),
        "written": session.tokens("output_tokens"),
    }


def missing(task: Task, workspace: Path, answer: str) -> str:
    """What is wrong with the answer and the files; empty if nothing is."""
    words = [word for word in task.answer if not any(each in answer.lower() for each in word.lower().split("|"))]
    if words:
        return f"the answer lacks {', '.join(words)}"
    if wrong := [word for word in task.never if word.lower() in answer.lower()]:
        return f"the answer contains {', '.join(wrong)}"
    for name, pattern in task.leaves.items():
        path = workspace / name
        # A link may lead out of the workspace, to what the fence hides from the model.
        if path.is_symlink() or not path.is_file():
            return f"{name} does not exist"
        text = path.read_text(errors="replace")
        if not re.search(pattern, text):
            return f"{name} contains {text[:80]!r}"
        if name in task.spoils and re.search(task.spoils[name], text):
            return f"{name} still contains {task.spoils[name]}"
    return ""


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End ``process`` and its group with SIGTERM, after GRACE with SIGKILL. Returns its output and errors so far."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=GRACE)
    return "", ""  # a process outside the group holds the pipes open


def execute(argv: Sequence[str], workspace: Path, timeout: float) -> tuple[str, str, int | None]:
    """Run a command in ``workspace``. Returns output, errors, and exit status (None after ``timeout`` seconds).

    However this function ends, no process of the command's group keeps running.
    """
    with subprocess.Popen(
        argv, cwd=workspace, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            return *_end(process), None
        except BaseException:
            _end(process)
            raise
    return output, errors, process.returncode
