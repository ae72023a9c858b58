"""``llama-local SUBCOMMAND``: exit status 0, 1 for what went wrong, 2 for a wrong command line, 130 after Ctrl-C."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from claude_local.cli import hardware, models

# Every module with a subcommand; its register(subparsers) sets func(options) -> exit status.
MODULES = (hardware, models)


def parser() -> argparse.ArgumentParser:
    """The command line of all subcommands."""
    result = argparse.ArgumentParser(prog="llama-local", description="Look at this machine's models and hardware.")
    subparsers = result.add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    for module in MODULES:
        module.register(subparsers)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; its exit status."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.func(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) has seen enough; the interpreter must not complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
