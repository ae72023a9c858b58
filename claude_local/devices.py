"""Which of a machine's GPUs a profile's own flags put its model on. Pure.

llama-server calls the GPUs CUDA0, CUDA1 ... or Vulkan0 ..., in the order of ``Machine.gpus``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from claude_local.hardware import Gpu
from claude_local.profiles import Profile

# Options of llama-server that put some of a model's tensors elsewhere than --fit and -ngl auto would.
TENSOR_OPTIONS = ("override-tensor", "cpu-moe", "n-cpu-moe", "n-cpu-ffn")


def names(gpus: Sequence[Gpu]) -> tuple[str, ...]:
    """What llama-server calls these GPUs (``--list-devices``): the cuda image has NVIDIA's, the vulkan image the others."""
    return tuple(f"{'CUDA' if gpu.vendor == 'nvidia' else 'Vulkan'}{index}" for index, gpu in enumerate(gpus))


def _listed(options: Mapping[str, str]) -> list[str]:
    """The values of --device."""
    return [name.strip() for name in options.get("device", "").split(",") if name.strip()]


def used(profile: Profile, gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """The GPUs that ``--device``, ``--split-mode none`` and ``--main-gpu`` leave, in llama-server's order
    (llama_prepare_model_devices in src/llama.cpp of b11434)."""
    options = profile.options
    by_name = dict(zip(names(gpus), gpus, strict=True))
    listed = _listed(options)
    left = [by_name[name] for name in listed if name in by_name] if listed else list(gpus)
    if options.get("split-mode") == "none":
        index = int(float(options.get("main-gpu", "0")))
        left = left[index : index + 1] if index >= 0 else []
    return tuple(left)


def by_hand(profile: Profile, gpus: Sequence[Gpu], layers: int | None = None) -> str | None:
    """The key or flag with which a profile says what lies where on these GPUs, so that no sum tells whether it fits; None
    where it leaves that to llama-server. ``layers``: the model's, with draft heads, where they are known."""
    options = profile.options
    for name in TENSOR_OPTIONS:
        if options.get(name, "false") not in ("false", "0"):
            return f"--{name}"
    if options.get("kv-offload") == "false":
        return "--no-kv-offload"
    left = used(profile, gpus)
    if not left:
        return "--device" if _listed(options) else "--main-gpu"
    if len(left) > 1:
        if "tensor-split" in options:
            return "--tensor-split"
        if options.get("split-mode") in ("row", "tensor"):
            return "--split-mode"
    # All of them is one more: the output counts as a layer (i_gpu_start in src/llama-model.cpp).
    number = profile.n_gpu_layers or ""
    if number.isdigit() and (number == "0" or (layers is not None and int(number) <= layers)):
        return "N_GPU_LAYERS"
    return None
