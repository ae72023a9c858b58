"""What a machine can give a model, and how much of each GPU is left to others. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from claude_local.hardware.machine import Gpu
from claude_local.models.memory import MIB
from claude_local.models.speed import Processor

# MiB that llama-server leaves free when it loads a model (FIT_TARGET), on a GPU that drives a screen and on one that
# does not. docs/decisions/0009 derives these numbers.
DISPLAY_MARGIN_MIB, HEADLESS_MARGIN_MIB = 192, 128
# The same beside a screen for a model that does not fit completely: --fit fills the GPU up to it (llama-server's
# default).
OVERFLOW_MARGIN_MIB = 1024
# MiB of the container's memory that a model leaves to the router, to the system's buffers, and to pages of the model
# file that the kernel drops. With none left, a token took seven times as long (decision 0009).
SPARE_MIB = 512
# MiB that the rule keeps for the desktop of a GPU that drives a screen, beside the margin.
DESKTOP_MIB = 1024


@dataclass(frozen=True)
class Machine:
    """What the rule of choice looks at. All memory is in bytes, and total, not what is free now.

    ``gpus``: all that the image's variant can use, in llama-server's order. ``memory``: what models may take of the
    server's container. ``disk_free``: of the disk of model_dir, None if it is not known. ``placed``: name of a model
    file -> its bytes on the disk. ``prompt_cache``: the part of ``memory`` that each loaded model may fill with
    prompts.
    """

    gpus: tuple[Gpu, ...] = ()
    memory: int = 0
    disk_free: int | None = None
    placed: Mapping[str, int] | None = None
    processor: Processor = field(default_factory=Processor)
    prompt_cache: int = 0

    @property
    def measured(self) -> tuple[Gpu, ...]:
        """The GPUs whose memory is known. The rule counts on these only."""
        return tuple(gpu for gpu in self.gpus if gpu.memory_mib)

    @property
    def unmeasured(self) -> str:
        """What to say of GPUs whose memory is not known (Intel's); empty without any."""
        names = ", ".join(gpu.name for gpu in self.gpus if not gpu.memory_mib)
        return f"the memory of {names} is not known" if names else ""


def disk_free(path: str, mounts: Mapping[str, int]) -> int | None:
    """Free bytes of the file system for ``path``, which need not exist. ``mounts``: mount point -> free bytes."""
    holding = [mount for mount in mounts if (path + "/").startswith(mount.rstrip("/") + "/")]
    return mounts[max(holding, key=len)] if holding else None


def with_memory(gpus: Sequence[Gpu], memory: int) -> tuple[Gpu, ...]:
    """The GPUs; NVIDIA's without a memory of their own (GB10) share the machine's ``memory`` bytes."""
    return tuple(
        replace(gpu, memory_mib=memory // MIB) if gpu.memory_mib is None and gpu.vendor == "nvidia" else gpu
        for gpu in gpus
    )


def has_screen(gpu: Gpu) -> bool:
    """Whether the GPU drives a screen. Yes, when that is not known."""
    return gpu.display is not False


def reserved_mib(gpu: Gpu) -> int:
    """MiB of a GPU that the rule leaves to others: the margin and, beside a screen, the desktop."""
    return DESKTOP_MIB + DISPLAY_MARGIN_MIB if has_screen(gpu) else HEADLESS_MARGIN_MIB


def fit_target(gpus: Sequence[Gpu], *, wholly: bool) -> str | None:
    """The value of FIT_TARGET for these GPUs, like ``128,192``; None without any.

    ``wholly``: the model fits on them. llama-server compares the margin with the memory that is free when it loads the
    model. The desktop has taken its part by then, so the margin is small. A model that does not fit is filled up to the
    margin, so there the margin is what a desktop gets that starts later.
    """
    screen = DISPLAY_MARGIN_MIB if wholly else OVERFLOW_MARGIN_MIB
    return ",".join(str(screen if has_screen(gpu) else HEADLESS_MARGIN_MIB) for gpu in gpus) or None
