"""The options of ``docker run`` that give a container the GPUs of this machine. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from claude_local.hardware.machine import Gpu, Hardware
from claude_local.hardware.variant import ImageVariant
from claude_local.server.presets import PROMPTS

# ggml skips devices that are processors, unless their numbers are named. Without a GPU, Mesa's llvmpipe is the first.
SOFTWARE_DEVICE = "GGML_VK_VISIBLE_DEVICES=0"
# Compiled shaders outlive the container: on llvmpipe, compiling them takes half a minute.
SHADER_CACHE = f"MESA_SHADER_CACHE_DIR={PROMPTS}/shaders"


def gpu_options(chosen: ImageVariant, hardware: Hardware) -> tuple[str, ...]:
    """The options that give a container the variant's GPUs and nothing else of the machine; none for the CPU variant.

    Vulkan gets the render node of each GPU, and the groups that may open them; without GPUs, Mesa's software device.
    """
    if chosen.variant == "cuda":
        return nvidia_options(visible_devices(chosen.gpus, hardware))
    if chosen.variant != "vulkan":
        return ()
    options = ["--env", SHADER_CACHE]
    if not chosen.gpus:
        options += ["--env", SOFTWARE_DEVICE]
    for gpu in chosen.gpus:
        options += ["--device", str(gpu.render_node)]
    for gid in sorted({gpu.render_gid for gpu in chosen.gpus if gpu.render_gid}):
        options += ["--group-add", str(gid)]
    return tuple(options)


def nvidia_options(devices: str) -> tuple[str, ...]:
    """The options for NVIDIA GPUs. ``devices`` is ``all`` or GPU numbers, separated by commas.

    The runtime that ``nvidia-ctk`` registers adds the driver's compute libraries and nvidia-smi. CUDA numbers the GPUs
    as nvidia-smi does. It needs no cache for compiled kernels, because the image has machine code for each GPU.
    """
    # fmt: off
    return (
        "--runtime", "nvidia",
        "--env", f"NVIDIA_VISIBLE_DEVICES={devices}", "--env", "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        "--env", "CUDA_DEVICE_ORDER=PCI_BUS_ID", "--env", "CUDA_CACHE_DISABLE=1",
    )
    # fmt: on


def visible_devices(gpus: Iterable[Gpu], hardware: Hardware) -> str:
    """``all``, or the numbers of the GPUs that the image was compiled for. CUDA programs fail when they see another."""
    used = {gpu.index for gpu in gpus}
    nvidia = {gpu.index for gpu in hardware.gpus if gpu.vendor == "nvidia"}
    return "all" if used == nvidia else ",".join(str(index) for index in sorted(used, key=lambda index: index or 0))
