"""CPU, CUDA or Vulkan. The rules: docs/decisions/0008-image-for-the-hardware.md."""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_local.hardware.machine import Gpu
from claude_local.hardware.variant import VariantError, choose
from tests.hardware.machines import AMD, ARC, INSIDE, machine, nvidia


@pytest.mark.parametrize("gpu", [AMD, ARC])
def test_amd_and_intel_cards_get_vulkan(gpu: Gpu) -> None:
    chosen = choose(machine(gpu, INSIDE))
    assert (chosen.variant, chosen.gpus) == ("vulkan", (gpu,))
    assert gpu.name in chosen.reason


def test_nvidia_comes_first_and_vulkan_when_it_has_no_driver() -> None:
    assert choose(machine(nvidia(), AMD)).variant == "cuda"
    chosen = choose(machine(nvidia(None, None), AMD))
    assert chosen.variant == "vulkan" and "no NVIDIA driver" in chosen.missing[0].what


@pytest.mark.parametrize(
    "gpu",
    [
        INSIDE,
        replace(AMD, name="AMD Radeon Graphics", memory_mib=512),
        replace(AMD, driver=None, kernel_driver="vfio-pci"),
        replace(AMD, render_node=None),
        Gpu("other", "ASPEED", driver=None),
    ],
)
def test_a_gpu_that_is_unusable_or_no_faster_leaves_the_cpu_variant(gpu: Gpu) -> None:
    assert choose(machine(gpu)).variant == "cpu"


def test_the_setting_uses_a_gpu_inside_the_processor_anyway() -> None:
    assert "image_variant = 'vulkan'" in choose(machine(INSIDE)).reason
    assert choose(machine(INSIDE), "vulkan").gpus == (INSIDE,)


@pytest.mark.parametrize(
    ("setting", "gpus", "why"),
    [
        ("cuda", (), "there is no NVIDIA GPU"),
        ("cuda", (nvidia(None, None),), "has no NVIDIA driver"),
        ("vulkan", (nvidia(),), "no AMD or Intel GPU"),
    ],
)
def test_a_setting_that_cannot_be_met_is_refused_with_the_reason(setting: str, gpus: tuple[Gpu, ...], why: str) -> None:
    with pytest.raises(VariantError, match=why):
        choose(machine(*gpus), setting)


def test_the_setting_wins_over_the_hardware() -> None:
    assert choose(machine(nvidia(), AMD), "vulkan").gpus == (AMD,)
    chosen = choose(machine(nvidia()), "cpu")
    assert (chosen.variant, chosen.gpus, chosen.cuda) == ("cpu", (), None)
