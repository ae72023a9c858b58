"""How every subcommand prints: a console for tables, two lines for an error."""

from __future__ import annotations

import sys

from rich.console import Console

# Columns of output that goes to a file or a pipe: one line for each row, so that grep works.
WIDE = 200


def console() -> Console:
    """Standard output, as wide as the terminal."""
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def fail(problem: str, fix: str) -> int:
    """Print a problem and the command that fixes it to standard error; the exit status."""
    print(f"llama-local: {problem}\n  Fix: {fix}", file=sys.stderr)
    return 1
