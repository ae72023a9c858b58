"""The instructions that one variant's image is built from."""

import hashlib
import re
from dataclasses import replace

import pytest

from claude_local.hardware.cuda import IN_WHEELS, Cuda
from claude_local.image.cmake import CPU_OPTIONS
from claude_local.image.dockerfile import CUDA_WHEELS, TARGETS, instructions
from tests.image.images import CUDA_12, DOCKERFILE, image

TEXT = DOCKERFILE.read_text()
VARIANTS = [("cpu", None), ("cuda", CUDA_12), ("vulkan", None)]


@pytest.mark.parametrize(
    "changes", [*({"cpu": cpu} for cpu in CPU_OPTIONS), {"variant": "cuda", "cuda": CUDA_12}, {"variant": "vulkan"}]
)
def test_a_variants_instructions_take_exactly_its_build_arguments(changes: dict[str, object]) -> None:
    planned = image(**changes, dockerfile=TEXT)
    used = instructions(TEXT, TARGETS[planned.variant], planned.arguments)
    assert set(re.findall(r"^ARG (\w+)", used, re.MULTILINE)) == set(planned.arguments)
    assert set(re.findall(r"\$\{(\w+)\}", used)) <= set(planned.arguments)


def test_an_image_from_nvidias_packages_has_the_stage_that_unpacks_them_and_the_others_do_not() -> None:
    planned = image(variant="cuda", cuda=replace(CUDA_12, packages=IN_WHEELS), dockerfile=TEXT)
    assert planned.from_packages is not None
    stage = f"AS {CUDA_WHEELS}"
    assert stage in instructions(TEXT, TARGETS["cuda"], planned.from_packages.arguments)
    assert stage not in instructions(TEXT, TARGETS["cuda"], planned.arguments)
    assert stage not in instructions(TEXT, TARGETS["cpu"], image().arguments)


def test_a_cpu_images_instructions_are_pinned() -> None:
    """If this fails, the next deploy of every machine without a GPU builds a new image. Update the hash if you mean it.

    It changed once without a change of an instruction: since 2026-11-29 comments and blank lines are not hashed.
    """
    used = instructions(TEXT, "runtime", image().arguments)
    pinned = "363048194ee6e12f078f0af9689edf82bf4a764e43ee77dbe8d10e7d35739686"
    assert hashlib.sha256(used.encode()).hexdigest() == pinned


@pytest.mark.parametrize(("variant", "cuda"), VARIANTS)
def test_editing_comments_and_blank_lines_leaves_the_tag(variant: str, cuda: Cuda | None) -> None:
    planned = image(variant=variant, cuda=cuda, dockerfile=TEXT)
    rewritten = "# Another comment\n\n" + re.sub(r"^#.*\n", "# Reworded.\n\n", TEXT, flags=re.MULTILINE)
    bare = "".join(line for line in TEXT.splitlines(keepends=True) if line.strip() and not line.startswith("#"))
    assert rewritten != TEXT != bare
    for text in (rewritten, bare):
        assert image(variant=variant, cuda=cuda, dockerfile=text).tag == planned.tag


@pytest.mark.parametrize(("variant", "cuda"), VARIANTS)
@pytest.mark.parametrize(
    ("package", "variants"),
    [
        ("glslc libvulkan-dev", {"vulkan"}),
        ("mesa-vulkan-drivers", {"vulkan"}),
        ("libcublasLt.so.*", {"cuda"}),
        ("ccache cmake g++", {"cpu", "cuda", "vulkan"}),
    ],
)
def test_a_variants_tag_depends_on_its_own_stages_only(
    package: str, variants: set[str], variant: str, cuda: Cuda | None
) -> None:
    assert package in TEXT
    before = image(variant=variant, cuda=cuda, dockerfile=TEXT).tag
    after = image(variant=variant, cuda=cuda, dockerfile=TEXT.replace(package, f"{package} more")).tag
    assert (before != after) == (variant in variants)


def test_the_last_stage_is_the_cpu_images() -> None:
    assert instructions(f"{TEXT}LABEL a=b\n", "runtime", image().arguments).endswith("LABEL a=b")
    assert image(dockerfile=TEXT).target is None, "docker builds the last stage when none is named"


def test_the_dockerfile_needs_nothing_but_its_context_and_apt() -> None:
    assert "syntax=" not in TEXT and "pip" not in TEXT and "curl" not in TEXT
    assert "USER 10001" in TEXT
