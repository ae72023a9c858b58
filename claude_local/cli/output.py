"""How every command prints and ends: tables, JSON, exit statuses, two lines for a problem."""

from __future__ import annotations

import enum
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Columns of output that goes to a file or a pipe: one line for each row, so that grep works.
WIDE = 200


class Exit(enum.IntEnum):
    """The exit statuses, explained in docs/llama-local.md."""

    DONE = 0
    PROBLEM = 1
    USAGE = 2
    DOWN = 3
    INTERRUPTED = 130


class Problem(Exception):
    """A command cannot do what it should. ``fix``: the command that fixes it, or leads to the fix."""

    def __init__(self, message: str, fix: str, status: Exit = Exit.PROBLEM) -> None:
        super().__init__(message)
        self.fix = fix
        self.status = status


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/llama-local.md has its shape).")


def print_json(data: Any) -> None:
    """Print what ``--json`` promises."""
    import json

    print(json.dumps(data, indent=2))


def console() -> Console:
    """Standard output, as wide as the terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def table(*headings: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table without lines. ``right``: the headings of columns that are aligned to the right."""
    from rich.table import Table

    result = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(headings))
    for heading in headings:
        result.add_column(heading, justify="right" if heading in right else "left")
    return result


def in_terminal() -> bool:
    """Whether somebody can see a question and answer it."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask(question: str) -> str | None:
    """The answer to a question, without spaces around it; None at the end of the input."""
    try:
        return input(question).strip()
    except EOFError:
        print()
        return None


def fail(problem: str, fix: str, status: Exit = Exit.PROBLEM) -> Exit:
    """Print a problem and the command that fixes it to standard error; the exit status."""
    print(f"llama-local: {problem}\n  Fix: {fix}", file=sys.stderr)
    return status
