"""``llama-local hardware``: the hardware, the image that fits it and why, and what is missing."""

from __future__ import annotations

import subprocess
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from claude_local.cli.output import Problem, console, json_option, print_json
from claude_local.hardware import probe
from claude_local.hardware.machine import Gpu, Hardware
from claude_local.hardware.variant import ImageVariant, choose
from claude_local.image.cmake import instruction_sets

# Seconds that the probe may take: nvidia-smi and df can hang.
PROBE_TIMEOUT = 120

# The instruction sets that make llama.cpp faster.
FAST_SETS = (
    "avx2", "f16c", "fma", "avx_vnni", "avx512f", "avx512_bf16", "avx512_vnni", "amx_int8", "asimddp", "i8mm", "sve",
)  # fmt: skip


@click.command()
@json_option
# For tests: another root of the file system.
@click.option("--root", default="", hidden=True)
def hardware(as_json: bool, root: str) -> None:
    """Show the hardware, the image variant that fits it and what is missing. Changes nothing."""
    try:
        machine = probe_hardware(root)
    except (OSError, subprocess.TimeoutExpired) as error:
        fix = "nvidia-smi; df    (find out which one hangs)"
        raise Problem(f"cannot read the hardware: {error}", fix) from None
    variant = choose(machine)
    if as_json:
        print_json(as_data(machine, variant))
    else:
        show(machine, variant, console())


def probe_hardware(root: str = "", timeout: float = PROBE_TIMEOUT) -> Hardware:
    """This machine's hardware. Raises OSError without a shell, subprocess.TimeoutExpired after ``timeout`` seconds."""
    argv = ["sh", "-c", probe.PROBE, "sh", root]
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=timeout, check=False)
    return probe.parse(done.stdout.splitlines())


def as_data(hardware: Hardware, variant: ImageVariant) -> dict[str, Any]:
    """What ``--json`` prints: ``{"hardware": ..., "verdict": {"variant", "reason", "gpus", "cuda", "missing"}}``."""
    cuda = variant.cuda
    return {
        "hardware": {**asdict(hardware), "disk_free": dict(hardware.disk_free)},
        "verdict": {
            "variant": variant.variant,
            "reason": variant.reason,
            "gpus": [gpu.pci or gpu.name for gpu in variant.gpus],
            "cuda": {"version": cuda.toolkit.version, "architectures": list(cuda.architectures)} if cuda else None,
            "missing": [asdict(each) for each in variant.missing],
        },
    }


def show(hardware: Hardware, variant: ImageVariant, out: Console) -> None:
    """Print the hardware, the image variant and what is missing, for people."""
    out.print(_gpu_table(hardware) if hardware.gpus else "no GPU")
    out.print()
    out.print(_machine_table(hardware))
    out.print()
    out.print(Text(f"Image: {variant.variant} ({variant.reason})"))
    for missing in variant.missing:
        out.print(Text(f"{missing.what}\n  Fix: {missing.fix}"))


def _gpu_table(hardware: Hardware) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("GPU", "MEMORY", "FREE", "COMPUTE", "DRIVER", "SCREEN"):
        table.add_column(
            heading, justify="right" if heading in ("MEMORY", "FREE") else "left", no_wrap=heading != "GPU"
        )
    for gpu in hardware.gpus:
        table.add_row(*map(Text, _gpu_cells(gpu)))
    return table


def _gpu_cells(gpu: Gpu) -> list[str]:
    driver = gpu.driver or (f"none ({gpu.kernel_driver})" if gpu.kernel_driver else "none")
    screen = {True: "yes", False: "no", None: "?"}[gpu.display]
    return [gpu.name, gibibytes(gpu.memory_mib), gibibytes(gpu.free_mib), gpu.compute_capability or "", driver, screen]


def _machine_table(hardware: Hardware) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    cores = "1 core" if hardware.cores == 1 else f"{hardware.cores} cores"
    table.add_row("processor", Text(f"{hardware.cpu or 'unknown'}, {cores}, {hardware.threads} threads"))
    table.add_row("", _fast_sets(hardware))
    table.add_row("memory", f"{gibibytes(hardware.memory_mib)}, {gibibytes(hardware.available_mib)} available")
    for mount, free in hardware.disk_free.items():
        table.add_row("disk", Text(f"{mount}: {gibibytes(free // 1024**2)} free"))
    return table


def _fast_sets(hardware: Hardware) -> str:
    """The processor's instruction sets that llama.cpp gains from."""
    sets = instruction_sets(hardware.cpu_flags)
    return " ".join(name for name in FAST_SETS if name in sets) or "no vector instructions that make llama.cpp fast"


def gibibytes(mib: int | None) -> str:
    """MiB for people: ``62.5 GiB``, ``?`` where it is unknown."""
    return "?" if mib is None else f"{mib / 1024:.1f} GiB"
