"""SIGTERM, SIGINT and SIGHUP end pyinfra and every program that it started on this machine.

pyinfra itself leaves its programs running on SIGTERM, and exits with status 0 on Ctrl-C.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import termios
import time
from pathlib import Path
from types import FrameType

from gevent.monkey import get_original

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds that the programs have to end by themselves (verify removes its temporary homes), then again until we give up.
PATIENCE, LAST_WAIT = 8.0, 2.0
# <linux/prctl.h>
_PR_SET_CHILD_SUBREAPER = 36


def end_all_on_signal() -> None:
    """Install the handlers. SIGHUP and SIGTERM stay ignored where they are (nohup)."""
    terminal = termios.tcgetattr(2) if os.isatty(2) else None

    def handle(number: int, frame: FrameType | None) -> None:
        for each in (*SIGNALS, signal.SIGTTOU):
            signal.signal(each, signal.SIG_IGN)
        end_all()
        if terminal is not None:
            # pyinfra may have asked for a password, without an echo.
            with contextlib.suppress(termios.error):
                termios.tcsetattr(2, termios.TCSANOW, terminal)
            os.write(2, b"\r\033[K")
        # The table of the stages. No Python program survives its signal to do that at its end.
        atexit._run_exitfuncs()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    for number in SIGNALS:
        # A shell starts background programs with SIGINT ignored.
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle)


def end_all() -> None:
    """End every program that this process started, and those that they started."""
    # A program whose parent ends becomes our child, so none gets out of sight.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for each, seconds in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, LAST_WAIT)):
        signalled: set[int] = set()
        until = time.monotonic() + seconds
        while (running := descendants(os.getpid())) and time.monotonic() < until:
            signalled |= running | _send(each, running - signalled)
            # gevent's own sleep must not be called in a handler.
            get_original("time", "sleep")(0.05)


def descendants(pid: int) -> set[int]:
    """The processes that ``pid`` started, and those that they started, as far as they still run."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name before the last parenthesis may have spaces in it.
            state, parent = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    found: set[int] = set()
    generation = {pid}
    while generation:
        generation = {child for parent in generation for child in children.get(parent, [])}
        found |= generation
    return found


def _send(number: signal.Signals, pids: set[int]) -> set[int]:
    """Send a signal to the processes, with sudo to those of root if sudo does not ask for a password. That sudo."""
    others = []
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        except PermissionError:
            others.append(str(pid))
    if others:
        with contextlib.suppress(OSError):
            return {os.posix_spawnp("sudo", ["sudo", "-n", "kill", f"-{number.value}", *others], os.environ)}
    return set()
