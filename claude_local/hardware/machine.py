"""What a machine has that decides which image is built and which model fits. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Gpu:
    """A graphics processor.

    ``vendor``: ``nvidia``, ``amd``, ``intel`` or ``other``. ``memory_mib`` and ``free_mib``: its own memory in MiB, None
    where nobody says (or where it has none of its own). ``compute_capability``: NVIDIA's, as ``8.9``. ``driver``: the
    driver's version (NVIDIA) or name (the others), None when no driver runs it. ``display``: whether a screen hangs on
    it, None when nobody says. ``index``: its number in nvidia-smi. ``pci``: its address as ``0000:01:00.0``.
    ``kernel_driver``: the kernel's module that holds it, whatever it is good for (``nvidia``, ``nouveau``,
    ``vfio-pci``). ``render_node``: its file for programs without a screen, as ``/dev/dri/renderD128``, and ``render_gid``
    the group that may open it.
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
    """A machine. ``cores`` are physical ones, ``threads`` what the kernel schedules on; ``memory_mib`` and
    ``available_mib``: main memory in MiB; ``disk_free``: mount point -> free bytes. ``gpus``: NVIDIA's first, in the
    order of nvidia-smi (CUDA's with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``), then by PCI address. ``nvidia_smi``: what
    nvidia-smi said instead of an answer. ``container_toolkit``: the version of NVIDIA's container toolkit, None without.
    ``distro`` and ``codename``: as in /etc/os-release."""

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
