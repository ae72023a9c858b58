"""What the image depends on, on the workstation: the processor, and the source tree in the build context."""

from __future__ import annotations

from pyinfra.api import FactBase, QuoteString, StringCommand

from claude_local.facts.yes_or_no import YesOrNo


class CpuFlags(FactBase[list[str]]):
    """The flags of the first processor in /proc/cpuinfo (``flags`` on x86, ``Features`` on ARM)."""

    def command(self) -> str:
        return "grep -m1 -E '^(flags|Features)' /proc/cpuinfo || true"

    def process(self, output: list[str]) -> list[str]:
        return output[0].partition(":")[2].split()

    @staticmethod
    def default() -> list[str]:
        return []


class LlamaSource(YesOrNo):
    """Whether ``folder`` holds the pinned sources of a llama.cpp build; hashes all of it (0.3 s)."""

    def command(self, python: str, build: int, folder: str) -> StringCommand:
        return StringCommand(
            "test -x", QuoteString(python), "&&", QuoteString(python), "-m claude_local.runtime.source --check",
            str(int(build)), QuoteString(folder), "2>/dev/null && echo yes || true",
        )  # fmt: skip
