"""Which image a machine gets: CPU, CUDA or Vulkan, why, and what a better one needs. Pure.

The rules and their sources: docs/decisions/0008-image-for-the-hardware.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from claude_local.hardware.cuda import JETSON, Cuda, best_cuda, is_small
from claude_local.hardware.machine import Gpu, Hardware
from claude_local.hardware.missing import Missing, why_unused

# An AMD GPU with less memory than this (MiB) counts as the one inside the processor: most of those get
# 512 MiB to 2 GiB of main memory.
LEAST_VULKAN_MIB = 3072
# The value of image_variant for the Vulkan image without a GPU.
SOFTWARE = "vulkan-software"


class VariantError(ValueError):
    """The machine cannot run the variant that image_variant asks for; the message says why and what helps."""


@dataclass(frozen=True)
class ImageVariant:
    """The image variant for a machine.

    ``variant`` is cpu, cuda or vulkan, ``reason`` one line for people. ``gpus`` are those that the server will use; a
    vulkan without any is Mesa's software device.
    ``cuda`` is set for the variant cuda. ``missing`` says why other GPUs are unused and what is not installed yet.
    """

    variant: str
    reason: str
    gpus: tuple[Gpu, ...] = ()
    cuda: Cuda | None = None
    missing: tuple[Missing, ...] = ()


def choose(hardware: Hardware, setting: str = "auto") -> ImageVariant:
    """The image variant for this machine. ``setting`` is image_variant; raises VariantError when it cannot be met.

    ``auto`` is CUDA for an NVIDIA GPU whose driver is new enough, otherwise Vulkan for an AMD or Intel GPU with memory
    of its own, otherwise CPU.
    """
    if setting == "cpu":
        return ImageVariant("cpu", "set by image_variant")
    if setting == SOFTWARE:
        return ImageVariant("vulkan", "Mesa's software device, for tests only; set by image_variant")
    cuda, cuda_gpus, unused = _cuda(hardware, forced=setting == "cuda")
    vulkan_gpus = _vulkan(hardware, forced=setting == "vulkan")
    if setting == "cuda" and cuda is None:
        why = "; ".join(f"{each.what}: {each.fix}" for each in unused) or "there is no NVIDIA GPU"
        raise VariantError(f"image_variant: 'cuda' cannot run here: {why}. 'auto' picks a variant that can")
    if setting == "vulkan" and not vulkan_gpus:
        raise VariantError(
            "image_variant: 'vulkan' cannot run here: no AMD or Intel GPU has a kernel driver with a /dev/dri/renderD* "
            "('cuda' is for NVIDIA's). 'auto' picks a variant that can"
        )
    by_setting = "" if setting == "auto" else ", set by image_variant"
    if cuda is not None and setting != "vulkan":
        reason = _cuda_reason(cuda, cuda_gpus) + by_setting
        return ImageVariant("cuda", reason, cuda_gpus, cuda, (*unused, *_missing_toolkit(hardware)))
    if vulkan_gpus:
        names = ", ".join(f"{gpu.name} ({_gib(gpu)})" if gpu.memory_mib else gpu.name for gpu in vulkan_gpus)
        return ImageVariant("vulkan", f"{names} through Vulkan{by_setting}", vulkan_gpus, missing=unused)
    return ImageVariant("cpu", _no_gpu_reason(hardware), missing=unused)


def _cuda(hardware: Hardware, *, forced: bool) -> tuple[Cuda | None, tuple[Gpu, ...], tuple[Missing, ...]]:
    """The CUDA for most of the NVIDIA GPUs, those GPUs, and why the others stay unused.

    ``forced``: small GPUs are used when there are no others.
    """
    nvidia = [gpu for gpu in hardware.gpus if gpu.vendor == "nvidia"]
    candidates = [gpu for gpu in nvidia if JETSON not in gpu.name]
    cuda, used = best_cuda(gpu for gpu in candidates if not is_small(gpu))
    if cuda is None and forced:
        cuda, used = best_cuda(candidates)
    return cuda, used, tuple(why_unused(gpu, hardware) for gpu in nvidia if gpu not in used)


def _missing_toolkit(hardware: Hardware) -> tuple[Missing, ...]:
    if hardware.container_toolkit is not None:
        return ()
    return (Missing("NVIDIA's container toolkit is not installed", "./provision    (tasks/nvidia.py installs it)"),)


def _cuda_reason(cuda: Cuda, gpus: tuple[Gpu, ...]) -> str:
    names = ", ".join(
        f"{gpu.name} ({gpu.compute_capability}{f', {_gib(gpu)}' if gpu.memory_mib else ''})" for gpu in gpus
    )
    architectures = ";".join(cuda.architectures)
    version, second = cuda.toolkit.version, cuda.packages.version if cuda.packages else None
    if second and second != version:
        version += f" (without a registry {second})"
    return f"{names} with driver {gpus[0].driver}: CUDA {version} for {architectures}"


def _gib(gpu: Gpu) -> str:
    return f"{(gpu.memory_mib or 0) / 1024:.0f} GiB"


def _vulkan(hardware: Hardware, *, forced: bool) -> tuple[Gpu, ...]:
    """The AMD and Intel GPUs that Mesa supports. ``forced``: if there are no others, those inside the processor too."""
    usable = [gpu for gpu in hardware.gpus if gpu.vendor in ("amd", "intel") and gpu.driver and gpu.render_node]
    with_own_memory = [gpu for gpu in usable if has_own_memory(gpu)]
    return tuple(with_own_memory or (usable if forced else ()))


def has_own_memory(gpu: Gpu) -> bool:
    """Whether an AMD or Intel GPU has memory of its own. One inside the processor is no faster than the processor.

    Intel's kernel drivers do not report a size, but the GPU inside an Intel processor is always 00:02.0.
    """
    if gpu.vendor == "intel":
        return gpu.pci is not None and not gpu.pci.startswith("0000:00:")
    return (gpu.memory_mib or 0) >= LEAST_VULKAN_MIB


def _no_gpu_reason(hardware: Hardware) -> str:
    if not any(gpu.vendor == "nvidia" for gpu in hardware.gpus) and hardware.nvidia_smi:
        return f"no usable GPU; nvidia-smi: {hardware.nvidia_smi[:200]}"
    inside = [gpu.name for gpu in hardware.gpus if gpu.vendor in ("amd", "intel") and gpu.driver]
    if inside and not any(gpu.vendor == "nvidia" for gpu in hardware.gpus):
        return f"{', '.join(inside)} has no memory of its own (image_variant = 'vulkan' uses it anyway)"
    return "no usable GPU"
