"""What the launcher prints: notes and errors on stderr, each beginning with ``claude-local:``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import NoReturn

# Lines of one kind that a report shows.
LINES = 20
PROVISION = "./provision   (in the claude-local project)"


def printable(text: str) -> str:
    """``text`` with control characters escaped: strangers choose file names, and a terminal obeys these."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def fail(what: str, fix: str, status: int = 1) -> NoReturn:
    """Print what is wrong and how to fix it, and end the program with ``status``."""
    print(f"claude-local: {printable(what)}\n  Fix: {printable(fix)}", file=sys.stderr)
    raise SystemExit(status)


def note(text: str, fix: str = "") -> None:
    """Print one line, and a second one with the command that changes it. Does nothing when stderr is closed: the exit
    status must be Claude Code's even then."""
    with suppress(OSError):
        print(f"claude-local: {printable(text)}", file=sys.stderr)
        if fix:
            print(f"  Fix: {printable(fix)}", file=sys.stderr)


def report(lines: Iterable[str]) -> None:
    """Print lines of one kind, at most LINES of them, and how many more there are."""
    lines = list(lines)
    for line in lines[:LINES]:
        note(line)
    if len(lines) > LINES:
        note(f"... and {len(lines) - LINES} more like that")
