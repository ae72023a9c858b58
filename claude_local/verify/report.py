"""A run as it is observed (rows, and what a slow check is doing) and as it is kept (JSON)."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from claude_local.verify.checks import Check, Row
from claude_local.verify.display import totals

# Seconds after which a check counts as slow, and between two reports about it from then on.
PATIENCE, INTERVAL = 15.0, 1.0


def as_json(
    rows: Sequence[Row], *, deep: bool, only: Sequence[str], seconds: float, changed: bool = False
) -> dict[str, Any]:
    """The report as one JSON object (``seconds`` are wall-clock seconds, ``finished`` is UTC)."""
    return {
        "ok": not any(row.status == "FAIL" for row in rows),
        "totals": totals(rows),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 1),
        "deep": deep,
        "only": list(only),
        "changed": changed,
        "rows": [{**asdict(row), "seconds": round(row.seconds, 2)} for row in rows],
    }


def write_atomically(path: Path, document: dict[str, Any]) -> None:
    """Write ``document`` to ``path`` (mode 0600); a reader sees the old or the new report, never a part of one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(prefix=path.name + ".", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2, ensure_ascii=False)
            file.write("\n")
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


class Reporter:
    """Observes a run. ``show_row`` gets each finished row.

    ``show_running`` gets the id, the detail and the seconds of a check that is slow, first after ``patience`` seconds.
    """

    def __init__(
        self,
        show_row: Callable[[Row], None],
        show_running: Callable[[str, str, float], None],
        *,
        patience: float = PATIENCE,
        interval: float = INTERVAL,
    ) -> None:
        self.show_row, self.show_running = show_row, show_running
        self.patience, self.interval = patience, interval
        self._detail = ""
        self._ended: threading.Event | None = None
        self._ticker: threading.Thread | None = None

    def started(self, check: Check) -> None:
        """``check`` begins."""
        self._detail, self._ended = "", threading.Event()
        self._ticker = threading.Thread(target=self._tick, args=(check, self._ended), daemon=True)
        self._ticker.start()

    def detail(self, text: str) -> None:
        """What the running check is doing now."""
        self._detail = text

    def _tick(self, check: Check, ended: threading.Event) -> None:
        begin, pause = time.monotonic(), self.patience
        while not ended.wait(pause):
            self.show_running(check.id, self._detail, time.monotonic() - begin)
            pause = self.interval

    def pause(self) -> None:
        """Report no more about the running check."""
        if self._ended is not None and self._ticker is not None:
            self._ended.set()
            self._ticker.join(timeout=5)
            self._ended = self._ticker = None

    def finished(self, row: Row) -> None:
        """A check has ended."""
        self.pause()
        self.show_row(row)
