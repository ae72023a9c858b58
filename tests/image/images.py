"""Images planned from inputs that a test may change one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from claude_local.hardware.cuda import TOOLKITS, Cuda
from claude_local.image.base import base_image
from claude_local.image.builds import BUILDS
from claude_local.image.plan import Image, plan

DOCKERFILE = Path(__file__).parents[2] / "files" / "image" / "Dockerfile"
BUILD = max(BUILDS)
CUDA_12 = Cuda(TOOLKITS[0], ("89-real", "120a-real"))
CUDA_13 = Cuda(TOOLKITS[1], ("89-real", "120a-real"))


def image(**changes: Any) -> Image:
    """The image for a Debian 12 machine without a GPU, except for ``changes`` of plan's arguments."""
    inputs: dict[str, Any] = {
        "dockerfile": "FROM x",
        "patches": "",
        "web_ui": b"",
        "build_number": BUILD,
        "variant": "cpu",
        "cpu": "native",
        "base": base_image("auto", "debian", "bookworm"),
        "packages_base": base_image("auto", "debian", "bookworm"),
        "arch": "x86_64",
        "cpu_flags": ["avx2", "fma"],
    }
    return plan(**{**inputs, **changes})
