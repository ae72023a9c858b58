"""How fast a model answers on a processor: expected tokens a second, before anything is downloaded. Pure.

Reading a prompt is bound by the cores, writing by the memory or the cores, whichever is slower. The constants were
measured with benchmarks/cpu_speed.py; docs/performance.md has the table. They hold to about 30 %.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from claude_local.models.architecture import Architecture

# Parameters times tokens a second that one core reads of a prompt of some thousand tokens, in 4-bit weights: with wide
# instructions and with AVX2, of dense models and of mixtures of experts.
DENSE = {True: 80e9, False: 64e9}
EXPERTS = {True: 52e9, False: 30e9}
# Bytes of weights that one core goes through in a second while it writes.
CORE_WRITES = 16e9
# What is left of each core's speed when more than two work, and of the measured bandwidth.
TOGETHER = 0.8
# Bytes a second of a machine whose memory could not be measured: two channels of DDR4.
BANDWIDTH = 30e9
# Processor flags (/proc/cpuinfo) that make reading a prompt faster than AVX2 does.
WIDE = frozenset({"avx512f", "amx_int8", "avx_vnni"})


@dataclass(frozen=True)
class Processor:
    """``cores``: physical ones. ``wide``: it has AVX-512, AMX or AVX-VNNI. ``bandwidth``: bytes a second that all cores
    read from memory together; None: not measured."""

    cores: int = 1
    wide: bool = False
    bandwidth: float | None = None

    @classmethod
    def of(cls, cores: int, flags: Collection[str], bandwidth: float | None) -> Processor:
        """The processor with these ``flags`` of /proc/cpuinfo."""
        return cls(cores, bool(WIDE & set(flags)), bandwidth)


@dataclass(frozen=True)
class Speed:
    """``prefill``: tokens of a prompt read in a second. ``decode``: tokens of an answer written in a second."""

    prefill: float
    decode: float

    def first_answer(self, prompt: int) -> float:
        """Seconds until the first token of the answer to a prompt that was not read before."""
        return prompt / self.prefill + 1 / self.decode

    def line(self, prompt: int) -> str:
        """For people; ``prompt``: tokens of a session's first request."""
        return (
            f"expected on this processor: reads {self.prefill:.0f} and writes {self.decode:.0f} tokens a second; "
            f"first answer after {self.first_answer(prompt):.0f} s, later sessions sooner (warm start)"
        )


def expected(architecture: Architecture, weights: int, processor: Processor) -> Speed:
    """The speed of a model whose files have ``weights`` bytes. Raises ArchitectureError."""
    total, active = architecture.parameters
    together = TOGETHER if processor.cores > 2 else 1.0
    prefill = (EXPERTS if architecture.experts_used else DENSE)[processor.wide] * processor.cores * together / active
    read = weights * active / total if total else weights
    memory = (processor.bandwidth or BANDWIDTH) * TOGETHER
    decode = min(memory, CORE_WRITES * processor.cores) / read
    return Speed(prefill, decode)
