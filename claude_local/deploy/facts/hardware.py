"""The machine's hardware: it decides which image is built and which model fits."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pyinfra.api import FactBase, StringCommand

from claude_local.deploy import shell
from claude_local.hardware import bandwidth, probe
from claude_local.hardware.machine import Hardware


class MachineHardware(FactBase[Hardware]):
    """GPUs, processor, memory and free disk, from one script. It needs no root and no particular tool.

    + root: folder to read /proc and /sys below, for tests
    """

    def command(self, root: str = "") -> StringCommand:
        return shell.script(probe.PROBE, root)

    def process(self, output: list[str]) -> Hardware:
        return probe.parse(output)

    @staticmethod
    def default() -> Hardware:
        """A machine that reports nothing."""
        return Hardware()


class Bandwidth(NamedTuple):
    """``rate``: bytes a second that all cores read from memory. ``stored``: an earlier deploy measured it."""

    rate: int
    stored: bool


class MemoryBandwidth(FactBase[Bandwidth | None]):
    """How fast the memory is: what an earlier deploy remembered, else a measurement of a second. None without Python.

    + path: the file that remembers it
    """

    script = 'test -s "$1" && echo "stored $(cat "$1")" || echo "measured $(python3 -I -c "$2")"'

    def command(self, path: str) -> StringCommand:
        return shell.script(self.script, path, Path(bandwidth.__file__).read_text(encoding="utf-8"))

    def process(self, output: list[str]) -> Bandwidth | None:
        how, _, rate = (output or [""])[0].partition(" ")
        return Bandwidth(int(rate), how == "stored") if rate.isdigit() else None

    @staticmethod
    def default() -> Bandwidth | None:
        """A machine without Python."""
        return None
