"""Programs that verify starts: each in its own process group, with a time limit, and none left over."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Every program of a run inherits this variable with the run's own value; leftovers are recognized by it.
MARKER = "CLAUDE_LOCAL_VERIFY"


@dataclass(frozen=True)
class Finished:
    """How a program ended. ``status`` is its exit status (negative: the signal), None when it ran out of time."""

    status: int | None
    stdout: str
    stderr: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it ended with status 0."""
        return self.status == 0

    @property
    def last_output(self) -> str:
        """The end of stderr, or of stdout where stderr is empty: at most 300 characters."""
        return (self.stderr.strip() or self.stdout.strip())[-300:]

    @property
    def outcome(self) -> str:
        """``exit 1``, ``killed by signal 9`` or ``still running after 60 s``."""
        if self.status is None:
            return f"still running after {self.seconds:.0f} s"
        return f"exit {self.status}" if self.status >= 0 else f"killed by signal {-self.status}"


def stop_group(pid: int, ended: Callable[[], bool], patience: float = 3.0) -> None:
    """End the process group of the child ``pid`` with SIGTERM, and what is left of it with SIGKILL.

    ``ended`` tells whether the child has ended. It must reap the child, or the child stays in its group. SIGKILL comes
    when the child has ended, or after ``patience`` seconds.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGTERM)
        until = time.monotonic() + patience
        while time.monotonic() < until and not ended():
            time.sleep(0.05)
        os.killpg(pid, signal.SIGKILL)


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    stdin: str | None = None,
) -> Finished:
    """Run ``argv`` for at most ``timeout`` seconds; its whole process group is gone when this returns.

    Raises OSError when the program cannot be started.
    """
    begin = time.monotonic()
    process = subprocess.Popen(
        argv,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
        errors="replace",
    )
    status: int | None = None
    try:
        out, err = process.communicate(stdin, timeout=timeout)
        status = process.returncode
    except subprocess.TimeoutExpired:
        stop_group(process.pid, lambda: process.poll() is not None)
        try:
            out, err = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            out, err = "", ""
    except BaseException:
        stop_group(process.pid, lambda: process.poll() is not None, patience=0.5)
        process.wait(timeout=5)
        raise
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    return Finished(status, out, err, time.monotonic() - begin)


def pids() -> Iterable[int]:
    """The processes that are visible in /proc."""
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def marked(value: str) -> list[int]:
    """The processes whose environment holds MARKER=``value``."""
    needle = f"{MARKER}={value}".encode()
    matches = []
    for pid in pids():
        with contextlib.suppress(OSError):
            if needle in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                matches.append(pid)
    return matches


def others_named(name: str, marker: str) -> list[int]:
    """This user's processes whose program is called ``name`` and that do not belong to this run."""
    mine = set(marked(marker))
    others = []
    for pid in pids():
        if pid in mine or pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid == os.getuid() and (
                Path(os.readlink(f"/proc/{pid}/exe")).name == name
                or Path(f"/proc/{pid}/comm").read_text().strip() == name
            ):
                others.append(pid)
    return others


def reap(value: str) -> None:
    """Kill every process that still carries this run's marker, by its pid."""
    for _ in range(20):
        left = marked(value)
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
