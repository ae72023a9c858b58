"""The machine's hardware: it decides which image is built and which model fits."""

from __future__ import annotations

from pyinfra.api import FactBase, StringCommand

from claude_local.deploy import shell
from claude_local.hardware import probe
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
