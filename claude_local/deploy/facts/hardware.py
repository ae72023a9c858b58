"""The machine's hardware, as far as it decides which image is built and which model fits."""

from __future__ import annotations

from pyinfra.api import FactBase, QuoteString, StringCommand

from claude_local.hardware import probe as hardware_probe
from claude_local.hardware.machine import Hardware


class MachineHardware(FactBase[Hardware]):
    """GPUs, processor, memory and free disk: one script, whatever tools there are. Needs no root."""

    def command(self, root: str = "") -> StringCommand:
        return StringCommand("sh", "-c", QuoteString(hardware_probe.PROBE), "sh", QuoteString(root))

    def process(self, output: list[str]) -> Hardware:
        return hardware_probe.parse(output)

    @staticmethod
    def default() -> Hardware:
        return Hardware()
