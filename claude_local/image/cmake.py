"""CMake options of llama.cpp for each image variant and processor. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from claude_local.hardware.cuda import Cuda

# Options for each value of image_cpu. Measured with benchmarks/cpu_build.py (Qwen2.5-Coder-1.5B Q4_K_M, 1,650 prompt
# tokens, 2 busy cores, 3 rounds): prefill with "all" is 1.03 to 1.15 times as fast as with "native", with "generic"
# 0.26 to 0.59 times. "native" compiles 208 steps into 96 MB, "all" 461 steps into 117 MB. So "native" is the default,
# and "all" is for an image that also runs on other machines.
CPU_OPTIONS = {
    "native": ("-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF"),
    "all": ("-DGGML_NATIVE=OFF", "-DBUILD_SHARED_LIBS=ON", "-DGGML_BACKEND_DL=ON", "-DGGML_CPU_ALL_VARIANTS=ON"),
    "generic": ("-DGGML_NATIVE=OFF", "-DBUILD_SHARED_LIBS=OFF"),
}

# Each GPU backend is a library of its own (GGML_BACKEND_DL), so that llama-server also starts without the driver, as it
# must during the build. ggml does not combine that with "native", so the instruction sets are named one by one. NCCL is
# a library of 200 MB that only helps to split single tensors. The kernels are compressed for "speed": drivers before
# 550.54.14 cannot unpack "size", llama.cpp's default ("device kernel image is invalid", canonical/inference-snaps 255),
# while "speed" works from 525.60.13 on (RAPIDS, rapids_cuda_enable_fatbin_compression). GCC 12 warns 1,300 times about
# its own AVX-512 headers. BuildKit cuts a step's log off at 2 MiB, and with it the error that matters.
GPU_OPTIONS = {
    "cuda": (
        "-DGGML_CUDA=ON",
        "-DGGML_CUDA_NCCL=OFF",
        "-DGGML_CUDA_COMPRESSION_MODE=speed",
        "-DLLAMA_ALL_WARNINGS=OFF",
    ),
    "vulkan": ("-DGGML_VULKAN=ON",),
}

# The server speaks plain HTTP on the loopback interface and downloads nothing (--offline), so it needs no TLS.
COMMON_OPTIONS = ("-DLLAMA_OPENSSL=OFF",)

# Flag in an ARM processor's /proc/cpuinfo -> feature in GCC's -march.
_ARM_FEATURES = (("asimddp", "dotprod"), ("asimdhp", "fp16"), ("sve", "sve"), ("i8mm", "i8mm"), ("sve2", "sve2"))

# ggml's option on x86-64 -> the flags that its compiler options need (ggml-cpu/CMakeLists.txt).
_X86_OPTIONS = {
    "SSE42": ("sse4_2",),
    "AVX": ("avx",),
    "F16C": ("f16c",),
    "AVX2": ("avx2",),
    "BMI2": ("bmi2",),
    "FMA": ("fma",),
    "AVX_VNNI": ("avx_vnni",),
    "AVX512": ("avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"),
    "AVX512_VBMI": ("avx512vbmi",),
    "AVX512_VNNI": ("avx512_vnni",),
    "AVX512_BF16": ("avx512_bf16",),
    "AMX_TILE": ("amx_tile",),
    "AMX_INT8": ("amx_int8",),
    "AMX_BF16": ("amx_bf16",),
}

# The flags of /proc/cpuinfo that name instructions. -march=native depends on these. The other flags name features of
# the kernel, of virtualisation or of microcode, which change while the processor stays the same.
_INSTRUCTIONS = re.compile(
    r"^(?:sse\w*|ssse3|pni|sse4a|avx\w*|amx\w*|fma4?|f16c|bmi[12]|abm|popcnt|movbe|adx|aes|vaes|v?pclmulqdq|sha_ni|sha\d+|"
    r"sm[34]|gfni|xop|tbm|lzcnt|rdrand|rdseed|asimd\w*|sve\w*|sme\w*|i8mm|bf16|fphp|neon|crc32|atomics|dcpop)$"
)


def instruction_sets(cpu_flags: Iterable[str]) -> list[str]:
    """The flags of /proc/cpuinfo that name instruction sets, sorted."""
    return sorted({flag for flag in cpu_flags if _INSTRUCTIONS.match(flag)})


def options(variant: str, cpu: str, arch: str, cpu_flags: Collection[str], cuda: Cuda | None = None) -> list[str]:
    """All CMake options of an image.

    ``variant`` is ``cpu``, ``cuda`` or ``vulkan``, ``cpu`` the setting image_cpu, ``arch`` the output of ``uname -m``,
    ``cpu_flags`` the flags of /proc/cpuinfo, ``cuda`` the CUDA of that variant.
    """
    if variant == "cpu":
        return [*CPU_OPTIONS[cpu], *COMMON_OPTIONS]
    chosen = [*_cpu_part_of_gpu_image(cpu, arch, cpu_flags), *GPU_OPTIONS[variant]]
    if cuda:
        # ";" separates the items of a CMake list. The Dockerfile's shell does not split a variable's value at it.
        chosen.append(f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(cuda.architectures)}")
    return [*chosen, *COMMON_OPTIONS]


def _cpu_part_of_gpu_image(cpu: str, arch: str, cpu_flags: Collection[str]) -> tuple[str, ...]:
    """One variant, with the instruction sets of this processor; for "all" on x86-64 all of them, chosen at start.

    On ARM, "all" has two variants with SME, which need GCC 14. NVIDIA's devel images and Ubuntu 24.04 have GCC 13.
    """
    if cpu == "all" and arch != "aarch64":
        return CPU_OPTIONS["all"]
    one_variant = [option for option in CPU_OPTIONS["all"] if "ALL_VARIANTS" not in option]
    if arch == "aarch64":
        features = [feature for flag, feature in _ARM_FEATURES if flag in cpu_flags]
        # These features exist from ARMv8.2 on; nothing that came later is assumed.
        machine = "+".join(["armv8.2-a" if features else "armv8-a", *features])
        return (*one_variant, f"-DGGML_CPU_ARM_ARCH={machine}")
    flags = set(cpu_flags) if cpu == "native" else set()
    named = (f"-DGGML_{name}={'ON' if flags.issuperset(needed) else 'OFF'}" for name, needed in _X86_OPTIONS.items())
    return (*one_variant, *named)
