"""Which of a machine's GPUs a profile's own flags use, and what happens to flags for other GPUs. Pure.

llama-server calls the GPUs CUDA0, CUDA1 ... or Vulkan0 ..., in the order of ``Machine.gpus``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from claude_local.hardware.machine import Gpu
from claude_local.models.profile import Profile

# Options of llama-server that put some of a model's tensors elsewhere than --fit and -ngl auto would.
TENSOR_OPTIONS = ("override-tensor", "cpu-moe", "n-cpu-moe", "n-cpu-ffn")
# Options that name devices, and those that list them as NAME,NAME (the others as PATTERN=NAME,PATTERN=NAME).
DEVICE_LISTS, BUFFER_LISTS = ("device", "device-draft"), ("override-tensor", "override-tensor-draft")
# All options that say what lies where: they were thought out together, for one machine.
PLACEMENT = frozenset(
    {*TENSOR_OPTIONS, *DEVICE_LISTS, *BUFFER_LISTS, "split-mode", "main-gpu", "tensor-split", "kv-offload"}
)


def names(gpus: Sequence[Gpu]) -> tuple[str, ...]:
    """llama-server's names of these GPUs (``--list-devices``): the cuda image has NVIDIA's, vulkan the others."""
    return tuple(f"{'CUDA' if gpu.vendor == 'nvidia' else 'Vulkan'}{index}" for index, gpu in enumerate(gpus))


def _listed(options: Mapping[str, str]) -> list[str]:
    """The values of --device."""
    return [name.strip() for name in options.get("device", "").split(",") if name.strip()]


def _main_gpu(options: Mapping[str, str]) -> int:
    """The value of --main-gpu, read as llama-server does: up to the first letter that is no digit (std::stoi)."""
    number = re.match(r"-?\d+", options.get("main-gpu", "0"))
    return int(number[0]) if number else 0


def used_gpus(profile: Profile, gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """The GPUs that ``--device``, ``--split-mode none`` and ``--main-gpu`` leave, in llama-server's order.

    Source: llama_prepare_model_devices in src/llama.cpp of b11434.
    """
    options = profile.options
    by_name = dict(zip(names(gpus), gpus, strict=True))
    listed = _listed(options)
    left = [by_name[name] for name in listed if name in by_name] if listed else list(gpus)
    if options.get("split-mode") == "none":
        index = _main_gpu(options)
        left = left[index : index + 1] if index >= 0 else []
    return tuple(left)


def placed_by_hand(profile: Profile, gpus: Sequence[Gpu], layers: int | None = None) -> str | None:
    """The key or flag with which a profile decides what lies where on these GPUs; None when llama-server decides.

    Such a profile cannot be judged by sums. ``layers``: the model's, with draft heads, where they are known.
    """
    options = profile.options
    for name in TENSOR_OPTIONS:
        if options.get(name, "false") not in ("false", "0"):
            return f"--{name}"
    if options.get("kv-offload") == "false":
        return "--no-kv-offload"
    left = used_gpus(profile, gpus)
    if not left:
        return "--device" if _listed(options) else "--main-gpu"
    if len(left) > 1:
        if "tensor-split" in options:
            return "--tensor-split"
        if options.get("split-mode") in ("row", "tensor"):
            return "--split-mode"
    # All layers are one more than the model has: the output counts as one (i_gpu_start in src/llama-model.cpp).
    number = profile.n_gpu_layers or ""
    if number.isdigit() and (number == "0" or (layers is not None and int(number) <= layers)):
        return "N_GPU_LAYERS"
    return None


def foreign_flags(profile: Profile, gpus: Sequence[Gpu]) -> list[str]:
    """The flags that are meant for other GPUs than these, like ``--override-tensor names CUDA1``.

    llama-server would not load the model: "unknown buffer type", "invalid device", "invalid value for main_gpu".
    """
    options, own = profile.options, names(gpus)
    foreign = []
    for option in (*DEVICE_LISTS, *BUFFER_LISTS):
        values = [value.strip() for value in options.get(option, "").split(",") if value.strip()]
        if option in BUFFER_LISTS:
            values = [value.partition("=")[2] for value in values]
        known = (*own, "none") if option in DEVICE_LISTS else (*own, "CPU")
        missing = list(dict.fromkeys(value for value in values if value and value not in known))
        if missing:
            foreign.append(f"--{option} names {', '.join(missing)}")
    count = len(_listed(options)) or len(gpus)
    if options.get("split-mode") in ("none", "row") and _main_gpu(options) >= count:
        foreign.append(f"--main-gpu is {options['main-gpu']}")
    parts = options.get("tensor-split", "").replace("/", ",").count(",") + 1
    if "tensor-split" in options and parts > count:
        foreign.append(f"--tensor-split is for {parts} GPUs")
    return foreign


def without_foreign_placement(profile: Profile, gpus: Sequence[Gpu]) -> tuple[Profile, list[str]]:
    """The profile as these GPUs can serve it, and a line for people about what was left out.

    A placement for other GPUs is left out as a whole, with N_GPU_LAYERS, FIT and FIT_TARGET: half of it would be worse
    than none. Without any GPU nothing changes: presets.py leaves such flags out for a cpu image.
    """
    if not gpus:
        return profile, []
    own = ", ".join(names(gpus))
    foreign = foreign_flags(profile, gpus)
    if foreign:
        profile = replace(profile.without(PLACEMENT), n_gpu_layers=None, fit=None, fit_target=None)
        return profile, [
            f"{profile.id}: {'; '.join(foreign)}, but this machine has {own}: its placement by hand is left out, "
            "--fit on places it"
        ]
    margins = (profile.fit_target or "").count(",") + 1
    count = len(used_gpus(profile, gpus))
    if margins > 1 and count and margins != count:
        note = f"{profile.id}: its FIT_TARGET is for {margins} GPUs, its model goes to {count} of {own}: left out"
        return replace(profile, fit_target=None), [note]
    return profile, []
