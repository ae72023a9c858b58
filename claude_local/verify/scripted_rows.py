"""Rows about tools in a session with the scripted backend: no model is needed, the files on disk are the evidence."""

from __future__ import annotations

import secrets
from typing import Any

from claude_local.verify.checks import SESSIONS, Check, Failed, Skipped, one_line
from claude_local.verify.scripted_backend import ScriptedBackend, text, tool_use
from claude_local.verify.session import recorded_calls
from claude_local.verify.temporary_home import home
from claude_local.verify.workbench import Workbench

# Words that a model can copy and that it would not say by chance.
WORDS = ("pelican", "walnut", "lantern", "harbour", "cinnamon", "glacier", "trumpet", "meadow", "saffron", "anchor")
# Seconds that a session with the scripted backend may take.
SECONDS = 90.0


class ScriptedSession:
    """One session with three tool calls that the scripted backend asks for, and every request of Claude Code."""

    def __init__(self, bench: Workbench) -> None:
        place = home(bench)
        self.secret, self.content = secrets.choice(WORDS), secrets.choice(WORDS)
        self.note = f"{self.secret}-note.txt"
        place.fresh_workspace({self.note: f"The secret word is {self.secret}.\n", "other.md": "nothing\n"})
        inside = place.workspace_inside
        turns = [
            tool_use("Glob", {"pattern": "*.txt"}),
            tool_use("Read", {"file_path": str(inside / self.note)}),
            tool_use("Write", {"file_path": str(inside / "written.txt"), "content": f"{self.content}\n"}),
            text("All three tools have run."),
        ]
        with ScriptedBackend(turns, n_ctx=32768) as backend:
            self.port = backend.port
            self.session = place.claude(
                "-p", "Run the three tools.", "--permission-mode", "acceptEdits", "--output-format", "stream-json",
                "--verbose", timeout=SECONDS, server=backend.url, watched=True,
            )  # fmt: skip
            self.requests: list[dict[str, Any]] = list(backend.requests)
        written = place.workspace / "written.txt"
        self.written = written.read_text(encoding="utf-8") if written.exists() else None

    def tools(self) -> set[str]:
        """The names of the tools that Claude Code offered to the model."""
        bodies = [request["body"] for request in self.requests if isinstance(request["body"], dict)]
        return {tool.get("name", "") for body in bodies for tool in body.get("tools") or []}

    def output(self, tool: str) -> str:
        """What ``tool`` returned, as the backend received it. Raises Failed or Skipped."""
        call = next((call for call in recorded_calls(self.requests).values() if call.tool == tool), None)
        if call is None:
            tools = self.tools()
            if tools and tool not in tools:
                raise Skipped(f"the profile's tool set has no {tool} ({', '.join(sorted(tools))})")
            raise Failed(self.session.failure() or f"the backend asked for {tool}, which never ran")
        if call.is_error:
            raise Failed(f"{tool} failed: {one_line(call.output or '', 160)}")
        return call.output or ""


def scripted_session(bench: Workbench) -> ScriptedSession:
    """The run's one session of this kind."""
    return bench.once("scripted", lambda: ScriptedSession(bench))


def _glob(bench: Workbench) -> str:
    run = scripted_session(bench)
    output = run.output("Glob")
    if run.note not in output or "other.md" in output:
        raise Failed(f"Glob *.txt returned {one_line(output, 120)!r} instead of {run.note}")
    return f"Glob *.txt returned {run.note}"


def _read(bench: Workbench) -> str:
    run = scripted_session(bench)
    output = run.output("Read")
    if run.secret not in output:
        raise Failed(f"Read {run.note} returned {one_line(output, 120)!r} without the word {run.secret}")
    return f"Read {run.note} returned the word {run.secret!r}"


def _write(bench: Workbench) -> str:
    run = scripted_session(bench)
    run.output("Write")
    if run.written is None or run.written.strip() != run.content:
        raise Failed(f"Write: written.txt on disk is {run.written!r} instead of {run.content!r}")
    return f"Write: written.txt is on disk with {run.content!r}"


def checks() -> list[Check]:
    """The rows of this subject, in order."""
    ready = ("claude.version", "settings", "settings.first-start", "token")
    return [
        Check("scripted.glob", "Glob works (scripted backend)", _glob, needs=ready, limit=SECONDS + 30, about=SESSIONS),
        Check("scripted.read", "Read works (scripted backend)", _read, needs=ready, limit=SECONDS + 30, about=SESSIONS),
        Check(
            "scripted.write", "Write works (scripted backend)", _write, needs=ready, limit=SECONDS + 30, about=SESSIONS
        ),
    ]
