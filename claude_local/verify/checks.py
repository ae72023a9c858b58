"""What a check is, and how a list of checks becomes rows: in order, each held to a time limit, none forgotten."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import FrameType
from typing import Protocol

from requests import ConnectionError as NoConnection
from requests import RequestException

from claude_local.verify.workbench import Workbench

PROVISION = "./provision"


class Failed(Exception):
    """The check found a fault: ``what`` in one line, and ``fix``, the command (or sentence) that repairs it."""

    def __init__(self, what: str, fix: str = PROVISION) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


class Skipped(Exception):
    """The check could not be made, and that is no fault of the machine: ``reason`` in one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TimeIsUp(Exception):
    """A check ran into its limit."""


@dataclass(frozen=True)
class Check:
    """One row. ``run`` returns the evidence in one line, or raises Failed or Skipped.

    ``needs``: ids of checks that must have passed, else this one is skipped with that reason. ``limit``: seconds.
    """

    id: str
    title: str
    run: Callable[[Workbench], str]
    needs: tuple[str, ...] = ()
    limit: float = 60.0


@dataclass(frozen=True)
class Result:
    """One finished row: ``status`` is PASS, FAIL or SKIP; ``seconds`` is the wall clock that it took."""

    id: str
    title: str
    status: str
    evidence: str
    fix: str
    seconds: float


class Audience(Protocol):
    """Who watches a run."""

    def started(self, check: Check) -> None: ...
    def finished(self, result: Result) -> None: ...


def one_line(text: str, limit: int = 400) -> str:
    """``text`` without line breaks and control characters, cut at ``limit`` characters."""
    flat = re.sub(r"[\x00-\x1f\x7f]+", " ", re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", text))
    flat = re.sub(r"\s{2,}", " ", flat).strip()
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def selected(checks: Sequence[Check], globs: Sequence[str]) -> list[Check]:
    """The checks whose id matches one of ``globs`` and everything that they need, in order; no globs: all of them.

    Raises ValueError naming a glob that matches nothing.
    """
    if not globs:
        return list(checks)
    by_id = {check.id: check for check in checks}
    wanted: set[str] = set()
    for glob in globs:
        found = [name for name in by_id if fnmatchcase(name, glob)]
        if not found:
            raise ValueError(f"no check matches {glob!r}; there are: {', '.join(by_id)}")
        pending = found
        while pending:
            name = pending.pop()
            if name not in wanted:
                wanted.add(name)
                pending.extend(by_id[name].needs)
    return [check for check in checks if check.id in wanted]


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeIsUp in the main thread after ``seconds``, whatever it waits for then."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _blocked(check: Check, done: dict[str, Result]) -> str | None:
    for need in check.needs:
        if need not in done:
            return f"needs {need}, which was not run"
        if done[need].status == "FAIL":
            return f"needs {need}, which failed"
        if done[need].status == "SKIP":
            reason = done[need].evidence
            return reason if reason.startswith("needs ") else f"needs {need}, which was skipped"
    return None


def _outcome(check: Check, bench: Workbench) -> tuple[str, str, str]:
    try:
        with time_limit(check.limit):
            return "PASS", check.run(bench), ""
    except Skipped as skipped:
        return "SKIP", skipped.reason, ""
    except Failed as failed:
        return "FAIL", failed.what, failed.fix
    except TimeIsUp:
        return "FAIL", f"no result after {check.limit:.0f} s", bench.logs_command
    except NoConnection as error:
        if "refused" in str(error):
            return "FAIL", f"nobody answers at {bench.parameters.server_url}", bench.start_command
        return "FAIL", f"the connection to {bench.parameters.server_url} broke: {error}", bench.logs_command
    except RequestException as error:
        return "FAIL", f"{type(error).__name__}: {error}", bench.logs_command
    except Exception as error:
        return "FAIL", f"verify itself stumbled here: {type(error).__name__}: {error}", "report this row as a bug"


def run(checks: Sequence[Check], bench: Workbench, audience: Audience) -> list[Result]:
    """Run ``checks`` in order. A check whose need did not pass becomes a SKIP row with that reason."""
    done: dict[str, Result] = {}
    for check in checks:
        begin = time.monotonic()
        if (reason := _blocked(check, done)) is not None:
            status, evidence, fix = "SKIP", reason, ""
        else:
            audience.started(check)
            bench.say = getattr(audience, "detail", bench.say)
            status, evidence, fix = _outcome(check, bench)
            bench.reap()
        result = Result(check.id, check.title, status, one_line(evidence), fix, time.monotonic() - begin)
        done[check.id] = result
        audience.finished(result)
    return list(done.values())
