"""How fast a model answers on a processor: expected tokens a second, before anything is downloaded. Pure.

Reading a prompt is bound by the cores: each token goes through the weights (only the last one through the output's),
its attention looks at all tokens before it, and linear layers change their state. Writing is bound by the memory or the
cores, whichever is slower. The constants were measured with benchmarks/cpu_speed.py and ``llama-local bench``;
docs/performance.md has the tables. They hold to about 30 %.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from claude_local.models.architecture import Architecture
from claude_local.models.memory import Serving

# Parameters times tokens a second that one core reads in 4-bit weights: with wide instructions and with AVX2, of dense
# models and of mixtures of experts.
DENSE = {True: 105e9, False: 84e9}
EXPERTS = {True: 52e9, False: 30e9}
# What is left of reading and writing where a row's length is no multiple of 256. Such rows cannot have the 4-bit types:
# their files have Q5_0, which llama.cpp does not repack for the processor.
ODD_ROWS = 0.65
# Multiplications a second of one core's attention while it reads, with the KV cache in tiles.
ATTENTION = {True: 26e9, False: 16e9}
# Numbers of linear layers' states that one core changes in a second.
STATES = {True: 1.4e9, False: 1.1e9}
# How many times slower attention is with a cache that is not read in tiles, and while one token is written.
UNTILED = 4
WRITING = 2
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
    """``prefill``: tokens that are read in a second, of a prompt of ``prompt`` tokens. ``decode``: tokens of an answer
    to it that are written in a second."""

    prompt: int
    prefill: float
    decode: float

    @property
    def first_answer(self) -> float:
        """Seconds until the first token of the answer, when nothing of the prompt was read before."""
        return self.prompt / self.prefill + 1 / self.decode

    def line(self) -> str:
        """For people."""
        return (
            f"expected on this processor: reads {self.prefill:.0f} and writes {self.decode:.0f} tokens a second; "
            f"first answer after {self.first_answer:.0f} s, later sessions sooner (warm start)"
        )


def expected(architecture: Architecture, weights: int, processor: Processor, serving: Serving, prompt: int) -> Speed:
    """The speed of a model whose files have ``weights`` bytes: reading a prompt of ``prompt`` tokens, and writing after
    it. Raises ArchitectureError."""
    total, active = architecture.parameters
    wide, cores = processor.wide, processor.cores * (TOGETHER if processor.cores > 2 else 1.0)
    odd = ODD_ROWS if architecture.width % 256 and not architecture.experts_used else 1.0
    weights_rate = (EXPERTS if architecture.experts_used else DENSE)[wide] * odd
    attention_rate = ATTENTION[wide] / (1 if serving.tiled else UNTILED)
    reading = (active - architecture.output_parameters) / weights_rate
    # A token of the prompt has half of it before it, on average.
    reading += architecture.attention(prompt // 2) / attention_rate
    reading += architecture.state_numbers * sum(each.kind == "linear" for each in architecture.layers) / STATES[wide]
    memory = min((processor.bandwidth or BANDWIDTH) * TOGETHER, CORE_WRITES * odd * processor.cores)
    writing = (weights * active / total if total else weights) / memory
    writing += architecture.attention(prompt) * WRITING / attention_rate / cores
    return Speed(prompt, cores / reading, 1 / writing)
