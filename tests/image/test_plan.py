"""The image's tag changes with everything that goes into the image, and with nothing else."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from claude_local.hardware.variant import TOOLKITS, Cuda
from claude_local.image.plan import (
    BUILDS,
    CPU_FLAGS,
    TARGETS,
    Base,
    Image,
    ImageError,
    base_image,
    instruction_sets,
    is_kind,
    is_source,
    part_for,
    plan,
    tree_hash,
)

DOCKERFILE = Path(__file__).parents[2] / "files" / "image" / "Dockerfile"
BUILD = max(BUILDS)
CUDA = Cuda(TOOLKITS[0], ("89-real", "120a-real"))
CUDA_13 = Cuda(TOOLKITS[1], ("89-real", "120a-real"))


def image(**changes: Any) -> Image:
    inputs: dict[str, Any] = {
        "dockerfile": "FROM x",
        "build_number": BUILD,
        "variant": "cpu",
        "cpu": "native",
        "base": base_image("auto", "debian", "bookworm"),
        "arch": "x86_64",
        "cpu_flags": ["avx2", "fma"],
    }
    return plan(**{**inputs, **changes})


@pytest.mark.parametrize(
    "change",
    [
        {"dockerfile": "FROM y"},
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


def test_a_tag_tells_what_its_image_is_made_for() -> None:
    made: dict[str, dict[str, Any]] = {
        "cpu": {}, "cpu-all": {"cpu": "all"}, "vulkan": {"variant": "vulkan"},
        "cuda12.8.1": {"variant": "cuda", "cuda": CUDA}, "cuda13.0.2": {"variant": "cuda", "cuda": CUDA_13},
    }  # fmt: skip
    tags = {name: image(**changes).tag.partition(":")[2] for name, changes in made.items()}
    for name, tag in tags.items():
        assert [other for other in made if is_kind(tag, other)] == [name]
        assert not is_kind(f"{tag}-unchecked", name), "that one is not built to its end"


def test_what_does_not_go_in_leaves_the_tag() -> None:
    same = image().tag
    assert image(jobs=7).tag == same
    # Order, and flags that are no instructions: a kernel or microcode update is no reason to build.
    assert image(cpu_flags=["fma", "avx2", "ibrs", "md_clear", "hypervisor"]).tag == same
    assert image(cpu="all", cpu_flags=[]).tag == image(cpu="all", cpu_flags=["avx512f"]).tag


def test_the_tag_names_build_and_variant() -> None:
    assert re.fullmatch(rf"claude-local/llama-server:b{BUILD}-cpu-[0-9a-f]{{12}}", image().tag)
    assert f"b{BUILD}-cpu-all-" in image(cpu="all").tag


@pytest.mark.parametrize(
    "changes", [*({"cpu": cpu} for cpu in CPU_FLAGS), {"variant": "cuda", "cuda": CUDA}, {"variant": "vulkan"}]
)
def test_the_build_arguments_are_those_that_the_variants_part_of_the_dockerfile_takes(changes: dict[str, Any]) -> None:
    made = image(**changes, dockerfile=DOCKERFILE.read_text())
    part = part_for(DOCKERFILE.read_text(), TARGETS[made.variant], made.arguments)
    # The builder's BASE is a stage of the file for Vulkan.
    assert set(re.findall(r"^ARG (\w+)", part, re.MULTILINE)) == set(made.arguments)
    assert set(re.findall(r"\$\{(\w+)\}", part)) <= set(made.arguments)


def test_the_cpu_image_is_made_of_what_it_was_made_of_before_there_were_gpus() -> None:
    """A change of the GPUs' stages must not cost everybody a new CPU image: the part is that file, byte for byte."""
    part = part_for(DOCKERFILE.read_text(), "runtime", image().arguments)
    assert (
        hashlib.sha256(part.encode()).hexdigest() == "5529049a55fb50742744de7685a5e708c76b08e0fbd53dbba2c7bf94c619acd0"
    )


def test_a_variants_tag_hangs_on_its_own_stages() -> None:
    text = DOCKERFILE.read_text()
    for there, touched in {
        "glslc libvulkan-dev": {"vulkan"},
        "mesa-vulkan-drivers": {"vulkan"},
        "libcublasLt.so.*": {"cuda"},
        "ccache cmake g++": {"cpu", "cuda", "vulkan"},
    }.items():
        assert there in text
        for variant, cuda in (("cpu", None), ("cuda", CUDA), ("vulkan", None)):
            before = image(variant=variant, cuda=cuda, dockerfile=text).tag
            after = image(variant=variant, cuda=cuda, dockerfile=text.replace(there, f"{there} more")).tag
            assert (before != after) == (variant in touched), (there, variant)


def test_what_is_appended_to_the_dockerfile_belongs_to_the_cpu_image() -> None:
    text = DOCKERFILE.read_text()
    assert part_for(f"{text}LABEL a=b\n", "runtime", image().arguments).endswith("LABEL a=b\n")
    assert image(dockerfile=text).target is None, "the last stage is built where none is named"


def test_a_cuda_image_says_its_cuda_and_is_compiled_for_its_architectures_alone() -> None:
    made = image(variant="cuda", cuda=CUDA, base=base_image("auto", "debian", "bookworm", "cuda"))
    assert f":b{BUILD}-cuda12.8.1-" in made.tag and made.target == "runtime-cuda"
    assert made.arguments["BASE"] == "nvidia/cuda:12.8.1-devel-ubuntu24.04"
    assert made.arguments["RUNTIME_BASE"] == "claude-local/base:noble"
    flags = made.arguments["CMAKE_FLAGS"].split(" ")
    assert {"-DGGML_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=89-real;120a-real", "-DGGML_BACKEND_DL=ON"} < set(flags)
    assert "-DGGML_NATIVE=ON" not in flags, "ggml refuses it together with GGML_BACKEND_DL"
    assert [base.pull for base in made.bases] == ["ubuntu:noble", "nvidia/cuda:12.8.1-devel-ubuntu24.04"]


def test_a_cuda_images_kernels_can_be_unpacked_by_the_oldest_driver_that_is_accepted() -> None:
    """llama.cpp's own default, "size", needs driver 550.54.14; the table of CUDAs accepts 525."""
    for cuda in (CUDA, CUDA_13):
        assert "-DGGML_CUDA_COMPRESSION_MODE=speed" in image(variant="cuda", cuda=cuda).arguments["CMAKE_FLAGS"].split()


GB10 = ["fp", "asimd", "crc32", "fphp", "asimdhp", "asimddp", "sve", "sve2", "i8mm", "bf16"]


@pytest.mark.parametrize(
    ("cpu_flags", "machine"),
    [
        (GB10, "armv8.2-a+dotprod+fp16+sve+i8mm+sve2"),
        (["fp", "asimd", "asimddp", "fphp", "asimdhp"], "armv8.2-a+dotprod+fp16"),
        (["fp", "asimd", "crc32"], "armv8-a"),
    ],
)
def test_a_gpus_image_on_arm_is_compiled_for_its_processor_by_a_compiler_without_sme(
    cpu_flags: list[str], machine: str
) -> None:
    """All variants are the CPU's "all", which no GCC before 14 compiles there; the devel images have 13."""
    for variant, cuda in (("cuda", CUDA), ("vulkan", None)):
        made = image(variant=variant, cuda=cuda, arch="aarch64", cpu_flags=cpu_flags)
        flags = made.arguments["CMAKE_FLAGS"].split()
        assert f"-DGGML_CPU_ARM_ARCH={machine}" in flags
        assert {"-DGGML_NATIVE=OFF", "-DGGML_BACKEND_DL=ON", "-DBUILD_SHARED_LIBS=ON"} < set(flags)
        assert "-DGGML_CPU_ALL_VARIANTS=ON" not in flags
        assert made.tag != image(variant=variant, cuda=cuda, arch="aarch64", cpu_flags=["asimd", "sve"]).tag
        assert "-DGGML_CPU_ALL_VARIANTS=ON" in image(variant=variant, cuda=cuda).arguments["CMAKE_FLAGS"]


def test_a_gpus_image_hangs_on_its_cuda_but_not_on_the_processor() -> None:
    tag = image(variant="cuda", cuda=CUDA).tag
    assert image(variant="cuda", cuda=CUDA_13).tag != tag
    assert image(variant="cuda", cuda=Cuda(CUDA.toolkit, ("89-real",))).tag != tag
    assert image(variant="cuda", cuda=CUDA, cpu_flags=["avx512f"]).tag == tag
    assert len({tag, image().tag, image(variant="vulkan").tag}) == 3


def test_a_vulkan_image_is_compiled_and_run_on_the_same_base() -> None:
    made = image(variant="vulkan", base=base_image("auto", "debian", "trixie", "vulkan"))
    assert (made.arguments["BASE"], made.arguments["RUNTIME_BASE"]) == ("vulkan-sdk", "claude-local/base:trixie")
    assert "-DGGML_VULKAN=ON" in made.arguments["CMAKE_FLAGS"] and made.target == "runtime-vulkan"
    assert made.bases == (made.base,)


@pytest.mark.parametrize(
    ("variant", "host", "name", "bootstrap"),
    [
        ("cuda", ("debian", "bookworm"), "noble", False),
        ("cuda", ("ubuntu", "noble"), "noble", True),
        ("vulkan", ("debian", "bookworm"), "trixie", False),
        ("vulkan", ("debian", "trixie"), "trixie", True),
        ("vulkan", ("ubuntu", "jammy"), "noble", False),
        ("cpu", ("ubuntu", "jammy"), "jammy", True),
    ],
)
def test_a_gpus_image_runs_on_a_release_that_serves_it(
    variant: str, host: tuple[str, str], name: str, bootstrap: bool
) -> None:
    base = base_image("auto", *host, variant)
    assert (base.name, base.bootstrap) == (f"claude-local/base:{name}", bootstrap)
    assert base_image("me/base:1", *host, variant).name == "me/base:1"


def test_the_dockerfile_needs_nothing_from_outside_the_context() -> None:
    text = DOCKERFILE.read_text()
    assert "syntax=" not in text and "pip" not in text and "curl" not in text
    assert "USER 10001" in text


def test_the_server_cannot_be_built_for_what_is_not_there() -> None:
    with pytest.raises(ImageError, match=f"image_llama_build: found 1, but only {BUILD}"):
        image(build_number=1)
    with pytest.raises(ImageError, match="image_cpu: found 'x', allowed is one of native, all"):
        image(cpu="x")
    with pytest.raises(ImageError, match="image_variant: found 'rocm', allowed is one of cpu, cuda, vulkan"):
        image(variant="rocm")
    with pytest.raises(ImageError, match="do not fit together"):
        image(variant="cuda")
    with pytest.raises(ImageError, match="image_base: 'auto' knows Debian and Ubuntu, this is arch"):
        base_image("auto", "arch", "")


def test_the_base_is_the_hosts_own_release_or_what_the_setting_says() -> None:
    assert base_image("auto", "debian", "trixie") == Base("claude-local/base:trixie", "debian:trixie-slim", True)
    assert base_image("auto", "ubuntu", "noble").pull == "ubuntu:noble"
    assert base_image("me/base:1", "arch", "") == Base("me/base:1", "me/base:1", bootstrap=False)


def test_instruction_sets_are_what_a_compiler_may_use() -> None:
    flags = ["avx512_vnni", "sse4_2", "pni", "amx_bf16", "fpu", "ssbd", "vmx", "asimddp", "hypervisor", "cpuid_fault"]
    assert instruction_sets(flags) == ["amx_bf16", "asimddp", "avx512_vnni", "pni", "sse4_2"]


@pytest.mark.parametrize("path", ["CMakeLists.txt", "ggml/src/ggml.c", "tools/server/server.cpp", "vendor/a/b.h"])
def test_what_the_build_reads_is_source(path: str) -> None:
    assert is_source(path)


@pytest.mark.parametrize(
    "path",
    ["README.md", "tests/a.cpp", ".github/x", "ggml/.x", "ggml/README.md", "../etc/passwd", "ggml/../x", "/ggml/x", ""],
)
def test_what_the_build_does_not_read_is_no_source(path: str) -> None:
    assert not is_source(path)


def test_the_tree_hash_sees_names_and_contents_but_not_order() -> None:
    tree = {"a": "1", "b": "2"}
    assert tree_hash(tree) == tree_hash({"b": "2", "a": "1"})
    others = [{"a": "2", "b": "1"}, {"a": "1"}, {"a": "1", "c": "2"}, {"a": "1", "b": "2", "c": "3"}]
    assert tree_hash(tree) not in [tree_hash(other) for other in others]
