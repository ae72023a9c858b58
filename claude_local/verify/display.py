"""How verify looks on a terminal or in a log."""

from __future__ import annotations

import os
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from claude_local.verify.checks import Row

COLOURS = {"PASS": "32", "FAIL": "1;31", "SKIP": "33"}
# Seconds between two lines about the same check in a log.
LOG_INTERVAL = 60.0
# Columns of evidence that must fit beside a long id; with fewer it goes to lines of its own.
NARROW = 16
# Columns of a terminal that does not know its size.
COLUMNS = 80
_ERASE = "\r\x1b[K"


def totals(rows: Sequence[Row]) -> str:
    """``74 checks passed``, ``70 checks passed, 4 skipped`` or ``3 of 74 checks failed, 4 skipped``."""
    count = Counter(row.status for row in rows)
    number = len(rows) if count["FAIL"] else count["PASS"]
    checks = f"{number} check{'' if number == 1 else 's'}"
    text = f"{count['FAIL']} of {checks} failed" if count["FAIL"] else f"{checks} passed"
    return text + (f", {count['SKIP']} skipped" if count["SKIP"] else "")


def _wrap(text: str, columns: int | None, indent: str) -> list[str]:
    if columns is None:
        return [indent + text]
    width = max(columns, len(indent) + NARROW)
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


class Display:
    """Writes the rows of ``count`` checks to ``stream``, at most ``columns`` wide (None: not cut, not wrapped).

    On a terminal a slow check has one line that is rewritten, in a log a line a minute. ``verbose`` wraps long evidence
    that would be cut.
    """

    def __init__(self, stream: TextIO, count: int, *, verbose: bool = False) -> None:
        self.stream, self.count, self.verbose = stream, count, verbose
        self.columns: int | None = None
        if stream.isatty():
            self.columns = os.get_terminal_size(stream.fileno()).columns or COLUMNS
        self.colour = self.columns is not None and not os.environ.get("NO_COLOR")
        self.rewrites = self.columns is not None and os.environ.get("TERM") != "dumb"
        self.rows: list[Row] = []
        self._live = False
        self._next_log_line = 0.0

    def line(self, text: str) -> None:
        """Write one line."""
        self.clear()
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def clear(self) -> None:
        """Erase the line about a slow check."""
        if self._live:
            self.stream.write(_ERASE)
            self._live = False

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if style and self.colour else text

    def running(self, check: str, detail: str, seconds: float) -> None:
        """Show that ``check`` has been running for ``seconds``."""
        text = f"  ..  {check}" + (f": {detail}" if detail else "")
        after = f"  ({seconds:.0f} s)"
        if self.rewrites:
            room = (self.columns or 0) - len(after) - 1
            self.stream.write(f"{_ERASE}{self._styled(_cut(text, room) + after, '2')}")
            self.stream.flush()
            self._live = True
        elif seconds >= self._next_log_line:
            self._next_log_line = seconds + LOG_INTERVAL
            self.line(text + after)

    def row(self, row: Row) -> None:
        """Show a finished row. Failures show their fix in ``closing``."""
        self.rows.append(row)
        self._next_log_line = 0.0
        head = f"  {len(self.rows):>{len(str(self.count))}}/{self.count}  {row.id}  "
        tail = f"  ({row.seconds:.1f} s)"
        status = self._styled(row.status, COLOURS[row.status])
        room = None if self.columns is None else self.columns - len(row.status + head + tail)
        if room is None or len(row.evidence) <= room:
            return self.line(f"{status}{head}{row.evidence}{tail}")
        if row.status == "PASS" and not self.verbose and room >= NARROW:
            return self.line(f"{status}{head}{_cut(row.evidence, room)}{tail}")
        self.line(status + _cut(head.rstrip() + tail, self.columns and self.columns - len(row.status)))
        indent = " " * 6
        whole = self.verbose or row.status != "PASS"
        for line in _wrap(row.evidence, self.columns, indent) if whole else [_cut(indent + row.evidence, self.columns)]:
            self.line(line)
        return None

    def closing(self, report: str, left_out: int = 0) -> list[str]:
        """The last lines of a run: ``report``'s path, the totals, and each failure with its fix.

        ``left_out``: how many checks passed before and were not run again.
        """
        failed = [row for row in self.rows if row.status == "FAIL"]
        style = COLOURS["FAIL" if failed else "PASS"]
        lines = [f"All evidence: {report}"]
        if left_out:
            lines.append(f"{left_out} more passed before on the same deploy; ./provision verify runs them again")
        lines.append(self._styled(totals(self.rows) + (":" if failed else ""), style))
        for row in failed:
            lines += ["", *_wrap(f"{row.id}: {row.title}", self.columns, "  ")]
            lines += _wrap(row.evidence, self.columns, "    ")
            # A command stays on one line, so that it can be copied. A remark about it goes to the next one.
            command, *remarks = re.split(r"\s{2,}", row.fix, maxsplit=1)
            lines.append(self._styled(f"    fix: {command}", "1"))
            for remark in remarks:
                lines += _wrap(remark, self.columns, " " * 9)
        return lines


def _cut(text: str, room: int | None) -> str:
    return text if room is None or len(text) <= room else text[: max(room - 1, 0)].rstrip() + "…"
