"""The machine as the dashboard shows it: NVIDIA's GPUs, processor and main memory. Sizes are bytes."""

from __future__ import annotations

import csv
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from claude_local.models.memory import MIB, Estimate

# nvidia-smi prints one line a GPU every PERIOD seconds; one process for all of them costs less than one each time.
PERIOD = 2
_FIELDS = "index,name,memory.used,memory.total,utilization.gpu,temperature.gpu,power.draw,power.limit"
NVIDIA_SMI = ("nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits", "-l", str(PERIOD))


@dataclass(frozen=True)
class Gpu:
    """``load`` in percent, ``temperature`` in degrees Celsius, ``power`` and ``limit`` in watts; None: not told."""

    index: int
    name: str
    used: int
    total: int
    load: float | None
    temperature: float | None
    power: float | None
    limit: float | None


def parse_gpu(line: str) -> Gpu | None:
    """A line of NVIDIA_SMI; None for anything else that it prints."""
    cells = next(csv.reader([line], skipinitialspace=True), [])
    if len(cells) != 8 or not cells[0].isdigit():
        return None
    used, total, *rest = map(_number, cells[2:])
    return Gpu(
        int(cells[0]),
        cells[1].removeprefix("NVIDIA ").removeprefix("GeForce "),
        int(used or 0) * MIB,
        int(total or 0) * MIB,
        *rest,
    )


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return float(text)
    return None


@dataclass(frozen=True)
class Host:
    """``cpu``: the share of all cores that was busy since the look before. ``mapped``: what llama-server maps of its
    files, which counts as free otherwise. ``docker``: whether its daemon runs. ``times``: busy and total, of /proc."""

    cpu: float
    cores: int
    total: int
    used: int
    mapped: int
    docker: bool
    times: tuple[int, int]


def look(before: Host | None = None, proc: Path = Path("/proc")) -> Host:
    """The machine now. Raises OSError without /proc."""
    numbers = [int(word) for word in (proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle, total = numbers[3] + numbers[4], sum(numbers)
    last = before.times if before else (0, 0)
    times = (total - idle, total)
    spent = max(times[1] - last[1], 1)
    memory = dict(line.split(":") for line in (proc / "meminfo").read_text().splitlines())
    size, available = (int(memory[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    mapped, docker = _processes(proc)
    return Host(
        (times[0] - last[0]) / spent, os.cpu_count() or 1, size, size - available + mapped, mapped, docker, times
    )


def _processes(proc: Path) -> tuple[int, bool]:
    """The bytes of files that llama-server has mapped into memory, and whether dockerd runs."""
    mapped, docker = 0, False
    for process in proc.iterdir():
        with suppress(OSError, ValueError, LookupError):
            if not process.name.isdigit():
                continue
            match (process / "comm").read_text():
                case "dockerd\n":
                    docker = True
                case "llama-server\n":
                    status = (process / "status").read_text()
                    mapped += int(status.split("RssFile:")[1].split()[0]) * 1024
    return mapped, docker


@dataclass(frozen=True)
class Parts:
    """How a memory is used, bytes."""

    weights: int
    cache: int
    compute: int
    others: int
    free: int


def gpu_parts(gpu: Gpu, gpus: list[Gpu], model: Estimate | None) -> Parts:
    """A GPU's memory. llama-server does not say what it has where, so the model's layers count by the GPU's size; of a
    model that lies partly in main memory no more than what is in use."""
    if model is None:
        return Parts(0, 0, 0, gpu.used, gpu.total - gpu.used)
    share = gpu.total / max(sum(each.total for each in gpus), 1)
    own = [int((model.weights - model.embedding + model.projector) * share), int(model.cache * share), model.compute]
    return _parts(own, gpu.used, gpu.total)


def host_parts(host: Host, model: Estimate | None) -> Parts:
    """Main memory, where the model lies that no GPU has."""
    own = [model.weights + model.projector, model.cache, model.compute] if model else [0, 0, 0]
    return _parts(own, host.used, host.total)


def _parts(own: list[int], used: int, total: int) -> Parts:
    if sum(own) > used:
        own = [part * used // sum(own) for part in own]
    return Parts(own[0], own[1], own[2], used - sum(own), total - used)
