"""CMake's options for each variant and processor."""

import pytest

from claude_local.hardware.cuda import Cuda
from claude_local.image.cmake import instruction_sets, options
from tests.image.images import CUDA_12, CUDA_13

GB10 = ["fp", "asimd", "crc32", "fphp", "asimdhp", "asimddp", "sve", "sve2", "i8mm", "bf16"]


def test_only_flags_that_name_instructions_are_instruction_sets() -> None:
    flags = ["avx512_vnni", "sse4_2", "pni", "amx_bf16", "fpu", "ssbd", "vmx", "asimddp", "hypervisor", "cpuid_fault"]
    assert instruction_sets(flags) == ["amx_bf16", "asimddp", "avx512_vnni", "pni", "sse4_2"]


def test_a_cuda_image_is_compiled_for_its_architectures_only() -> None:
    cuda = options("cuda", "native", "x86_64", [], CUDA_12)
    assert {"-DGGML_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=89-real;120a-real", "-DGGML_BACKEND_DL=ON"} < set(cuda)
    assert "-DGGML_NATIVE=ON" not in cuda, "ggml refuses it together with GGML_BACKEND_DL"


@pytest.mark.parametrize("cuda", [CUDA_12, CUDA_13], ids=["12", "13"])
def test_the_oldest_supported_driver_can_unpack_a_cuda_images_kernels(cuda: Cuda) -> None:
    """llama.cpp's default, "size", needs driver 550.54.14; the table of CUDA releases accepts 525."""
    assert "-DGGML_CUDA_COMPRESSION_MODE=speed" in options("cuda", "native", "x86_64", [], cuda)


@pytest.mark.parametrize(
    ("cpu_flags", "machine"),
    [
        (GB10, "armv8.2-a+dotprod+fp16+sve+i8mm+sve2"),
        (["fp", "asimd", "asimddp", "fphp", "asimdhp"], "armv8.2-a+dotprod+fp16"),
        (["fp", "asimd", "crc32"], "armv8-a"),
    ],
)
@pytest.mark.parametrize(("variant", "cuda"), [("cuda", CUDA_12), ("vulkan", None)])
def test_a_gpus_image_on_arm_compiles_without_sme(
    variant: str, cuda: Cuda | None, cpu_flags: list[str], machine: str
) -> None:
    """image_cpu "all" has variants with SME there, which need GCC 14; the devel images have 13."""
    arm = options(variant, "native", "aarch64", cpu_flags, cuda)
    assert f"-DGGML_CPU_ARM_ARCH={machine}" in arm
    assert {"-DGGML_NATIVE=OFF", "-DGGML_BACKEND_DL=ON", "-DBUILD_SHARED_LIBS=ON"} < set(arm)
    assert "-DGGML_CPU_ALL_VARIANTS=ON" not in arm


@pytest.mark.parametrize(("variant", "cuda"), [("cuda", CUDA_12), ("vulkan", None)])
def test_a_gpus_image_has_the_instructions_of_this_processor_only(variant: str, cuda: Cuda | None) -> None:
    haswell = ["sse4_2", "avx", "f16c", "avx2", "bmi2", "fma", "avx512f"]  # not all that ggml's AVX512 needs
    native = options(variant, "native", "x86_64", haswell, cuda)
    assert {"-DGGML_NATIVE=OFF", "-DGGML_BACKEND_DL=ON", "-DGGML_AVX2=ON", "-DGGML_FMA=ON"} < set(native)
    assert {"-DGGML_AVX512=OFF", "-DGGML_AVX_VNNI=OFF", "-DGGML_AMX_TILE=OFF"} < set(native)
    assert "-DGGML_AVX2=OFF" in options(variant, "generic", "x86_64", haswell, cuda)
    every = options(variant, "all", "x86_64", haswell, cuda)
    assert "-DGGML_CPU_ALL_VARIANTS=ON" in every and not any("AVX" in option for option in every)
