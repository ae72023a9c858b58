"""Which CUDA release an image is built with. The rules: docs/decisions/0008-image-for-the-hardware.md."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.hardware.cuda import IN_DEBIAN, IN_WHEELS, TOOLKITS, CudaToolkit, real
from claude_local.hardware.variant import choose
from tests.hardware.machines import machine, nvidia


@pytest.mark.parametrize(
    ("capabilities", "driver", "version", "architectures"),
    [
        (["8.9"], "580.95.05", "12.8.1", ("89-real",)),
        (["8.9"], "575.64.03", "12.8.1", ("89-real",)),
        (["8.6"], "525.60.13", "12.8.1", ("86-real",)),
        (["12.0"], "575.64.03", "12.8.1", ("120a-real",)),
        (["12.0"], "590.48.01", "12.8.1", ("120a-real",)),
        (["7.5"], "610.57.04", "12.8.1", ("75-real",)),
        # GPUs newer than CUDA 12.8, alone or with others.
        (["12.1"], "580.95.05", "13.0.2", ("121a-real",)),
        (["10.3"], "590.48.01", "13.0.2", ("103-real",)),
        (["12.1", "8.9"], "590.48.01", "13.0.2", ("89-real", "121a-real")),
        # GPUs before Turing have CUDA 12 only, with any driver.
        (["6.1"], "580.95.05", "12.8.1", ("61-real",)),
        (["7.0"], "580.95.05", "12.8.1", ("70-real",)),
        # Several generations get one build, with each architecture once and in order.
        (["12.0", "8.9"], "590.48.01", "12.8.1", ("89-real", "120a-real")),
        (["8.9", "8.9"], "590.48.01", "12.8.1", ("89-real",)),
        (["8.9", "6.1"], "580.95.05", "12.8.1", ("61-real", "89-real")),
        (["9.0"], "590.48.01", "12.8.1", ("90-real",)),
    ],
)
def test_cuda_is_chosen_by_driver_and_architectures(
    capabilities: list[str], driver: str, version: str, architectures: tuple[str, ...]
) -> None:
    gpus = [nvidia(capability, driver, index) for index, capability in enumerate(capabilities)]
    chosen = choose(machine(*gpus))
    assert chosen.variant == "cuda" and chosen.cuda is not None
    assert chosen.cuda.toolkit.version == version and chosen.cuda.architectures == architectures
    assert chosen.gpus == tuple(gpus) and chosen.missing == ()
    assert version in chosen.reason and driver in chosen.reason


@pytest.mark.parametrize(
    ("capabilities", "driver", "packages"),
    [
        (["8.9"], "580.95.05", IN_WHEELS),
        (["7.5", "12.0"], "590.48.01", IN_WHEELS),
        (["12.1"], "580.95.05", IN_WHEELS),
        # CUDA 13 needs a newer driver, or has no code for one of the GPUs.
        (["8.9"], "575.64.03", IN_DEBIAN),
        (["6.1"], "580.95.05", IN_DEBIAN),
        (["8.9", "6.1"], "580.95.05", IN_DEBIAN),
        # CUDA 12.4 has no code for Blackwell.
        (["12.0"], "575.64.03", None),
        (["6.1", "12.0"], "580.95.05", None),
    ],
)
def test_packages_can_take_the_registrys_place_only_if_they_support_the_same_gpus(
    capabilities: list[str], driver: str, packages: CudaToolkit | None
) -> None:
    gpus = [nvidia(capability, driver, index) for index, capability in enumerate(capabilities)]
    chosen = choose(machine(*gpus))
    assert chosen.cuda is not None and chosen.cuda.packages == packages


def test_the_cuda_that_compiles_wrongly_is_never_used() -> None:
    assert not any(toolkit.version.startswith("13.2") or ":13.2" in toolkit.devel for toolkit in TOOLKITS)


_CAPABILITIES = st.sampled_from(["3.5", "5.2", "6.1", "7.0", "7.5", "8.6", "8.9", "9.0", "10.3", "12.0", "12.1", None])


@given(
    st.lists(_CAPABILITIES, max_size=4),
    st.sampled_from(["470.182", "525.60", "550.163", "575.64", "580.95", "610.57"]),
)
def test_the_chosen_cuda_runs_and_every_unused_gpu_is_explained(capabilities: list[str | None], driver: str) -> None:
    chosen = choose(machine(*(nvidia(capability, driver, index) for index, capability in enumerate(capabilities))))
    assert len(chosen.gpus) + len(chosen.missing) == len(capabilities)
    if chosen.cuda is None:
        assert chosen.variant == "cpu" and chosen.gpus == ()
        return
    assert int(driver.partition(".")[0]) >= chosen.cuda.toolkit.least_driver
    for gpu in chosen.gpus:
        arch = int((gpu.compute_capability or "").replace(".", ""))
        assert arch in chosen.cuda.toolkit.architectures and real(arch) in chosen.cuda.architectures


def test_the_cuda_that_supports_more_gpus_wins() -> None:
    old, new = nvidia("6.1", "580.95.05"), nvidia("12.1", "580.95.05", 1)
    chosen = choose(machine(old, new, replace(new, index=2)))
    assert chosen.cuda is not None and chosen.cuda.toolkit.version == "13.0.2"
    (missing,) = chosen.missing
    assert "6.1" in missing.what and "the other GPUs" in missing.what


@pytest.mark.parametrize("setting", ["auto", "cuda"])
def test_nothing_is_compiled_for_a_small_gpu_beside_a_big_one(setting: str) -> None:
    big, small = nvidia("8.9"), nvidia("6.1", index=1, name="NVIDIA GeForce GT 1030", memory_mib=2048)
    chosen = choose(machine(big, small), setting)
    assert chosen.gpus == (big,) and chosen.cuda is not None and chosen.cuda.architectures == ("89-real",)


@pytest.mark.parametrize("mib", [4096, 3911, None])
def test_a_gpu_sold_with_4_gb_counts_and_one_that_reports_no_memory(mib: int | None) -> None:
    assert choose(machine(nvidia("7.5", memory_mib=mib))).variant == "cuda"
