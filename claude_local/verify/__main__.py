"""``python -m claude_local.verify --parameters FILE|-``: prove that this workstation works.

Exit status: 0 nothing failed, 1 a check failed, 2 bad parameters or arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from claude_local.verify import claude_session
from claude_local.verify.catalogue import catalogue
from claude_local.verify.checks import run, selected
from claude_local.verify.parameters import ParametersError, parse
from claude_local.verify.report import Reporter, as_json, totals, write_atomically
from claude_local.verify.workbench import Workbench

# Columns of the table where there is no terminal to ask.
WIDTH = 140


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="verify", description="Prove that this workstation works; change nothing.")
    parser.add_argument("--parameters", required=True, metavar="FILE", help="the deploy's settings as JSON; -: stdin")
    parser.add_argument(
        "--only", action="append", default=[], metavar="GLOB", help="only these rows and what they need"
    )
    parser.add_argument("--deep", action="store_true", help="hash every model again")
    parser.add_argument("--json", action="store_true", help="the report as JSON on stdout, the rows on stderr")
    parser.add_argument("--list", action="store_true", help="show the rows that there are, and run none")
    return parser.parse_args(argv)


def _leave(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[bool]:
    """Hold the state directory's lock; False when another verify has it."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(state, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks; see the module's docstring for the exit status."""
    options = _arguments(argv)
    try:
        text = sys.stdin.read() if options.parameters == "-" else Path(options.parameters).read_text(encoding="utf-8")
        parameters = parse(text)
        checks = selected(catalogue(parameters), options.only)
    except ParametersError as error:
        print("verify: the parameters cannot be used:", *error.problems, sep="\n  ", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"verify: {error}", file=sys.stderr)
        return 2
    if options.list:
        for check in checks:
            print(f"{check.id:36} {check.title}")
        return 0
    # A cloud account's variables must reach neither the SDK nor anything that is started from here.
    for name in [name for name in os.environ if name.startswith(("ANTHROPIC_", "CLAUDE"))]:
        del os.environ[name]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    console = Console(
        stderr=options.json, highlight=False, width=None if sys.stdout.isatty() or options.json else WIDTH
    )
    with _alone(Path(parameters.paths.state)) as alone:
        if not alone:
            print("verify: another verify runs already; wait for it", file=sys.stderr)
            return 2
        reporter = Reporter(console, len(checks))
        begin = time.monotonic()
        try:
            with Workbench(parameters, deep=options.deep) as bench:
                claude_session.remember_real_login(bench)
                results = run(checks, bench, reporter)
        except KeyboardInterrupt:
            reporter.pause()
            print("verify: interrupted; nothing was left behind", file=sys.stderr)
            return 130
        document = as_json(results, deep=options.deep, only=options.only, seconds=time.monotonic() - begin)
        report = Path(parameters.paths.verify_report)
        write_atomically(report, document)
        reporter.table(results)
        if options.json:
            json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
            print()
        console.print(f"Report: {report}", soft_wrap=True)
        console.print(totals(results), style="green" if document["ok"] else "bold red")
    return 0 if document["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
