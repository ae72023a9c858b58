"""Machines with GPUs, as values of Hardware."""

from __future__ import annotations

from dataclasses import replace

from claude_local.hardware.machine import Gpu, Hardware


def nvidia(capability: str | None = "8.9", driver: str | None = "580.95.05", index: int = 0, **rest: object) -> Gpu:
    """An NVIDIA GPU with 24 GB; ``rest`` are other fields."""
    name = f"NVIDIA card {capability}"
    gpu = Gpu("nvidia", name, 24564, 24000, capability, driver, False, index, f"0000:0{index + 1}:00.0", "nvidia")
    return replace(gpu, **rest)  # type: ignore[arg-type]


AMD = Gpu("amd", "AMD Radeon RX 7900 XTX", 24560, 24000, driver="amdgpu", pci="0000:03:00.0",
          kernel_driver="amdgpu", render_node="/dev/dri/renderD128", render_gid=105)  # fmt: skip
ARC = Gpu("intel", "Intel Arc A770", driver="xe", pci="0000:04:00.0", kernel_driver="xe",
          render_node="/dev/dri/renderD129", render_gid=105)  # fmt: skip
INSIDE = replace(ARC, name="Intel UHD Graphics", pci="0000:00:02.0", driver="i915")


def machine(*gpus: Gpu, **rest: object) -> Hardware:
    """A Debian machine with NVIDIA's container toolkit; ``rest`` are other fields."""
    return replace(Hardware(gpus=gpus, container_toolkit="1.18.0", distro="debian"), **rest)  # type: ignore[arg-type]
