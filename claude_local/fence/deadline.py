"""The end of a look at what a session left: after a time, or when the user asks for it. A session can leave so much
that a look takes hours."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from claude_local.fence.messages import note

# Seconds that a look may take, and after how many the user is told that it goes on.
SECONDS, QUIET = 60.0, 3.0
_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)


class Deadline:
    """Call ``start`` when the look begins. ``why``: what ended it; empty until then. ``stopped``: the user did."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds, self.why, self.stopped = seconds, "", False
        self._began: float | None = None
        self._told = False

    def start(self) -> None:
        """The time runs from now on."""
        self._began = time.monotonic()

    def stop(self) -> None:
        """End the look at its next step."""
        self.why, self.stopped = self.why or "it was stopped", True

    def is_over(self) -> bool:
        """Whether the look must end. Tells the user when it takes long."""
        passed = 0.0 if self._began is None else time.monotonic() - self._began
        if passed > self.seconds:
            self.why = self.why or f"it took longer than {self.seconds:.0f} s"
        elif passed > QUIET and not (self._told or self.why):
            self._told = True
            note("looking through what this session left for git to run. Ctrl-C stops that, and lists the rest")
        return bool(self.why)


@contextmanager
def stopped_by_signals(deadline: Deadline) -> Iterator[None]:
    """Let Ctrl-C and the signals that end a program stop the look, instead of what they did before."""
    while signal.sigtimedwait(_SIGNALS, 0):
        # It came while the session ran, and was for Claude Code.
        pass
    handlers = {number: signal.signal(number, lambda *_: deadline.stop()) for number in _SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
