"""Signs beside the colours, bars, and the same for a terminal that shows ASCII only."""

from __future__ import annotations

from pathlib import Path

from rich.cells import cell_len
from rich.segment import Segment
from rich.text import Text
from textual.color import Color
from textual.filter import LineFilter

GOOD, BUSY, BAD, CALM, FAINT = "#87d75f", "#ffaf5f", "bold #ff5f5f", "#5fafd7", "#9e9e9e"

# The sign and the colour of each state.
STATES = {
    "ready": ("●", GOOD), "loading": ("◔", BUSY), "switching": ("⇄", BUSY), "connecting": ("◔", CALM),
    "stopped": ("■", CALM), "idle": ("○", CALM), "sleeping": ("☾", CALM),
    "failed": ("✗", BAD), "down": ("✗", BAD), "manager gone": ("✗", BAD), "docker gone": ("✗", BAD),
}  # fmt: skip

# What a terminal without Unicode shows for each sign, bar and frame. Anything else is a question mark.
_ASCII = str.maketrans(
    {
        "●": "*", "◔": "~", "⇄": ">", "■": "#", "○": "o", "☾": "z", "✗": "x", "✓": "+", "▲": "!", "↳": "`",
        "█": "#", "▓": "=", "▒": "%", "░": "-", "·": ".", "…": "~", "›": ">", "—": "-", "°": " ", "\xa0": " ",
        "│": "|", "─": "-", "╭": ".", "╮": ".", "╰": "'", "╯": "'", "▏": "|", "▕": "|", "▎": "|", "▌": "|", "▐": "|",
        "┃": "|", "━": "-", "▔": "-", "▁": "_", "▂": "_", "▃": "_", "▄": "_", "▅": "_", "▆": "_", "▇": "_", "▀": "-",
        "\N{BLACK MEDIUM SQUARE}": "#",
    }
)  # fmt: skip


class Ascii(LineFilter):
    """Puts ASCII in the place of each other character, as wide as it was."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment if segment.text.isascii() else Segment(to_ascii(segment.text), segment.style, segment.control)
            for segment in segments
        ]


def to_ascii(text: str) -> str:
    """``text`` as Ascii shows it."""
    return "".join(each if each.isascii() else "?" * cell_len(each) for each in text.translate(_ASCII))


def locale_is_ascii(environment: Path = Path("/proc/self/environ")) -> bool:
    """Whether the locale that this program was started in cannot show Unicode. Python itself has changed os.environ:
    it takes UTF-8 for the locale C."""
    given = dict(
        word.split("=", 1) for word in environment.read_bytes().decode(errors="replace").split("\0") if "=" in word
    )
    locale = next(filter(None, (given.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))), "C")
    return "utf8" not in locale.lower().replace("-", "")


def bar(width: int, *parts: tuple[float, str, str]) -> Text:
    """A bar of ``width`` cells. Each part: its share (0 to 1), its character and style; dots fill the rest."""
    text, done = Text(), 0.0
    for share, character, style in parts:
        before, done = round(width * done), min(1.0, done + share)
        text.append(character * (round(width * done) - before), style)
    return text.append("·" * (width - len(text)), FAINT)


def gib(size: int) -> str:
    """Bytes as ``22.4``, in GiB."""
    return f"{size / (1 << 30):.1f}"


def tokens(count: int) -> str:
    """``12,900``"""
    return f"{count:,}"
