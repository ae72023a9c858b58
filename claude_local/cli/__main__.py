"""``llama-local COMMAND``. docs/llama-local.md explains the exit statuses, which :class:`Exit` names."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from claude_local.cli.commands import PROGRAM, llama_local
from claude_local.cli.output import Exit, Problem, fail


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    try:
        status: int | None = llama_local.main(argv, prog_name=PROGRAM, standalone_mode=False)
        return status or Exit.DONE
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return Exit.USAGE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else PROGRAM
        fail(error.format_message(), f"{command} --help")
        return Exit.USAGE
    except Problem as problem:
        return fail(str(problem), problem.fix, problem.status)
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
