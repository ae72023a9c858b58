"""Which image a machine gets. The rules: docs/decisions/0008-image-for-the-hardware.md."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.hardware.machine import Gpu, Hardware
from claude_local.hardware.variant import TOOLKITS, VariantError, choose, real, run_words
from tests.hardware import hardware_outputs as outputs


def nvidia(capability: str | None = "8.9", driver: str | None = "580.95.05", index: int = 0, **rest: object) -> Gpu:
    name = f"NVIDIA card {capability}"
    gpu = Gpu("nvidia", name, 24564, 24000, capability, driver, False, index, f"0000:0{index + 1}:00.0", "nvidia")
    return replace(gpu, **rest)  # type: ignore[arg-type]


AMD = Gpu("amd", "AMD Radeon RX 7900 XTX", 24560, 24000, driver="amdgpu", pci="0000:03:00.0",
          kernel_driver="amdgpu", render_node="/dev/dri/renderD128", render_gid=105)  # fmt: skip
ARC = Gpu("intel", "Intel Arc A770", driver="xe", pci="0000:04:00.0", kernel_driver="xe",
          render_node="/dev/dri/renderD129", render_gid=105)  # fmt: skip
INSIDE = replace(ARC, name="Intel UHD Graphics", pci="0000:00:02.0", driver="i915")


def machine(*gpus: Gpu, **rest: object) -> Hardware:
    return replace(Hardware(gpus=gpus, container_toolkit="1.18.0", distro="debian"), **rest)  # type: ignore[arg-type]


# --- CUDA -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capabilities", "driver", "version", "architectures"),
    [
        (["8.9"], "580.95.05", "12.8.1", ("89-real",)),
        (["8.9"], "575.64.03", "12.8.1", ("89-real",)),
        (["8.6"], "525.60.13", "12.8.1", ("86-real",)),
        (["12.0"], "575.64.03", "12.8.1", ("120a-real",)),
        (["12.0"], "590.48.01", "12.8.1", ("120a-real",)),
        (["7.5"], "610.57.04", "12.8.1", ("75-real",)),
        # What came after CUDA 12.8, alone or beside others.
        (["12.1"], "580.95.05", "13.0.2", ("121a-real",)),
        (["10.3"], "590.48.01", "13.0.2", ("103-real",)),
        (["12.1", "8.9"], "590.48.01", "13.0.2", ("89-real", "121a-real")),
        # Before Turing there is CUDA 12 only, whatever the driver.
        (["6.1"], "580.95.05", "12.8.1", ("61-real",)),
        (["7.0"], "580.95.05", "12.8.1", ("70-real",)),
        # Several generations: one build for all, each architecture once, in order.
        (["12.0", "8.9"], "590.48.01", "12.8.1", ("89-real", "120a-real")),
        (["8.9", "8.9"], "590.48.01", "12.8.1", ("89-real",)),
        (["8.9", "6.1"], "580.95.05", "12.8.1", ("61-real", "89-real")),
        (["9.0"], "590.48.01", "12.8.1", ("90-real",)),
    ],
)
def test_cuda_is_chosen_from_driver_and_architectures(
    capabilities: list[str], driver: str, version: str, architectures: tuple[str, ...]
) -> None:
    cards = [nvidia(capability, driver, index) for index, capability in enumerate(capabilities)]
    verdict = choose(machine(*cards))
    assert verdict.variant == "cuda" and verdict.cuda is not None
    assert verdict.cuda.toolkit.version == version and verdict.cuda.architectures == architectures
    assert verdict.gpus == tuple(cards) and verdict.missing == ()
    assert version in verdict.reason and driver in verdict.reason


def test_the_miscompiling_cuda_is_never_used() -> None:
    assert not any(toolkit.version.startswith("13.2") or ":13.2" in toolkit.devel for toolkit in TOOLKITS)


_CARDS = st.lists(
    st.tuples(st.sampled_from(["3.5", "5.2", "6.1", "7.0", "7.5", "8.6", "8.9", "9.0", "10.3", "12.0", "12.1", None])),
    max_size=4,
)


@given(_CARDS, st.sampled_from(["470.182", "525.60", "550.163", "575.64", "580.95", "610.57"]))
def test_what_is_chosen_always_runs_and_nothing_is_passed_over_in_silence(
    cards: list[tuple[str | None]], driver: str
) -> None:
    found = machine(*(nvidia(capability, driver, index) for index, (capability,) in enumerate(cards)))
    verdict = choose(found)
    assert len(verdict.gpus) + len(verdict.missing) == len(cards)
    if verdict.cuda is None:
        assert verdict.variant == "cpu" and verdict.gpus == ()
        return
    assert int(driver.partition(".")[0]) >= verdict.cuda.toolkit.least_driver
    for gpu in verdict.gpus:
        arch = int((gpu.compute_capability or "").replace(".", ""))
        assert arch in verdict.cuda.toolkit.architectures and real(arch) in verdict.cuda.architectures


def test_of_cards_that_no_one_cuda_serves_the_greater_number_wins() -> None:
    old, new = nvidia("6.1", "580.95.05"), nvidia("12.1", "580.95.05", 1)
    verdict = choose(machine(old, new, replace(new, index=2)))
    assert verdict.cuda is not None and verdict.cuda.toolkit.version == "13.0.2"
    (missing,) = verdict.missing
    assert "no one CUDA serves compute capability 6.1 beside the other GPUs" in missing.what


def test_a_card_that_the_image_does_not_serve_is_hidden_from_it() -> None:
    found = machine(nvidia("8.9"), nvidia("3.5", index=1), nvidia("8.9", index=2))
    verdict = choose(found)
    (missing,) = verdict.missing
    assert "compute capability 3.5 is served by no CUDA" in missing.what
    assert "NVIDIA_VISIBLE_DEVICES=0,2" in run_words(verdict, found)


@pytest.mark.parametrize(
    ("distro", "fix"),
    [("debian", "apt install nvidia-driver"), ("ubuntu", "ubuntu-drivers install"), ("pop", "distribution")],
)
def test_a_missing_driver_is_explained_and_the_rest_of_the_machine_is_used(distro: str, fix: str) -> None:
    verdict = choose(machine(nvidia(None, None, kernel_driver="nouveau"), distro=distro))
    assert verdict.variant == "cpu"
    (missing,) = verdict.missing
    assert "has no NVIDIA driver (nouveau" in missing.what and fix in missing.fix


def test_a_driver_that_was_updated_under_the_kernel_wants_a_reboot() -> None:
    found = machine(nvidia(None, None), nvidia_smi="Failed to initialize NVML: Driver/library version mismatch")
    (missing,) = choose(found).missing
    assert "version mismatch" in missing.what and missing.fix.startswith("sudo reboot")


def test_an_old_driver_is_named_with_what_is_needed() -> None:
    (missing,) = choose(machine(nvidia("8.6", "470.182.03"))).missing
    assert "470.182.03 is older than 525" in missing.what
    (missing,) = choose(machine(nvidia("12.1", "575.64.03"))).missing
    assert "575.64.03 is older than 580, which CUDA 13.0.2 needs" in missing.what


@pytest.mark.parametrize("said", ["No devices were found", outputs.NO_DRIVER])
@pytest.mark.parametrize("kernel", [None, "nouveau", "nvidia"])
def test_a_driver_that_is_installed_but_does_not_run_the_gpu_is_not_to_be_installed_again(
    said: str, kernel: str | None
) -> None:
    """Debian 13's 550 beside a GeForce RTX 50; a module that Secure Boot does not let in."""
    found = machine(nvidia(None, None, kernel_driver=kernel), nvidia_smi=said, codename="trixie")
    (missing,) = choose(found).missing
    assert said[:40] in missing.what
    assert "apt install" not in missing.fix
    for word in ("dmesg", "Secure Boot", "570", "open kernel modules"):
        assert word in missing.fix


def test_debians_own_driver_is_not_recommended_where_it_is_too_old() -> None:
    (missing,) = choose(machine(nvidia(None, None, kernel_driver=None), codename="trixie")).missing
    assert "apt install nvidia-driver" in missing.fix and "RTX 50 and newer need driver 570" in missing.fix
    (missing,) = choose(machine(nvidia("12.1", "575.64.03"), codename="trixie")).missing
    assert "apt install" not in missing.fix and "driver 580 or newer from NVIDIA's own repository" in missing.fix


def test_a_generation_that_has_its_last_driver_is_told_so() -> None:
    """A GT 710 has 470 for ever; a GeForce RTX 30 with 470 wants a newer one."""
    (missing,) = choose(machine(nvidia(None, "470.256.02", memory_mib=None), distro="ubuntu")).missing
    assert "470.256.02 is older than 525" in missing.what
    assert "Kepler (GeForce 600 and 700), nothing: 470 is its last driver" in missing.fix
    assert "Else sudo ubuntu-drivers install" in missing.fix
    (missing,) = choose(machine(nvidia(None, "510.108.03"), distro="ubuntu")).missing
    assert missing.fix.startswith("sudo ubuntu-drivers install")


def test_a_card_that_a_virtual_machine_holds_is_told_so_also_where_nvidia_smi_finds_nothing() -> None:
    found = machine(nvidia(None, None, kernel_driver="vfio-pci"), nvidia_smi="No devices were found")
    (missing,) = choose(found).missing
    assert "reserved for virtual machines" in missing.what


# --- cards that are not worth it --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mib"), [("NVIDIA GeForce GT 1030", 2048), ("NVIDIA GeForce GTX 1060 3GB", 3072), ("NVIDIA T400", 2048)]
)
def test_a_card_with_too_little_memory_makes_no_cuda_image(name: str, mib: int) -> None:
    small = nvidia("6.1", name=name, memory_mib=mib)
    verdict = choose(machine(small))
    assert (verdict.variant, verdict.gpus) == ("cpu", ())
    (missing,) = verdict.missing
    assert missing.what.startswith(f"{name} has only {mib // 1024} GiB") and "nothing to do" in missing.fix
    # Who wants it gets it, and is not told so where that would fail.
    assert "image_variant = 'cuda'" in missing.fix
    (missing,) = choose(machine(replace(small, driver="470.256.02"))).missing
    assert missing.fix == "nothing to do: it stays unused"
    assert choose(machine(small), "cuda").gpus == (small,)


@pytest.mark.parametrize("mib", [4096, 3911, None])
def test_a_card_sold_with_4_gb_counts_and_one_that_tells_no_memory(mib: int | None) -> None:
    assert choose(machine(nvidia("7.5", memory_mib=mib))).variant == "cuda"


@pytest.mark.parametrize("setting", ["auto", "cuda"])
def test_nothing_is_compiled_for_a_small_card_beside_a_big_one(setting: str) -> None:
    big, small = nvidia("8.9"), nvidia("6.1", index=1, name="NVIDIA GeForce GT 1030", memory_mib=2048)
    found = machine(big, small)
    verdict = choose(found, setting)
    assert verdict.gpus == (big,) and verdict.cuda is not None and verdict.cuda.architectures == ("89-real",)
    assert "NVIDIA_VISIBLE_DEVICES=0" in run_words(verdict, found)


@pytest.mark.parametrize("setting", ["auto", "cuda"])
def test_a_jetson_is_passed_over(setting: str) -> None:
    found = machine(nvidia("8.7", "540.4.0", name="Orin (nvgpu)", memory_mib=None, pci=None, kernel_driver=None))
    if setting == "cuda":
        with pytest.raises(VariantError, match="the GPU of a Jetson"):
            choose(found, setting)
        return
    verdict = choose(found)
    assert verdict.variant == "cpu" and "the GPU of a Jetson" in verdict.missing[0].what


def test_a_machine_that_lacks_nvidia_smi_is_told_the_package() -> None:
    (missing,) = choose(machine(nvidia(None, "580.65.06"))).missing
    assert "nvidia-smi is missing" in missing.what and missing.fix == "sudo apt install nvidia-smi"


def test_the_container_toolkit_is_named_as_missing_but_does_not_change_the_variant() -> None:
    verdict = choose(machine(nvidia(), container_toolkit=None))
    assert verdict.variant == "cuda"
    assert "container toolkit" in verdict.missing[0].what and "./provision" in verdict.missing[0].fix


# --- Vulkan and CPU -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gpu", [AMD, ARC])
def test_amd_and_intel_cards_get_vulkan(gpu: Gpu) -> None:
    verdict = choose(machine(gpu, INSIDE))
    assert (verdict.variant, verdict.gpus) == ("vulkan", (gpu,))
    assert gpu.name in verdict.reason


def test_nvidia_comes_first_and_vulkan_where_it_has_no_driver() -> None:
    assert choose(machine(nvidia(), AMD)).variant == "cuda"
    verdict = choose(machine(nvidia(None, None), AMD))
    assert verdict.variant == "vulkan" and "no NVIDIA driver" in verdict.missing[0].what


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
def test_what_is_not_worth_it_or_not_usable_gets_the_cpu(gpu: Gpu) -> None:
    assert choose(machine(gpu)).variant == "cpu"


def test_the_setting_takes_a_gpu_inside_the_processor_all_the_same() -> None:
    assert "image_variant = 'vulkan'" in choose(machine(INSIDE)).reason
    assert choose(machine(INSIDE), "vulkan").gpus == (INSIDE,)


@pytest.mark.parametrize(
    ("setting", "gpus", "why"),
    [
        ("cuda", (), "there is no NVIDIA GPU"),
        ("cuda", (nvidia(None, None),), "has no NVIDIA driver"),
        ("vulkan", (nvidia(),), "no AMD or Intel GPU"),
        ("rocm", (AMD,), "allowed is one of auto, cpu, cuda, vulkan"),
    ],
)
def test_a_setting_that_cannot_be_met_says_why(setting: str, gpus: tuple[Gpu, ...], why: str) -> None:
    with pytest.raises(VariantError, match=why):
        choose(machine(*gpus), setting)


def test_the_setting_wins_over_the_hardware() -> None:
    assert choose(machine(nvidia(), AMD), "vulkan").gpus == (AMD,)
    verdict = choose(machine(nvidia()), "cpu")
    assert (verdict.variant, verdict.gpus, verdict.cuda) == ("cpu", (), None)


# --- what the container gets ----------------------------------------------------------------------------------------


def test_cuda_comes_through_nvidias_runtime_with_the_computing_part_of_the_driver_only() -> None:
    found = machine(nvidia(), nvidia(index=1))
    words = run_words(choose(found), found)
    assert words[:2] == ("--runtime", "nvidia")
    assert {"NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"} < set(words)
    # CUDA counts the fastest first otherwise; profiles name GPUs in nvidia-smi's order.
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in words


def test_vulkan_gets_each_cards_render_node_and_its_group() -> None:
    found = machine(AMD, replace(ARC, render_gid=992), INSIDE)
    assert run_words(choose(found), found) == (
        "--device", "/dev/dri/renderD128", "--device", "/dev/dri/renderD129", "--group-add", "105", "--group-add", "992",
    )  # fmt: skip


def test_the_cpu_variant_gets_nothing() -> None:
    found = machine(nvidia(), AMD)
    assert run_words(choose(found, "cpu"), found) == ()
