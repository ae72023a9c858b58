"""The hardware that decides which image is built and which model fits. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Gpu:
    """A graphics processor.

    * ``vendor``: ``nvidia``, ``amd``, ``intel`` or ``other``
    * ``memory_mib``, ``free_mib``: its own memory in MiB; None when unknown, or when it has none of its own
    * ``compute_capability``: NVIDIA's, as ``8.9``
    * ``driver``: version of NVIDIA's driver, or name of another vendor's; None when no driver can compute with it
    * ``display``: whether a screen is connected; None when unknown
    * ``index``: its number in nvidia-smi
    * ``pci``: its address, as ``0000:01:00.0``
    * ``kernel_driver``: the kernel module that holds it (``nvidia``, ``nouveau``, ``vfio-pci`` ...)
    * ``render_node``: its device file for programs without a screen, as ``/dev/dri/renderD128``
    * ``render_gid``: the group that may open that file
    """

    vendor: str
    name: str
    memory_mib: int | None = None
    free_mib: int | None = None
    compute_capability: str | None = None
    driver: str | None = None
    display: bool | None = None
    index: int | None = None
    pci: str | None = None
    kernel_driver: str | None = None
    render_node: str | None = None
    render_gid: int | None = None


@dataclass(frozen=True)
class Hardware:
    """A machine.

    * ``gpus``: NVIDIA's first, in nvidia-smi's order, then the others by PCI address
    * ``cores``, ``threads``: physical cores, and the hardware threads that the kernel schedules on
    * ``memory_mib``, ``available_mib``: main memory in MiB
    * ``disk_free``: mount point -> free bytes
    * ``nvidia_smi``: nvidia-smi's error message; empty when it listed GPUs or is not installed
    * ``container_toolkit``: version of NVIDIA's container toolkit; None when it is not installed
    * ``distro``, ``codename``: ID and VERSION_CODENAME of /etc/os-release
    * ``wsl``: the kernel is that of WSL 2. The NVIDIA driver is then Windows's, and there is no PCI device for its GPU
    """

    gpus: tuple[Gpu, ...] = ()
    cpu: str = ""
    cpu_flags: tuple[str, ...] = ()
    cores: int = 1
    threads: int = 1
    memory_mib: int = 0
    available_mib: int = 0
    disk_free: Mapping[str, int] = field(default_factory=dict)
    nvidia_smi: str = ""
    container_toolkit: str | None = None
    distro: str = ""
    codename: str = ""
    wsl: bool = False
