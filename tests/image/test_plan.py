"""The image's tag changes with everything that goes into the image, and with nothing else."""

import re
from dataclasses import replace
from typing import Any

import pytest

from claude_local.hardware.cuda import IN_DEBIAN, IN_WHEELS, WHEELS, Cuda
from claude_local.image.base import Base, base_image
from claude_local.image.builds import BUILDS, ImageError
from claude_local.image.plan import is_kind
from tests.image.images import BUILD, CUDA_12, CUDA_13, image


@pytest.mark.parametrize(
    "change",
    [
        {"dockerfile": "FROM y"},
        {"patches": "--- a"},
        {"web_ui": b"page"},
        {"cpu": "all"},
        {"base": base_image("auto", "debian", "trixie")},
        {"base": base_image("debian@sha256:" + "0" * 64, "debian", "bookworm")},
        {"base": Base("claude-local/base:bookworm", "debian:bookworm-slim", bootstrap=False)},
        {"arch": "aarch64"},
        {"cpu_flags": ["avx2", "fma", "avx512f"]},
    ],
)
def test_every_input_changes_the_tag(change: dict[str, Any]) -> None:
    assert image(**change).tag != image().tag


def test_another_llama_cpp_changes_the_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    before = image().tag
    changed = type(BUILDS[BUILD])(**{**vars(BUILDS[BUILD]), "tree_sha256": "f" * 64})
    monkeypatch.setitem(BUILDS, BUILD, changed)
    assert image().tag != before


def test_a_tag_says_what_its_image_is_for() -> None:
    changes: dict[str, dict[str, Any]] = {
        "cpu": {}, "cpu-all": {"cpu": "all"}, "vulkan": {"variant": "vulkan"},
        "cuda": {"variant": "cuda", "cuda": CUDA_12},
    }  # fmt: skip
    tags = {kind: image(**change).tag.partition(":")[2] for kind, change in changes.items()}
    for kind, tag in tags.items():
        assert [other for other in tags if is_kind(tag, other)] == [kind]
        assert not is_kind(f"{tag}-unchecked", kind), "an unchecked image does not count as built"


def test_jobs_order_and_flags_without_instructions_leave_the_tag() -> None:
    same = image().tag
    assert image(jobs=7).tag == same
    # A kernel or microcode update changes flags that no compiler uses.
    assert image(cpu_flags=["fma", "avx2", "ibrs", "md_clear", "hypervisor"]).tag == same
    assert image(cpu="all", cpu_flags=[]).tag == image(cpu="all", cpu_flags=["avx512f"]).tag


def test_the_tag_names_build_and_variant() -> None:
    assert re.fullmatch(rf"claude-local/llama-server:b{BUILD}-cpu-[0-9a-f]{{12}}", image().tag)
    assert f"b{BUILD}-cpu-all-" in image(cpu="all").tag


def test_a_cuda_image_is_compiled_on_nvidias_image_and_runs_on_ours() -> None:
    planned = image(variant="cuda", cuda=CUDA_12, base=base_image("auto", "debian", "bookworm", "cuda"))
    assert f":b{BUILD}-cuda-" in planned.tag and planned.target == "runtime-cuda"
    assert planned.arguments["BASE"] == "nvidia/cuda:12.8.1-devel-ubuntu24.04"
    assert planned.arguments["RUNTIME_BASE"] == "claude-local/base:noble"
    assert [base.pull for base in planned.bases] == ["ubuntu:noble", "nvidia/cuda:12.8.1-devel-ubuntu24.04"]


def test_an_image_from_nvidias_packages_has_the_same_tag_and_runs_on_the_hosts_own_release() -> None:
    wheels = replace(CUDA_12, packages=IN_WHEELS)
    planned = image(variant="cuda", cuda=wheels, base=base_image("auto", "debian", "bookworm", "cuda"))
    other = planned.from_packages
    assert other is not None and (other.tag, other.target) == (planned.tag, planned.target)
    assert [base.pull for base in other.bases] == ["debian:bookworm-slim"]
    assert (other.arguments["BASE"], other.arguments["RUNTIME_BASE"]) == ("cuda-wheels", "claude-local/base:bookworm")
    assert other.arguments["CMAKE_FLAGS"] == planned.arguments["CMAKE_FLAGS"]
    assert image(variant="cuda", cuda=wheels, arch="aarch64").from_packages is None, "the packages are for x86_64"
    assert image(variant="cuda", cuda=CUDA_12).from_packages is None


def test_an_image_from_debians_packages_is_compiled_and_runs_on_their_release() -> None:
    base = base_image("auto", "debian", "bookworm", "cuda-debian")
    planned = image(variant="cuda", cuda=replace(CUDA_12, packages=IN_DEBIAN), packages_base=base)
    other = planned.from_packages
    assert other is not None and other.tag == planned.tag != image(variant="cuda", cuda=CUDA_12).tag
    assert (other.arguments["BASE"], other.arguments["RUNTIME_BASE"]) == ("cuda-debian", "claude-local/base:trixie")
    assert base.bootstrap and not other.needs_wheels


def test_other_packages_of_nvidia_change_the_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    wheels, without = replace(CUDA_12, packages=IN_WHEELS), image(variant="cuda", cuda=CUDA_12).tag
    before = image(variant="cuda", cuda=wheels).tag
    monkeypatch.setitem(WHEELS, next(iter(WHEELS)), "f" * 64)
    assert image(variant="cuda", cuda=wheels).tag not in (before, without)
    assert image(variant="cuda", cuda=CUDA_12).tag == without


def test_a_vulkan_image_is_compiled_and_run_on_the_same_base() -> None:
    planned = image(variant="vulkan", base=base_image("auto", "debian", "trixie", "vulkan"))
    assert (planned.arguments["BASE"], planned.arguments["RUNTIME_BASE"]) == ("vulkan-sdk", "claude-local/base:trixie")
    assert "-DGGML_VULKAN=ON" in planned.arguments["CMAKE_FLAGS"] and planned.target == "runtime-vulkan"
    assert planned.bases == (planned.base,)


def test_a_gpus_image_depends_on_its_cuda() -> None:
    tag = image(variant="cuda", cuda=CUDA_12).tag
    assert image(variant="cuda", cuda=CUDA_13).tag != tag
    assert image(variant="cuda", cuda=Cuda(CUDA_12.toolkit, ("89-real",))).tag != tag
    assert len({tag, image().tag, image(variant="vulkan").tag}) == 3


@pytest.mark.parametrize(("arch", "flags"), [("aarch64", [["sve"], ["sve2"]]), ("x86_64", [["avx"], ["avx", "avx2"]])])
def test_a_gpus_image_depends_on_the_processor(arch: str, flags: list[list[str]]) -> None:
    assert len({image(variant="vulkan", arch=arch, cpu_flags=each).tag for each in flags}) == 2


def test_a_gpus_image_for_all_processors_depends_on_none() -> None:
    assert len({image(variant="vulkan", cpu="all", cpu_flags=each).tag for each in (["avx"], ["avx2"])}) == 1


def test_a_build_that_is_not_pinned_is_refused_by_its_settings_name() -> None:
    with pytest.raises(ImageError, match=f"image_llama_build: found 1, .*{BUILD}"):
        image(build_number=1)
