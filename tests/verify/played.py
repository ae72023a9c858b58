"""Sessions of Claude Code that are made up: what they print, which tools they call, and whom they talk to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from claude_local.verify import processes
from claude_local.verify.catalogue import catalogue
from claude_local.verify.network import Destinations
from claude_local.verify.session import Session, parse_events
from claude_local.verify.temporary_home import TemporaryHome
from claude_local.verify.workbench import Workbench

Play = Callable[[TemporaryHome, tuple[str, ...], str | None], Session]


def run_row(bench: Workbench, name: str) -> str:
    return next(check for check in catalogue(bench.parameters) if check.id == name).run(bench)


def events(answer: str, *calls: tuple[str, dict[str, Any], str, bool], **result: Any) -> list[dict[str, Any]]:
    """What ``claude -p --output-format stream-json`` prints: tool calls (name, input, result, is_error), an answer."""
    found: list[dict[str, Any]] = []
    for number, (name, given, said, bad) in enumerate(calls):
        use = {"type": "tool_use", "id": f"t{number}", "name": name, "input": given}
        back = {
            "type": "tool_result",
            "tool_use_id": f"t{number}",
            "content": [{"type": "text", "text": said}],
            "is_error": bad,
        }
        found += [
            {"type": "assistant", "message": {"content": [use]}},
            {"type": "user", "message": {"content": [back]}},
        ]
    return [*found, {"type": "result", "result": answer, "is_error": False, **result}]


def played(
    found: list[dict[str, Any]], status: int | None = 0, peers: Destinations | None = None, err: str = ""
) -> Session:
    text = "\n".join(json.dumps(event) for event in found)
    return Session(processes.Finished(status, text, err, 1.0), parse_events(text), peers)


def talked(*peers: tuple[str, int], uring: bool = False) -> Destinations:
    return Destinations("strace", Counter(peers), uring)


def says(answer: str, *calls: tuple[str, dict[str, Any], str, bool]) -> Play:
    return lambda place, arguments, server: played(events(answer, *calls))
