"""llama-server's log: scrolled, searched, filtered. It keeps its lines and the search when the server restarts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from claude_local.dashboard.signs import BAD, BUSY
from claude_local.fence.messages import printable
from claude_local.server.log import PROXIED

# Lines that are kept, and how many are dropped at once when there are more.
KEPT, DROPPED = 5000, 500
# Lines that tell whether two pieces of a log overlap.
_TAIL = 3
# Signs and styles of the levels; the other lines (I) are plain.
_LEVELS = {"E": "✗", "W": "▲"}
_STYLES = {"✗": Style.parse(BAD), "▲": Style.parse(BUSY)}
# A child's port, then minutes, seconds and their parts since its start, the level, the message.
_PARTS = re.compile(r"^(?:\[\d+\] )?(?P<minutes>\d+)\.(?P<seconds>\d\d)[\d.]* (?P<level>[A-Z]) (?P<message>.*)$")
_FOUND, _CURRENT, _PLAIN = Style.parse("bold underline"), Style.parse("bold reverse"), Style()


def shorten(line: str) -> str:
    """A line of the log in fewer columns: when, the level's sign, the message without what pads it."""
    if not (found := _PARTS.match(line)):
        return printable(line)
    level = _LEVELS.get(found["level"], " ")
    return f"{int(found['minutes']):3}:{found['seconds']} {level} {' '.join(printable(found['message']).split())}"


class LogView(ScrollView, can_focus=True):
    """The lines that are shown follow the log's end while the view is scrolled to it."""

    def __init__(self) -> None:
        super().__init__(id="log")
        self.border_title = "log"
        self.lines: list[str] = []
        self.shown: list[str] = []
        # As llama-server wrote them.
        self.last: list[str] = []
        self.term = ""
        self.following = True
        self.filtering = False
        self.current = -1

    def extend(self, lines: Sequence[str]) -> None:
        """Add lines at the end."""
        self.last = [*self.last, *lines][-_TAIL:]
        new = [shorten(line) for line in lines if PROXIED not in line]
        if not new:
            return
        self.lines += new
        if len(self.lines) > KEPT:
            del self.lines[: len(self.lines) - KEPT + DROPPED]
            self._choose()
        else:
            self.shown += [line for line in new if self._wanted(line)]
        self._measure(new)

    def catch_up(self, lines: Sequence[str]) -> list[str]:
        """Add those of the log's last ``lines`` that are not here yet, and return them."""
        for end in range(len(lines), 0, -1):
            if self.last and list(lines[max(0, end - _TAIL) : end]) == self.last:
                lines = lines[end:]
                break
        self.extend(lines)
        return list(lines)

    def search(self, term: str) -> None:
        """Mark what matches, whatever its case, and go to the last match. An empty term ends search and filter."""
        self.term, self.current = term.lower(), -1
        self.filtering = self.filtering and bool(term)
        self._choose()
        self._measure(self.shown)
        self.find(-1)

    def find(self, step: int) -> None:
        """Go to the next (1) or the previous (-1) match, round the ends."""
        if matches := [number for number, line in enumerate(self.shown) if self.term and self.term in line.lower()]:
            if self.current < 0:
                self.current = matches[-1 if step < 0 else 0]
            elif step > 0:
                self.current = next((number for number in matches if number > self.current), matches[0])
            else:
                self.current = next((number for number in reversed(matches) if number < self.current), matches[-1])
            self.scroll_to(y=max(0, self.current - self.size.height // 2), animate=False)
        self._tell(len(matches))
        self.refresh()

    def filter(self) -> None:
        """Show only the lines that match, or all again."""
        self.filtering = not self.filtering and bool(self.term)
        self.search(self.term)

    def _wanted(self, line: str) -> bool:
        return not self.filtering or self.term in line.lower()

    def _choose(self) -> None:
        self.shown = [line for line in self.lines if self._wanted(line)]

    def _measure(self, new: Sequence[str]) -> None:
        """Fit the size to what is shown, and stay at the end."""
        self.virtual_size = Size(max(self.virtual_size.width, *map(len, new), 1), len(self.shown))
        if self.following:
            self.scroll_end(animate=False, x_axis=False)
        if self.term:
            self._tell(sum(self.term in line.lower() for line in self.shown))
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if new_value >= self.max_scroll_y or new_value < old_value:
            self.following = new_value >= self.max_scroll_y

    def on_resize(self) -> None:
        """Stay at the end."""
        if self.following:
            self.call_after_refresh(self.scroll_end, animate=False, x_axis=False)

    def _tell(self, count: int) -> None:
        only = ", only these" if self.filtering else ""
        self.border_subtitle = f"/{self.term}: {count} lines{only}; n N f" if self.term else ""

    def render_line(self, y: int) -> Strip:
        number = self.scroll_offset.y + y
        if number >= len(self.shown):
            return Strip.blank(self.size.width, self.rich_style)
        line = self.shown[number]
        style = self.rich_style + _STYLES.get(line[7:8], _PLAIN)
        segments = [Segment(line, style)]
        if self.term and self.term in line.lower():
            mark = _CURRENT if number == self.current else _FOUND
            parts = re.split(f"({re.escape(self.term)})", line, flags=re.IGNORECASE)
            segments = [Segment(part, style + mark if at % 2 else style) for at, part in enumerate(parts)]
        strip = Strip(segments)
        return strip.crop_extend(self.scroll_offset.x, self.scroll_offset.x + self.size.width, self.rich_style)
