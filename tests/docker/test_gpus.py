"""The options that give a container its GPUs."""

from __future__ import annotations

from dataclasses import replace

from claude_local.docker.gpus import gpu_options
from claude_local.hardware.variant import choose
from tests.hardware.machines import AMD, ARC, INSIDE, machine, nvidia


def test_cuda_gets_nvidias_runtime_and_only_the_drivers_compute_part() -> None:
    hardware = machine(nvidia(), nvidia(index=1))
    options = gpu_options(choose(hardware), hardware)
    assert options[:2] == ("--runtime", "nvidia")
    assert {"NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"} < set(options)
    # By default CUDA numbers the fastest GPU first; profiles name GPUs in nvidia-smi's order.
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in options


def test_a_gpu_that_the_image_does_not_support_is_hidden_from_the_container() -> None:
    hardware = machine(nvidia("8.9"), nvidia("3.5", index=1), nvidia("8.9", index=2))
    assert "NVIDIA_VISIBLE_DEVICES=0,2" in gpu_options(choose(hardware), hardware)


def test_vulkan_gets_each_gpus_render_node_and_its_group() -> None:
    hardware = machine(AMD, replace(ARC, render_gid=992), INSIDE)
    assert gpu_options(choose(hardware), hardware) == (
        "--env", "MESA_SHADER_CACHE_DIR=/var/lib/claude-local/prompts/shaders",
        "--device", "/dev/dri/renderD128", "--device", "/dev/dri/renderD129",
        "--group-add", "105", "--group-add", "992",
    )  # fmt: skip


def test_the_software_device_is_named_and_no_gpu_is_given() -> None:
    hardware = machine(AMD)
    options = gpu_options(choose(hardware, "vulkan-software"), hardware)
    assert "GGML_VK_VISIBLE_DEVICES=0" in options and "--device" not in options


def test_the_cpu_variant_gets_no_gpu() -> None:
    hardware = machine(nvidia(), AMD)
    assert gpu_options(choose(hardware, "cpu"), hardware) == ()
