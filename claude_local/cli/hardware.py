"""``llama-local hardware``: what this machine has, which image it gets and why, and what is missing."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from claude_local.hardware import probe as hardware_probe
from claude_local.hardware.machine import Gpu, Hardware
from claude_local.hardware.variant import ImageVariant, choose
from claude_local.image.cmake import instruction_sets

PROBE_SECONDS = 120


def register(subparsers: Any) -> None:
    """Add the subcommand to argparse's ``subparsers``."""
    command = subparsers.add_parser(
        "hardware",
        help="GPUs, processor, memory, disks, and the image that fits them",
        description="Show the hardware, the image variant that fits it and what is missing. Changes nothing.",
    )
    command.add_argument("--json", action="store_true", help="for programs")
    # For tests: another root of the file system.
    command.add_argument("--root", default="", help=argparse.SUPPRESS)
    command.set_defaults(func=run)


def look(root: str = "") -> Hardware:
    """This machine. Raises OSError or subprocess.TimeoutExpired where no shell can be run in time."""
    words = ["sh", "-c", hardware_probe.PROBE, "sh", root]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=PROBE_SECONDS, check=False)
    return hardware_probe.parse(done.stdout.splitlines())


def run(options: argparse.Namespace) -> int:
    """The subcommand."""
    try:
        found = look(options.root)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(
            f"llama-local: the hardware cannot be looked at: {error}\n  Fix: nvidia-smi; df    (which of them hangs?)",
            file=sys.stderr,
        )
        return 1
    verdict = choose(found)
    if options.json:
        print(json.dumps(as_data(found, verdict), indent=2))
    else:
        show(found, verdict, Console(width=None if sys.stdout.isatty() else 160, soft_wrap=True))
    return 0


def as_data(found: Hardware, verdict: ImageVariant) -> dict[str, Any]:
    """What ``--json`` prints: ``{"hardware": ..., "verdict": {"variant", "reason", "gpus", "cuda", "missing"}}``."""
    cuda = verdict.cuda
    return {
        "hardware": {**asdict(found), "disk_free": dict(found.disk_free)},
        "verdict": {
            "variant": verdict.variant,
            "reason": verdict.reason,
            "gpus": [gpu.pci or gpu.name for gpu in verdict.gpus],
            "cuda": {"version": cuda.toolkit.version, "architectures": list(cuda.architectures)} if cuda else None,
            "missing": [asdict(each) for each in verdict.missing],
        },
    }


def show(found: Hardware, verdict: ImageVariant, console: Console) -> None:
    """The table for people."""
    gpus = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("GPU", "memory", "free", "compute", "driver", "screen"):
        gpus.add_column(column, justify="right" if column in ("memory", "free") else "left")
    for gpu in found.gpus:
        gpus.add_row(*_cells(gpu))
    console.print(gpus if found.gpus else Text("no GPU"))
    console.print()
    machine = Table(box=None, pad_edge=False, show_header=False)
    cores = "1 core" if found.cores == 1 else f"{found.cores} cores"
    machine.add_row("processor", Text(f"{found.cpu or 'unknown'}, {cores}, {found.threads} threads"))
    machine.add_row("", Text(_notable(found)))
    machine.add_row("memory", f"{_gib(found.memory_mib)}, {_gib(found.available_mib)} available")
    for mount, free in found.disk_free.items():
        machine.add_row("disk", Text(f"{mount}: {_gib(free // 1024**2)} free"))
    console.print(machine)
    console.print()
    console.print(Text(f"Image: {verdict.variant}", style="bold"), Text(f"({verdict.reason})"))
    for missing in verdict.missing:
        console.print(Text(missing.what))
        console.print(Text(f"  Fix: {missing.fix}"))


def _cells(gpu: Gpu) -> list[str | Text]:
    driver = gpu.driver or (f"none ({gpu.kernel_driver})" if gpu.kernel_driver else "none")
    screen = {True: "yes", False: "no", None: "?"}[gpu.display]
    return [
        Text(gpu.name),
        _gib(gpu.memory_mib),
        _gib(gpu.free_mib),
        gpu.compute_capability or "",
        Text(driver),
        screen,
    ]


def _gib(mib: int | None) -> str:
    return "?" if mib is None else f"{mib / 1024:.1f} GiB"


# What makes a difference to llama.cpp on a processor, the best last.
_NOTABLE = (
    "avx2",
    "f16c",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "amx_int8",
    "asimddp",
    "i8mm",
    "sve",
)


def _notable(found: Hardware) -> str:
    sets = instruction_sets(found.cpu_flags)
    return " ".join(name for name in _NOTABLE if name in sets) or "no vector instructions that llama.cpp is fast with"
