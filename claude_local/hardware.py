"""What a machine has that decides which image is built and which model fits. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Gpu:
    """A graphics processor.

    ``vendor``: ``nvidia``, ``amd``, ``intel`` or ``other``. ``memory_mib`` and ``free_mib``: its own memory in MiB, None
    where nobody says (or where it has none of its own). ``compute_capability``: NVIDIA's, as ``8.9``. ``driver``: the
    driver's version, None when no driver runs it. ``display``: whether a screen hangs on it, None when nobody says.
    """

    vendor: str
    name: str
    memory_mib: int | None = None
    free_mib: int | None = None
    compute_capability: str | None = None
    driver: str | None = None
    display: bool | None = None


@dataclass(frozen=True)
class Hardware:
    """A machine. ``cores`` are physical ones, ``threads`` what the kernel schedules on; ``memory_mib`` and
    ``available_mib``: main memory in MiB; ``disk_free``: mount point -> free bytes."""

    gpus: tuple[Gpu, ...] = ()
    cpu: str = ""
    cpu_flags: tuple[str, ...] = ()
    cores: int = 1
    threads: int = 1
    memory_mib: int = 0
    available_mib: int = 0
    disk_free: Mapping[str, int] = field(default_factory=dict)
