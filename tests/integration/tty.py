"""A pseudo-terminal that runs a shell or claude-local, with its screen and every byte it received."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pexpect
import pyte

from claude_local.verify import processes
from claude_local.verify.terminal import Screen, at_prompt

ROWS, COLUMNS = 40, 100
PROMPT = "shell-is-ready> "
# Seconds that anything here may take: a guard, so it is long enough for a busy machine.
LONGEST = 90.0


class Tty:
    """A terminal of ROWS x COLUMNS with ``argv`` on it, which owns it as its session's leader; a context manager."""

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, become: Callable[[], None] | None = None
    ) -> None:
        self.raw = b""
        self.ended = False
        self._screen = Screen(COLUMNS, ROWS, self.send)
        self._stream = pyte.ByteStream(self._screen)
        # Through env: pexpect splits a program without arguments at its spaces.
        self.child: Any = pexpect.spawn(
            "/usr/bin/env", list(argv), env=dict(env), cwd=cwd, dimensions=(ROWS, COLUMNS), preexec_fn=become
        )

    def __enter__(self) -> Tty:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def send(self, keys: str) -> None:
        """Press keys, all at once."""
        with suppress(OSError):
            self.child.send(keys)

    def type(self, words: str) -> None:
        """Type ``words`` at Claude Code's prompt, wait until they appear, then press Enter."""
        self.send(words)
        self.wait(lambda: words[-30:] in self.text, f"the typed {words!r}")
        self.send("\r")

    def press_until(self, key: str, seen: Callable[[], bool], what: str) -> None:
        """Press ``key`` until ``seen`` is true. A dialog ignores keys for a moment after it is drawn."""
        for _ in range(40):
            self.send(key)
            with suppress(AssertionError):
                self.wait(seen, what, 1)
                # An earlier press may be answered late, and a dialog may be drawn once more, as at its start.
                self.read_for(1)
                if seen():
                    return
        raise AssertionError(f"pressed {key!r} forty times for {what}; the screen:\n{self.text}")

    def read(self, seconds: float = 0.1) -> None:
        """Read output for ``seconds``, at least once."""
        try:
            shown: bytes = self.child.read_nonblocking(65536, timeout=seconds)
        except pexpect.TIMEOUT:
            return
        except (pexpect.EOF, OSError):
            self.ended = True
            return
        self.raw += shown
        self._stream.feed(shown)

    def read_for(self, seconds: float) -> None:
        """Read all output for ``seconds``."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.ended:
            self.read()

    @property
    def lines(self) -> list[str]:
        """The lines of the screen that are not empty."""
        return [line.rstrip() for line in self._screen.display if line.strip()]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait(self, seen: Callable[[], bool], what: str, seconds: float = LONGEST) -> None:
        """Read until ``seen`` is true. Raises AssertionError, with the screen, after ``seconds`` or at its end."""
        until = time.monotonic() + seconds
        while not seen():
            assert time.monotonic() < until, f"waited {seconds:.0f} s for {what}; the screen:\n{self.text}"
            assert not self.ended, f"waited for {what}, but the program ended; the screen:\n{self.text}"
            self.read()

    def wait_for(self, *words: str, seconds: float = LONGEST) -> None:
        """Read until one of ``words`` is on the screen."""
        self.wait(lambda: any(word in self.text for word in words), f"one of {words}", seconds)

    def wait_for_prompt(self, seconds: float = LONGEST) -> None:
        """Read until Claude Code shows its input line."""
        self.wait(lambda: at_prompt(self.lines), "Claude Code's prompt", seconds)

    def shell(self, command: str) -> int:
        """Run a command in the terminal's shell. Returns the number of bytes received before it."""
        before = len(self.raw)
        self.send(command + "\r")
        return before

    def shell_status(self) -> int:
        """The exit status of the shell's last command. The shell must be at its prompt."""
        before = self.shell("echo status=$?=")
        self.wait(lambda: re.search(rb"status=\d+=", self.raw[before:]) is not None, "the status")
        found = re.findall(rb"status=(\d+)=", self.raw[before:])
        self.wait_for_shell(before)
        return int(found[-1])

    def wait_for_shell(self, since: int, seconds: float = LONGEST) -> None:
        """Read until the shell has shown its prompt after the first ``since`` bytes."""
        self.wait(lambda: PROMPT.encode() in self.raw[since:], "the shell's prompt", seconds)

    def shown(self, since: int) -> str:
        """The output after the first ``since`` bytes, with escape sequences."""
        return self.raw[since:].decode(errors="replace")

    def words(self) -> str:
        """The whole output without escape sequences. A cursor movement counts as a space."""
        moved = re.sub(r"\x1b\[\d*[CG]", " ", self.shown(0))
        return re.sub(r"\x1b(\[[0-9;?<>=]*[A-Za-z]|\][^\x07]*\x07|.)", "", moved)

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the window."""
        self._screen.resize(rows, columns)
        self.child.setwinsize(rows, columns)

    def hang_up(self) -> None:
        """Close the terminal, as if its window was closed."""
        self.child.ptyproc.fileobj.close()

    def wait_for_end(self, seconds: float = LONGEST) -> int:
        """The exit status of the program, negative for a signal."""
        self.wait_until_ended(seconds)
        self.child.wait()
        return -self.child.signalstatus if self.child.signalstatus else int(self.child.exitstatus)

    def wait_until_ended(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.ended:
            assert time.monotonic() < until, f"it has not ended after {seconds:.0f} s; the screen:\n{self.text}"
            self.read()

    def close(self) -> None:
        """End the program and its process group."""
        if self.child.pid is not None and self.child.isalive():
            processes.stop_group(self.child.pid, lambda: not self.child.isalive(), patience=2)
        with suppress(pexpect.ExceptionPexpect, OSError):
            self.child.close(force=True)
