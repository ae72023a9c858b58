"""Drive a program in a pseudo-terminal, and read its screen."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pexpect
import pyte

from claude_local.verify import processes

COLUMNS, ROWS = 120, 40


class Screen(pyte.Screen):
    """A screen that answers a program's questions (the terminal's type, the cursor's position), as a real one does."""

    def __init__(self, columns: int, rows: int, answer: Callable[[str], None]) -> None:
        super().__init__(columns, rows)
        self._answer = answer

    def write_process_input(self, data: str) -> None:
        """Called by pyte with the answer."""
        self._answer(data)


class Terminal:
    """A program on a pseudo-terminal with a screen of COLUMNS x ROWS; a context manager that ends it."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str) -> None:
        self._screen = Screen(COLUMNS, ROWS, self.send)
        self._stream = pyte.ByteStream(self._screen)
        self.ended = False
        self._child = pexpect.spawn(
            argv[0], list(argv[1:]), env=dict(env), cwd=cwd, dimensions=(ROWS, COLUMNS), timeout=5
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def send(self, text: str) -> None:
        """Type ``text``."""
        with suppress(OSError):
            self._child.send(text)

    def enter(self, words: str) -> None:
        """Type ``words`` at the prompt and press Enter; press it again if it was lost.

        Claude Code takes an Enter that comes together with the words as part of a paste, and an Enter in a list of
        suggestions as a completion.
        """
        self.send(words)
        self.wait_for(lambda lines: typed(lines).startswith(words), 10)
        for _ in range(3):
            self.read(0.5)
            self.send("\r")
            if self.wait_for(lambda lines: not typed(lines).startswith(words), 10) or self.ended:
                return

    def read(self, seconds: float) -> None:
        """Read what the program shows during ``seconds``."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self.ended:
            try:
                shown: Any = self._child.read_nonblocking(65536, timeout=min(left, 0.2))
                self._stream.feed(shown)
            except pexpect.TIMEOUT:
                continue
            except (pexpect.EOF, OSError):
                self.ended = True

    def wait_for(self, condition: Callable[[list[str]], bool], seconds: float) -> bool:
        """Read until ``condition`` holds for the screen's lines; False after ``seconds`` or when the program ends."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if condition(self.lines()):
                return True
            if self.ended:
                return False
            self.read(0.2)
        return condition(self.lines())

    def lines(self) -> list[str]:
        """The screen's lines that are not empty, top to bottom."""
        return [line.rstrip() for line in self._screen.display if line.strip()]

    def tail(self, count: int = 4) -> str:
        """The last lines on the screen, for a report."""
        return " | ".join(line.strip() for line in self.lines()[-count:]) or "an empty screen"

    def close(self) -> None:
        """End the program and its process group."""
        if self._child.pid is not None and self._child.isalive():
            processes.stop_group(self._child.pid, lambda: not self._child.isalive(), patience=2)
        with suppress(pexpect.ExceptionPexpect, OSError):
            self._child.close(force=True)


# What a first start must not ask: text on the screen -> what it asks for.
QUESTIONS = {
    r"Choose the text style|Let's get started": "the theme",
    r"Select login method|Login successful|Paste code here|sign in to your": "a login",
    r"Detected a custom API key": "whether to use an API key",
    r"auto mode (your|as your|the) default|Make auto mode": "whether auto mode should be the default",
    r"Security notes|Press Enter to continue": "a press of Enter on the security notes",
}
TRUST = re.compile(r"Accessing workspace|Do you trust the files|Quick safety check")
_RULE = re.compile(r"^\s*[─━╌]{20,}")
_CHOICE = re.compile(r"^\s*❯\s+(.*)$")


def question(lines: Sequence[str]) -> str | None:
    """What the first-run question on the screen asks for; None when there is no question."""
    text = "\n".join(lines)
    return next((what for pattern, what in QUESTIONS.items() if re.search(pattern, text)), None)


def asks_for_trust(lines: Sequence[str]) -> bool:
    """Whether the screen asks if the folder is trusted."""
    return TRUST.search("\n".join(lines)) is not None and any(_CHOICE.match(line) for line in lines)


def _input_line(lines: Sequence[str]) -> str | None:
    """The line with the prompt sign between two rules; None if the screen has none."""
    for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
        if re.match(r"^\s*❯", line) and _RULE.match(before) and _RULE.match(after):
            return line
    return None


def at_prompt(lines: Sequence[str]) -> bool:
    """Whether the screen shows the input line."""
    return _input_line(lines) is not None


def typed(lines: Sequence[str]) -> str:
    """The text in the input line."""
    return (_input_line(lines) or "").strip(" ❯\u00a0")


def choose(terminal: Terminal, word: str) -> bool:
    """Select the menu entry that holds ``word`` and press Enter; False when there is no such entry."""
    for _ in range(6):
        marked = [match[1] for line in terminal.lines() if (match := _CHOICE.match(line))]
        if marked and word in marked[0]:
            terminal.send("\r")
            return True
        terminal.send("\x1b[B")
        terminal.read(0.4)
    return False


def columns_environment() -> dict[str, str]:
    """The size of the screen, for programs that read it from the environment."""
    return {"COLUMNS": str(COLUMNS), "LINES": str(ROWS), "COLORTERM": os.environ.get("COLORTERM", "truecolor")}
