"""How rows are shown (a line as each check ends, a heartbeat while a slow one runs, a table) and kept (JSON)."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from claude_local.verify.checks import Check, Row

COLOURS = {"PASS": "green", "FAIL": "bold red", "SKIP": "yellow"}
# Seconds between two lines about a slow check where there is no terminal for a spinner.
HEARTBEAT = 15.0


def totals(rows: Sequence[Row]) -> str:
    """The last line: ``N passed, N failed, N skipped``."""
    count = Counter(row.status for row in rows)
    return f"{count['PASS']} passed, {count['FAIL']} failed, {count['SKIP']} skipped"


def as_json(rows: Sequence[Row], *, deep: bool, only: Sequence[str], seconds: float) -> dict[str, Any]:
    """The report as one JSON object (``seconds`` are wall-clock seconds, ``finished`` is UTC)."""
    return {
        "ok": not any(row.status == "FAIL" for row in rows),
        "totals": totals(rows),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 1),
        "deep": deep,
        "only": list(only),
        "rows": [
            {
                "id": row.id,
                "title": row.title,
                "status": row.status,
                "evidence": row.evidence,
                "fix": row.fix,
                "seconds": round(row.seconds, 2),
            }
            for row in rows
        ],
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
    """Shows a run on ``console``: with a spinner on a terminal, with a line every HEARTBEAT seconds in a pipe."""

    def __init__(self, console: Console, count: int, heartbeat: float = HEARTBEAT) -> None:
        self.console = console
        self.count = count
        self.heartbeat = heartbeat
        self._number = 0
        self._status = console.status("") if console.is_terminal else None
        self._detail = ""
        self._quiet: threading.Event | None = None
        self._ticker: threading.Thread | None = None

    def started(self, check: Check) -> None:
        """Show that ``check`` begins."""
        self._detail = ""
        if self._status is not None:
            self._status.update(Text(check.title))
            self._status.start()
            return
        self._quiet = threading.Event()
        self._ticker = threading.Thread(target=self._tick, args=(check, self._quiet), daemon=True)
        self._ticker.start()

    def detail(self, text: str) -> None:
        """Show what the running check is doing now."""
        self._detail = text
        if self._status is not None:
            self._status.update(Text(text))

    def _tick(self, check: Check, quiet: threading.Event) -> None:
        begin = time.monotonic()
        while not quiet.wait(self.heartbeat):
            passed = time.monotonic() - begin
            about = f": {self._detail}" if self._detail else ""
            self.console.print(Text(f"  ..   {check.id}{about} ({passed:.0f} s)", style="dim"))

    def pause(self) -> None:
        """Stop the spinner or the heartbeat."""
        if self._status is not None:
            self._status.stop()
        if self._quiet is not None and self._ticker is not None:
            self._quiet.set()
            self._ticker.join(timeout=5)
            self._quiet = self._ticker = None

    def finished(self, row: Row) -> None:
        """Show the finished row with its fix."""
        self.pause()
        self._number += 1
        line = Text()
        line.append(f"{row.status}", style=COLOURS[row.status])
        line.append(f"  {self._number:>2}/{self.count}  {row.id}  ")
        line.append(row.evidence)
        if row.seconds >= 1:
            line.append(f"  ({row.seconds:.1f} s)", style="dim")
        self.console.print(line, soft_wrap=True)
        if row.fix:
            self.console.print(Text(f"      fix: {row.fix}", style="bold"), soft_wrap=True)

    def table(self, rows: Sequence[Row]) -> None:
        """Show all rows as a table."""
        table = Table(title="verify", title_justify="left", show_edge=False, pad_edge=False)
        table.add_column("")
        table.add_column("check", no_wrap=True)
        table.add_column("what", ratio=2)
        table.add_column("evidence", ratio=3, overflow="fold")
        table.add_column("s", justify="right", no_wrap=True)
        for row in rows:
            evidence = Text(row.evidence)
            if row.fix:
                evidence.append(f"\nfix: {row.fix}", style="bold")
            table.add_row(
                Text(row.status, style=COLOURS[row.status]),
                Text(row.id),
                Text(row.title),
                evidence,
                f"{row.seconds:.1f}",
            )
        self.console.print()
        self.console.print(table)
