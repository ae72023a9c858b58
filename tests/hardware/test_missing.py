"""Each unused GPU comes with the reason and with a fix that works."""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_local.hardware.machine import Gpu
from claude_local.hardware.missing import STAYS_UNUSED, Missing
from claude_local.hardware.variant import VariantError, choose
from tests.hardware import hardware_outputs as outputs
from tests.hardware.machines import machine, nvidia


def only_missing(gpu: Gpu, **rest: object) -> Missing:
    """The one thing missing on a machine with this GPU; ``rest`` are other fields of Hardware."""
    (missing,) = choose(machine(gpu, **rest)).missing
    return missing


@pytest.mark.parametrize(
    ("distro", "fix"),
    [("debian", "apt install nvidia-driver"), ("ubuntu", "ubuntu-drivers install"), ("pop", "distribution")],
)
def test_a_missing_driver_is_explained_and_the_processor_used(distro: str, fix: str) -> None:
    chosen = choose(machine(nvidia(None, None, kernel_driver="nouveau"), distro=distro))
    assert chosen.variant == "cpu"
    (missing,) = chosen.missing
    assert "has no NVIDIA driver (nouveau" in missing.what and fix in missing.fix


def test_a_driver_updated_under_the_running_kernel_module_needs_a_reboot() -> None:
    missing = only_missing(nvidia(None, None), nvidia_smi="Failed to initialize NVML: Driver/library version mismatch")
    assert "version mismatch" in missing.what and missing.fix.startswith("sudo reboot")


def test_an_old_driver_is_named_with_the_driver_that_is_needed() -> None:
    assert "470.182.03 is older than 525" in only_missing(nvidia("8.6", "470.182.03")).what
    assert "575.64.03 is older than 580, which CUDA 13.0.2 needs" in only_missing(nvidia("12.1", "575.64.03")).what


@pytest.mark.parametrize("message", ["No devices were found", outputs.NO_DRIVER])
@pytest.mark.parametrize("kernel", [None, "nouveau", "nvidia"])
def test_an_installed_driver_that_does_not_work_is_not_installed_again(message: str, kernel: str | None) -> None:
    """For example Debian 13's 550 with a GeForce RTX 50, or a module that Secure Boot refuses."""
    missing = only_missing(nvidia(None, None, kernel_driver=kernel), nvidia_smi=message, codename="trixie")
    assert message[:40] in missing.what
    assert "apt install" not in missing.fix
    for hint in ("dmesg", "Secure Boot", "570", "open kernel modules"):
        assert hint in missing.fix


def test_debians_own_driver_is_not_recommended_where_it_is_too_old() -> None:
    missing = only_missing(nvidia(None, None, kernel_driver=None), codename="trixie")
    assert "apt install nvidia-driver" in missing.fix and "RTX 50 and newer need driver 570" in missing.fix
    missing = only_missing(nvidia("12.1", "575.64.03"), codename="trixie")
    assert "apt install" not in missing.fix and "driver 580 or newer from NVIDIA's own repository" in missing.fix


def test_a_generation_with_its_last_driver_is_not_sent_to_a_newer_one() -> None:
    """A GT 710 stays at 470. A GeForce RTX 30 with 470 needs a newer driver."""
    missing = only_missing(nvidia(None, "470.256.02", memory_mib=None), distro="ubuntu")
    assert "470.256.02 is older than 525" in missing.what
    assert "Kepler (GeForce 600 and 700): nothing" in missing.fix and "470 is its last driver" in missing.fix
    assert "Otherwise: sudo ubuntu-drivers install" in missing.fix
    assert only_missing(nvidia(None, "510.108.03"), distro="ubuntu").fix.startswith("sudo ubuntu-drivers install")


def test_a_gpu_reserved_for_virtual_machines_is_explained_even_when_nvidia_smi_finds_nothing() -> None:
    missing = only_missing(nvidia(None, None, kernel_driver="vfio-pci"), nvidia_smi="No devices were found")
    assert "reserved for virtual machines" in missing.what


@pytest.mark.parametrize(
    ("name", "mib"), [("NVIDIA GeForce GT 1030", 2048), ("NVIDIA GeForce GTX 1060 3GB", 3072), ("NVIDIA T400", 2048)]
)
def test_a_small_gpu_is_used_only_when_asked_for(name: str, mib: int) -> None:
    small = nvidia("6.1", name=name, memory_mib=mib)
    chosen = choose(machine(small))
    assert (chosen.variant, chosen.gpus) == ("cpu", ())
    (missing,) = chosen.missing
    assert missing.what.startswith(f"{name} has only {mib // 1024} GiB") and STAYS_UNUSED in missing.fix
    assert "image_variant = 'cuda'" in missing.fix
    assert choose(machine(small), "cuda").gpus == (small,)
    # The setting is not offered where it would fail.
    assert only_missing(replace(small, driver="470.256.02")).fix == STAYS_UNUSED


@pytest.mark.parametrize("setting", ["auto", "cuda"])
def test_a_jetson_stays_unused(setting: str) -> None:
    jetson = machine(nvidia("8.7", "540.4.0", name="Orin (nvgpu)", memory_mib=None, pci=None, kernel_driver=None))
    if setting == "cuda":
        with pytest.raises(VariantError, match="the GPU of a Jetson"):
            choose(jetson, setting)
        return
    chosen = choose(jetson)
    assert chosen.variant == "cpu" and "the GPU of a Jetson" in chosen.missing[0].what


def test_a_gpu_that_no_cuda_supports_stays_unused() -> None:
    chosen = choose(machine(nvidia("8.9"), nvidia("3.5", index=1)))
    (missing,) = chosen.missing
    assert "compute capability 3.5" in missing.what and missing.fix == STAYS_UNUSED


def test_a_missing_nvidia_smi_is_named_with_its_package() -> None:
    missing = only_missing(nvidia(None, "580.65.06"))
    assert "nvidia-smi is missing" in missing.what and missing.fix == "sudo apt install nvidia-smi"


def test_a_missing_container_toolkit_is_named_but_does_not_change_the_variant() -> None:
    chosen = choose(machine(nvidia(), container_toolkit=None))
    assert chosen.variant == "cuda"
    assert "container toolkit" in chosen.missing[0].what and "./provision" in chosen.missing[0].fix
