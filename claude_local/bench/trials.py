"""Tries other flags of llama-server on a machine without a GPU, one at a time, with short requests.

A trial is a section of presets.ini. When it is asked to read the file again, the router unloads a model whose section
has changed, and forgets one whose section is gone. So trials run in the deployed container, under its memory limit.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from claude_local.bench.measure import PATIENCE, Bench
from claude_local.models.stored import sections
from claude_local.server import presets
from claude_local.server.client import LlamaClient, ServerError

# Tokens of the prompt, of the answer, and of the context that holds both.
PROMPT, ANSWER, CONTEXT = 1024, 32, 2048
# The share by which a speed must differ to count.
GAIN = 0.05
# The share by which two runs with the same flags may differ.
DRIFT = 0.10
SECTION = "claude-local-trial"
# What a trial's section has not: the default profile's alias, and keys that keep prompts or unload an idle model.
LEFT_OUT = ("alias", "cache-disk", "cache-disk-limit", "stop-timeout", "sleep-idle-seconds")
# The deploy chooses the cache's type by the memory (decision 9). A trial only shows what it costs.
CHOSEN_BY_MEMORY = "cache-type-k"


@dataclass(frozen=True)
class Trial:
    """``flags``: what differs from the deploy's section, by the names that models.conf takes. ``prefill``, ``decode``:
    tokens a second, None where ``problem`` says why there are none."""

    flags: dict[str, str]
    prefill: float | None = None
    decode: float | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """For people: ``ubatch-size = 1024``."""
        return ", ".join(f"{key} = {value}" for key, value in self.flags.items()) or "as deployed"


def candidates(served: Mapping[str, str], cores: int, threads: int) -> list[dict[str, str]]:
    """The flags to try, each set alone. ``served``: the profile's section of presets.ini. ``cores``, ``threads``:
    physical cores and hardware threads of the machine."""
    # llama-server's own default is one thread for each physical core.
    counts = [cores - 1] if cores > 2 else []
    tried = [{"threads": str(count)} for count in (*counts, cores, threads)]
    tried += [{"ubatch-size": size} for size in ("256", "512", "1024")]
    small = served.get("cache-type-v", "f16") not in ("f16", "f32", "bf16")
    # llama-server needs flash attention for values of such a type.
    tried += [{"flash-attn": value} for value in ("on", "off") if not (small and value == "off")]
    tried += [] if small else [{"cache-type-k": "q8_0", "cache-type-v": "q8_0"}]
    usual = {"threads": str(cores), "ubatch-size": "512", "flash-attn": "on", **served}
    usual["flash-attn"] = usual["flash-attn"].replace("auto", "on")
    return [flags for at, flags in enumerate(tried) if flags not in tried[:at] and not flags.items() <= usual.items()]


class Trials:
    """A context manager. Inside, :meth:`run` measures ``profile`` on the router behind ``server``; at the end,
    presets.ini (``path``) is as before, and the router has read it."""

    def __init__(self, server: LlamaClient, path: Path, profile: str) -> None:
        self._server = server
        self._path = path
        self._text = path.read_text()
        self.served = sections(self._text).get(profile, {})
        self.build = ""

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._write(self._text)
        with suppress(ServerError):
            self._read_again()

    def _write(self, text: str) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(text)
        shutil.copymode(self._path, new)
        os.replace(new, self._path)

    def _read_again(self) -> None:
        self._server.json("GET", "/models?reload=1", timeout=PATIENCE)

    def run(self, flags: dict[str, str]) -> Trial:
        """Load the model with ``flags`` and measure it. Raises ServerError where the router does not answer."""
        values = {key: value for key, value in self.served.items() if key not in LEFT_OUT}
        values |= {"ctx-size": str(CONTEXT), "cache-ram": "0", **flags}
        self._write(presets.with_section(self._text, SECTION, values))
        self._read_again()
        try:
            bench = Bench(self._server, SECTION)
            self.build = bench.build
            bench.request(64, 2, reuse=False)
            turn = bench.request(PROMPT, ANSWER, reuse=False)
        except ServerError as error:
            if error.status is None:
                raise
            return Trial(flags, problem=str(error))
        return Trial(flags, turn.read_speed, turn.decode_speed)


def steady(trials: Sequence[Trial]) -> bool:
    """Whether the runs with the deploy's flags are alike, so that the others can be compared with them."""
    return all(max(kind) <= min(kind) * (1 + DRIFT) for kind in zip(*_deployed(trials), strict=True))


def _deployed(trials: Sequence[Trial]) -> list[tuple[float, float]]:
    """The speeds of the runs with the deploy's flags."""
    return [(each.prefill, each.decode) for each in trials if not each.flags and each.prefill and each.decode]


def better(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that are faster than every run with the deploy's flags, the best one for each flag.

    Faster: reading or writing is by more than GAIN, and the other is at most so much slower. None where the runs with
    the deploy's flags failed or are not steady.
    """
    base = [max(kind) for kind in zip(*_deployed(trials), strict=True)]
    if not base or not steady(trials):
        return []
    found: dict[str, tuple[float, Trial]] = {}
    for each in trials:
        if not each.flags or not each.prefill or not each.decode or CHOSEN_BY_MEMORY in each.flags:
            continue
        reads, writes = each.prefill / base[0], each.decode / base[1]
        if max(reads, writes) > 1 + GAIN and min(reads, writes) >= 1 - GAIN:
            key = next(iter(each.flags))
            found[key] = max(found.get(key, (0.0, each)), (reads * writes, each), key=lambda pair: pair[0])
    return [each for _, each in found.values()]


def as_data(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The trials for JSON."""
    return [
        {
            "flags": each.flags,
            "prefill": each.prefill and round(each.prefill, 2),
            "decode": each.decode and round(each.decode, 2),
            "problem": each.problem,
        }
        for each in trials
    ]
