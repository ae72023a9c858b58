"""What a check is, and how a list of checks becomes rows: in order, each with a time limit, none left out."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from claude_local.server.client import ServerError

if TYPE_CHECKING:
    from claude_local.verify.workbench import Workbench

PROVISION = "./provision"
# Subjects (claude_local.verify.passed) of rows: about sessions with a scripted server, answers of the real one, both.
SESSIONS: tuple[str, ...] = ("machine", "programs", "session")
ANSWERS: tuple[str, ...] = ("programs", "server")
EVERYTHING: tuple[str, ...] = (*SESSIONS, "server")


class Failed(Exception):
    """The check found a fault: ``what`` in one line, and ``fix``, what to type (or to do) about it."""

    def __init__(self, what: str, fix: str = PROVISION) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


class Skipped(Exception):
    """The check cannot be made here, which is no fault of the machine: ``reason`` in one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TimeIsUp(Exception):
    """A check has reached its time limit."""


@dataclass(frozen=True)
class Check:
    """One check: it becomes a row. ``run`` returns the evidence in one line, or raises Failed or Skipped.

    ``needs``: ids of checks that must pass first; otherwise this one is skipped. ``limit``: seconds. ``about``: the
    subjects (claude_local.verify.passed) whose change calls for this check; without any it is quick, and always runs.
    """

    id: str
    title: str
    run: Callable[[Workbench], str]
    needs: tuple[str, ...] = ()
    limit: float = 60.0
    about: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One finished check: ``status`` is PASS, FAIL or SKIP; ``seconds`` is the wall clock that it took."""

    id: str
    title: str
    status: str
    evidence: str
    fix: str
    seconds: float


class Observer(Protocol):
    """Who is told about a run as it goes on."""

    def started(self, check: Check) -> None:
        """``check`` begins."""

    def detail(self, text: str) -> None:
        """What the running check is doing now."""

    def finished(self, row: Row) -> None:
        """A check has ended."""


def one_line(text: str, limit: int = 400) -> str:
    """``text`` without line breaks and control characters, cut at ``limit`` characters."""
    flat = re.sub(r"[\x00-\x1f\x7f]+", " ", re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", text))
    flat = re.sub(r"\s{2,}", " ", flat).strip()
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def select(checks: Sequence[Check], globs: Sequence[str]) -> list[Check]:
    """The checks whose id matches one of ``globs``, and everything that they need, in order; no globs: all of them.

    Raises ValueError for a glob that matches nothing.
    """
    if not globs:
        return list(checks)
    by_id = {check.id: check for check in checks}
    pending: list[str] = []
    for glob in globs:
        matches = [name for name in by_id if fnmatchcase(name, glob)]
        if not matches:
            raise ValueError(f"no check matches {glob!r}\n  Fix: llama-local verify --list")
        pending += matches
    selected: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in selected:
            selected.add(name)
            pending.extend(by_id[name].needs)
    return [check for check in checks if check.id in selected]


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeIsUp in the main thread after ``seconds``, whatever it is waiting for."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _blocked(check: Check, done: dict[str, Row]) -> str | None:
    for need in check.needs:
        if need not in done:
            return f"needs {need}, which did not run"
        if done[need].status == "FAIL":
            return f"needs {need}, which failed"
        if done[need].status == "SKIP":
            reason = done[need].evidence
            return reason if reason.startswith("needs ") else f"needs {need}, which was skipped"
    return None


def _outcome(check: Check, bench: Workbench) -> tuple[str, str, str]:
    """The row's status, evidence and fix."""
    try:
        with time_limit(check.limit):
            return "PASS", check.run(bench), ""
    except Skipped as skipped:
        return "SKIP", skipped.reason, ""
    except Failed as failed:
        return "FAIL", failed.what, failed.fix
    except TimeIsUp:
        return "FAIL", f"no result after {check.limit:.0f} s", bench.logs_command
    except ServerError as error:
        return "FAIL", str(error), bench.start_command if error.reason == "refused" else bench.logs_command
    except Exception as error:
        return "FAIL", f"verify itself failed here: {type(error).__name__}: {error}", "report this row as a bug"


def run(checks: Sequence[Check], bench: Workbench, observer: Observer) -> list[Row]:
    """Run ``checks`` in order. A check whose need did not pass becomes a SKIP row with that reason."""
    done: dict[str, Row] = {}
    bench.say = observer.detail
    for check in checks:
        begin = time.monotonic()
        if (reason := _blocked(check, done)) is not None:
            status, evidence, fix = "SKIP", reason, ""
        else:
            observer.started(check)
            status, evidence, fix = _outcome(check, bench)
            bench.reap()
        row = Row(check.id, check.title, status, one_line(evidence), fix, time.monotonic() - begin)
        done[check.id] = row
        observer.finished(row)
    return list(done.values())
