"""``llama-local SUBCOMMAND``. Exit status: 0, 1 after a problem, 2 for a wrong command line, 130 after Ctrl-C."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from claude_local.cli import fence, hardware, models, server

# The modules with subcommands. Each sets ``func(options) -> exit status`` on its parser.
MODULES = (server, models, hardware, fence)


def parser() -> argparse.ArgumentParser:
    """The command line with all subcommands."""
    result = argparse.ArgumentParser(
        prog="llama-local", description="See and switch the model, and what this machine has."
    )
    # The command in ~/bin passes these two, from the settings.
    result.add_argument("--port", type=int, default=8081, help=argparse.SUPPRESS)
    result.add_argument("--container", default="claude-local-server", help=argparse.SUPPRESS)
    subparsers = result.add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    for module in MODULES:
        module.register(subparsers)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit status."""
    options = parser().parse_args(argv)
    try:
        status: int = options.func(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # head or less has closed the pipe. Without this the interpreter would report an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
