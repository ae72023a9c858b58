"""The CUDA releases that images are built with, and the release that suits a machine's NVIDIA GPUs. Pure.

The rules and their sources: docs/decisions/0008-image-for-the-hardware.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from claude_local.hardware.machine import Gpu

# An NVIDIA GPU with less memory than this (MiB) holds smaller models than the processor can run: a GT 1030, an MX250, a
# card with 3 GB. Cards sold with 4 GB report up to 4096 MiB, some a little less.
LEAST_CUDA_MIB = 3584
# nvidia-smi appends this to the name of a Jetson's GPU. NVIDIA's CUDA images for servers do not support it: CUDA 13.0
# unified all ARM machines except Orin (NVIDIA's blog on CUDA 13.0 for Jetson Thor; ollama #6921).
JETSON = "(nvgpu)"


@dataclass(frozen=True)
class CudaToolkit:
    """A CUDA release.

    ``devel`` is the image (in Debian: the package) that compiles with it. ``least_driver`` is the oldest driver branch
    that runs machine code compiled by it. ``architectures`` are those it can compile for; 89 is compute capability 8.9.
    """

    version: str
    devel: str
    least_driver: int
    architectures: frozenset[int]


# Of the releases that support most of a machine's GPUs, the first is used. llama.cpp's own image is built with 12.8.1.
# 13.0.2 supports newer GPUs, but has compiler bugs of its own on Blackwell. Never add 13.2.0 or 13.2.1: they compile
# IQ1_S, IQ2_S and IQ3_S wrongly. Drivers: NVIDIA's table of minor version compatibility (13.x: 580, 12.x: 525).
TOOLKITS = (
    CudaToolkit(
        version="12.8.1",
        devel="nvidia/cuda:12.8.1-devel-ubuntu24.04",
        least_driver=525,
        architectures=frozenset({50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90, 100, 101, 120}),
    ),
    CudaToolkit(
        version="13.0.2",
        devel="nvidia/cuda:13.0.2-devel-ubuntu24.04",
        least_driver=580,
        architectures=frozenset({75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121}),
    ),
)
OLDEST_DRIVER = min(toolkit.least_driver for toolkit in TOOLKITS)

# The second sources of the compiler and of the run-time libraries, the better one first. One is the release in NVIDIA's
# packages on PyPI (those of CUDA 12 have no compiler), the other the release in Debian 13.
IN_WHEELS = TOOLKITS[1]
IN_DEBIAN = CudaToolkit(
    version="12.4.1",
    devel="nvidia-cuda-toolkit",
    least_driver=525,
    architectures=frozenset({50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90}),
)
PACKAGES = (IN_WHEELS, IN_DEBIAN)
# Requirement -> sha256 of the package for x86_64; 526 MB in all.
WHEELS = {
    "nvidia-cuda-nvcc==13.0.88": "56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03",
    "nvidia-nvvm==13.0.88": "c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0",
    "nvidia-cuda-crt==13.0.88": "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4",
    "nvidia-cuda-runtime==13.0.96": "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    "nvidia-cuda-cccl==13.0.85": "e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649",
    "nvidia-cublas==13.0.2.14": "0cf238ffdbe46c00cb9aa98e7bca745c223a5ca5a53e686ac8b3e5a08fe80d6c",
}
WHEELS_ARCHITECTURE = "x86_64"


@dataclass(frozen=True)
class Cuda:
    """The CUDA release that an image is compiled with, and the architectures, as CMake names them (``89-real``).

    ``packages`` is the release of :data:`PACKAGES` that supports the same GPUs; None if there is none.
    """

    toolkit: CudaToolkit
    architectures: tuple[str, ...]
    packages: CudaToolkit | None = None


def architecture(gpu: Gpu) -> int | None:
    """89 for compute capability 8.9; None when it is unknown."""
    return int(gpu.compute_capability.replace(".", "")) if gpu.compute_capability else None


def driver_branch(gpu: Gpu) -> int:
    """580 for driver 580.95.05; 0 without a driver."""
    branch = (gpu.driver or "").partition(".")[0]
    return int(branch) if branch.isdigit() else 0


def real(arch: int) -> str:
    """CMake's name for machine code of exactly this architecture, which the driver need not compile at the first start.

    Blackwell's 12.x has its FP4 instructions only in the ``a`` form (llama.cpp's ggml-cuda/CMakeLists.txt).
    """
    return f"{arch}a-real" if 120 <= arch < 130 else f"{arch}-real"


def is_small(gpu: Gpu) -> bool:
    """Whether the GPU reports too little memory. A GPU that shares the machine's memory reports none."""
    return gpu.memory_mib is not None and gpu.memory_mib < LEAST_CUDA_MIB


def supports(toolkit: CudaToolkit, gpu: Gpu) -> bool:
    """Whether programs compiled with the release run on the GPU and its driver."""
    return driver_branch(gpu) >= toolkit.least_driver and architecture(gpu) in toolkit.architectures


def best_cuda(gpus: Iterable[Gpu]) -> tuple[Cuda | None, tuple[Gpu, ...]]:
    """The CUDA for most of these GPUs, and the GPUs that it supports; None and () when it would support none."""
    gpus = tuple(gpus)
    toolkit = max(TOOLKITS, key=lambda each: sum(supports(each, gpu) for gpu in gpus))
    supported = tuple(gpu for gpu in gpus if supports(toolkit, gpu))
    if not supported:
        return None, ()
    architectures = sorted({arch for gpu in supported if (arch := architecture(gpu)) is not None})
    packages = next((each for each in PACKAGES if all(supports(each, gpu) for gpu in supported)), None)
    return Cuda(toolkit, tuple(real(arch) for arch in architectures), packages), supported
