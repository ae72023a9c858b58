"""Lines for the person who watches a long step, and the way in which such a step is stopped."""

from __future__ import annotations

import os
import time
from collections import deque

MIB = 1 << 20
# Seconds between two lines of progress.
PROGRESS_INTERVAL = 2.0


class Interrupted(BaseException):
    """A signal or a closed output asks to stop now; what is on disk stays for the next run."""


def say(line: str) -> None:
    """One line for the person who watches. Raises Interrupted when nobody reads any more."""
    try:
        print(line, flush=True)
    except (BrokenPipeError, OSError) as error:
        raise Interrupted("the output was closed") from error


def short(name: str, width: int = 40) -> str:
    """A file's name that fits a line: ``qwen2.5-coder-1.5b…q4_k_m.gguf``."""
    name = os.path.basename(name)
    return name if len(name) <= width else f"{name[: width // 2 - 1]}…{name[-(width - width // 2) :]}"


class Progress:
    """Lines like ``model.gguf  412 / 1066 MiB  38 %  41 MiB/s  16 s left``, one every two seconds at most."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self.label = label
        self.total = total
        self.last = time.monotonic()
        self.marks: deque[tuple[float, int]] = deque([(self.last, done)], maxlen=8)

    def update(self, done: int) -> None:
        """Say how far it is; ``done`` counts bytes."""
        now = time.monotonic()
        if now - self.last < PROGRESS_INTERVAL:
            return
        self.last = now
        then, before = self.marks[0]
        self.marks.append((now, done))
        rate = max(done - before, 0) / max(now - then, 0.001)
        done = min(done, self.total)
        line = f"{self.label}  {done // MIB} / {self.total // MIB} MiB  {100 * done // max(self.total, 1)} %"
        line += f"  {rate / MIB:.{0 if rate >= 10 * MIB else 1}f} MiB/s"
        if rate > 0:
            seconds = int((self.total - done) / rate)
            line += f"  {seconds} s left" if seconds < 120 else f"  {seconds // 60} min left"
        say(line)
