"""Lines for the person who watches a long step, and the exception that stops such a step."""

from __future__ import annotations

import io
import os
import time

MIB = 1 << 20
# Seconds between two lines of progress.
PROGRESS_INTERVAL = 2.0


class Stopped(BaseException):
    """A signal or a closed output asks to stop now. What is on the disk stays for the next run."""


def say(line: str) -> None:
    """Print one line. Raises Stopped when nobody reads it any more."""
    try:
        print(line, flush=True)
    except OSError as error:
        raise Stopped("the output was closed") from error


def short(name: str, width: int = 40) -> str:
    """A file's name cut to fit a line: ``qwen2.5-coder-1.5b…q4_k_m.gguf``."""
    name = os.path.basename(name)
    return name if len(name) <= width else f"{name[: width // 2 - 1]}…{name[-(width - width // 2) :]}"


class ProgressLines:
    """Lines like ``model.gguf  432.0/1117.3 MB  39%  43.0 MB/s  0:00:16``, one every PROGRESS_INTERVAL at most.

    rich does the sums. Its live display needs a terminal, and a deploy reads this output through a pipe.
    """

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        from rich import progress  # imported here: ``placement check`` runs in every deploy and shows no progress

        self._bar = progress.Progress(
            progress.TextColumn("{task.description} ", markup=False),
            progress.DownloadColumn(),
            progress.TaskProgressColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            auto_refresh=False,
        )
        self._task = self._bar.add_task(label, total=total, completed=done)
        self._last = time.monotonic()

    def update(self, done: int) -> None:
        """Report ``done`` bytes."""
        self._bar.update(self._task, completed=done)
        if time.monotonic() - self._last >= PROGRESS_INTERVAL:
            self._last = time.monotonic()
            say(self.line())

    def line(self) -> str:
        """The line for now."""
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=160).print(self._bar.get_renderable())
        return text.getvalue().strip()
