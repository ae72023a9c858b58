"""What the fence refused: the list of a running session, and what earlier sessions were told.

The proxy knows which address it refused, and only the command's shell can say so in its output. So the launcher keeps a
list that the session's commands can read (command_end.py). What was said stays in Claude Code's transcripts, from which
``llama-local fence why`` reads it.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from os.path import dirname
from pathlib import Path
from typing import Any

from claude_local.fence.command_end import PREFIX

# Addresses that a list keeps.
KEPT = 20


class RefusedHosts:
    """The addresses that a session's proxy refused: a file with their number in the first line, and the last KEPT."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._count, self._last = 0, deque[str](maxlen=KEPT)
        self._lock = threading.Lock()

    def add(self, host: str, port: int) -> None:
        """Add an address. A strange one is shown with question marks, and a file that cannot be written is no error."""
        with self._lock, suppress(OSError):
            self._count += 1
            self._last.append(f"{re.sub(r'[^0-9A-Za-z._:-]', '?', host[:200])}:{port}")
            os.makedirs(dirname(self.path), mode=0o700, exist_ok=True)
            new = f"{self.path}.new"
            Path(new).write_text("\n".join([str(self._count), *self._last, ""]), encoding="ascii")
            os.replace(new, self.path)

    def close(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            os.unlink(self.path)


@dataclass(frozen=True)
class Refusal:
    """``when``: ISO 8601, UTC. ``workspace``: the session's directory. ``what``: a target and its setting."""

    when: str
    workspace: str
    what: str


# What Claude Code's own file tools and its own proxy say, and what that means.
_OUTSIDE = re.compile(r"^(/.+) is outside .+ setting blocks writes outside the working directories")
_DENIED = re.compile(r"^deny network-outbound (\S+) \(host is not on the allow list\)")
_MARKS = (PREFIX, " setting blocks writes outside ", "deny network-outbound ")


def history(projects: str, count: int) -> list[Refusal]:
    """The last ``count`` refusals in the transcripts below ``projects``, the newest last."""
    found: dict[Refusal, None] = {}
    for path in sorted(Path(projects).rglob("*.jsonl"), key=_modified, reverse=True):
        last = sorted(found, key=lambda each: each.when)[-count:]
        # A transcript that ended before the oldest of enough refusals adds nothing.
        if len(last) == count and _modified(path) < datetime.fromisoformat(last[0].when).timestamp():
            break
        with suppress(OSError), path.open(encoding="utf-8", errors="replace") as lines:
            found.update((each, None) for line in lines for each in _refusals(line))
    return sorted(found, key=lambda each: each.when)[-count:]


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _refusals(line: str) -> Iterator[Refusal]:
    """Those in one record of a transcript: a session may have written anything there."""
    if not any(mark in line for mark in _MARKS):
        return
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        record = json.loads(line)
        when = datetime.fromisoformat(str(record["timestamp"]).replace("Z", "+00:00")).astimezone(timezone.utc)
        for words in _results(record["message"]["content"]):
            for what in filter(None, map(_what, words.splitlines())):
                yield Refusal(when.isoformat(timespec="milliseconds"), str(record["cwd"]), what)


def _what(line: str) -> str:
    """What a line says that the fence refused; empty when it says nothing of the kind."""
    if outside := _OUTSIDE.match(line):
        return f"{outside[1]} (outside the workspace: claude-local --add-dir {dirname(outside[1])})"
    if denied := _DENIED.match(line):
        return f"{denied[1]} (setting fence_domains)"
    return line[len(PREFIX) :] if line.startswith(PREFIX) else ""


def _results(content: list[dict[str, Any]]) -> Iterator[str]:
    """The texts of the tool results in a message."""
    for block in content:
        if block["type"] == "tool_result":
            inner = block["content"]
            yield inner if isinstance(inner, str) else "\n".join(str(part.get("text", "")) for part in inner)
