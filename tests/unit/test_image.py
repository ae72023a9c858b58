"""The image's tag changes with everything that goes into the image, and with nothing else."""

import re
from pathlib import Path
from typing import Any

import pytest

from claude_local.image import (
    BUILDS,
    CPU_FLAGS,
    Base,
    Image,
    ImageError,
    base_image,
    instruction_sets,
    is_source,
    plan,
    tree_hash,
)

DOCKERFILE = Path(__file__).parents[2] / "files" / "image" / "Dockerfile"
BUILD = max(BUILDS)


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


def test_what_does_not_go_in_leaves_the_tag() -> None:
    same = image().tag
    assert image(jobs=7).tag == same
    # Order, and flags that are no instructions: a kernel or microcode update is no reason to build.
    assert image(cpu_flags=["fma", "avx2", "ibrs", "md_clear", "hypervisor"]).tag == same
    assert image(cpu="all", cpu_flags=[]).tag == image(cpu="all", cpu_flags=["avx512f"]).tag


def test_the_tag_names_build_and_variant() -> None:
    assert re.fullmatch(rf"claude-local/llama-server:b{BUILD}-cpu-[0-9a-f]{{12}}", image().tag)
    assert f"b{BUILD}-cpu-all-" in image(cpu="all").tag


def test_every_build_argument_is_one_that_the_dockerfile_takes() -> None:
    taken = re.findall(r"^ARG (\w+)", DOCKERFILE.read_text(), re.MULTILINE)
    for cpu in CPU_FLAGS:
        assert sorted(image(cpu=cpu).arguments) == sorted(taken)


def test_the_dockerfile_needs_nothing_from_outside_the_context() -> None:
    text = DOCKERFILE.read_text()
    assert "syntax=" not in text and "pip" not in text and "curl" not in text
    assert "USER 10001" in text


def test_the_server_cannot_be_built_for_what_is_not_there() -> None:
    with pytest.raises(ImageError, match=f"image_llama_build: found 1, but only {BUILD}"):
        image(build_number=1)
    with pytest.raises(ImageError, match="image_cpu: found 'x', allowed is one of native, all"):
        image(cpu="x")
    with pytest.raises(ImageError, match="image_variant: found 'cuda'"):
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
