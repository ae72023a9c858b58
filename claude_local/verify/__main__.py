"""``python -m claude_local.verify --parameters FILE|-``: prove that this workstation works.

It says first what it takes from running sessions. With CLAUDE_LOCAL_ASK=1 it asks, in a terminal, whether to go on.

Exit status: 0 nothing failed, 1 a check failed or nothing was checked, 2 unusable parameters or arguments, 130
interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType

from claude_local.claude.running_sessions import running_sessions
from claude_local.verify.catalogue import catalogue
from claude_local.verify.checks import Check, run, select
from claude_local.verify.credentials_rows import OWN_LOGIN, remember_own_login
from claude_local.verify.display import Display
from claude_local.verify.parameters import Parameters, ParametersError, parse
from claude_local.verify.passed import Passed
from claude_local.verify.report import Reporter, as_json, write_atomically
from claude_local.verify.running_sessions import ASK, notice
from claude_local.verify.workbench import Workbench

# A run without this row leaves the sessions of the loaded model nearly alone: it asks the model for a few words.
KEEPS_MODEL_BUSY = "messages.tool"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="verify", description="Prove that this workstation works; change nothing.")
    parser.add_argument("--parameters", required=True, metavar="FILE", help="the deploy's settings as JSON; -: stdin")
    parser.add_argument("--only", action="append", default=[], metavar="GLOB", help="only these rows and their needs")
    parser.add_argument("--changed", action="store_true", help="only the quick rows, and those whose subject changed")
    parser.add_argument("--deep", action="store_true", help="hash every model again")
    parser.add_argument("--verbose", action="store_true", help="wrap long evidence instead of cutting it")
    parser.add_argument("--list", action="store_true", help="list the rows and run none")
    return parser.parse_args(argv)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def only_run(state: Path) -> Iterator[bool]:
    """Hold the lock on the state directory; False when another verify holds it."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(state, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def _prepare_process() -> None:
    """Drop the variables of a cloud account, which no child may get; end on SIGTERM and SIGHUP as on Ctrl-C."""
    for name in [name for name in os.environ if name.startswith(("ANTHROPIC_", "CLAUDE"))]:
        del os.environ[name]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)


def declined(parameters: Parameters, checks: list[Check]) -> bool:
    """Print what the run takes from running sessions. Whether a person at the terminal says no."""
    if not any(check.id == KEEPS_MODEL_BUSY for check in checks):
        return False
    workspaces = [each.workspace for each in running_sessions(parameters.paths.sessions)]
    lines = notice(workspaces, parameters.profiles, parameters.home)
    print(*lines, sep="\n", end="\n" if lines else "", flush=True)
    if not (lines and os.environ.get(ASK) and sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    print("Verify now? [Y/n] ", end="", flush=True)
    answer = sys.stdin.readline()
    return answer.strip().lower() not in ("", "y", "yes") or not answer


def keep(parameters: Parameters) -> None:
    """Keep the deploy's settings, without what Docker answered to it, for ``llama-local verify``."""
    write_atomically(Path(parameters.paths.verify_parameters), asdict(replace(parameters, docker=None)))


def _run(parameters: Parameters, checks: list[Check], options: argparse.Namespace) -> int:
    """Run the checks, show them, and write the report. Returns the exit status."""
    begin = time.monotonic()
    with Workbench(parameters, deep=options.deep) as bench:
        passed = Passed(bench)
        due, known = passed.due(checks), len(checks)
        if options.changed:
            checks = select(checks, due)
            declined(parameters, checks)  # nobody is asked: the deploy may have changed what the sessions use
        display = Display(sys.stdout, len(checks), verbose=options.verbose)
        reporter = Reporter(display.row, display.running)
        try:
            if any(check.id == OWN_LOGIN for check in checks):
                remember_own_login(bench)
            rows = run(checks, bench, reporter)
        finally:
            reporter.pause()
            display.clear()
        passed.remember(checks, rows)
    document = as_json(
        rows, deep=options.deep, only=options.only, changed=options.changed, seconds=time.monotonic() - begin
    )
    report = parameters.paths.verify_report
    write_atomically(Path(report), document)
    keep(parameters)
    print("", *display.closing(report, left_out=known - len(checks)), sep="\n")
    return 0 if document["ok"] else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; see the module's docstring for the exit status."""
    options = _arguments(argv)
    try:
        text = sys.stdin.read() if options.parameters == "-" else Path(options.parameters).read_text(encoding="utf-8")
        parameters = parse(text)
        checks = select(catalogue(parameters), options.only)
    except ParametersError as error:
        print("verify: the parameters cannot be used:", *error.problems, sep="\n  ", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"verify: {error}", file=sys.stderr)
        return 2
    if options.list:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader such as head may end first
        for check in checks:
            print(f"{check.id:36} {check.title}")
        return 0
    try:
        if declined(parameters, checks):
            print("Nothing was checked.", file=sys.stderr)
            return 1
    except KeyboardInterrupt:
        return 130
    _prepare_process()
    with only_run(Path(parameters.paths.state)) as alone:
        if not alone:
            print("verify: another verify is running; wait for its end", file=sys.stderr)
            return 2
        try:
            return _run(parameters, checks, options)
        except KeyboardInterrupt:
            print("verify: interrupted; nothing was left behind", file=sys.stderr)
            return 130


if __name__ == "__main__":
    sys.exit(main())
