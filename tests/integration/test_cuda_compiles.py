"""NVIDIA's packages from PyPI compile llama.cpp's kernels with the planned options, in the Dockerfile's own stage.

The whole CUDA library takes half an hour of CPU time for one architecture (``./provision test --gpu-build``). So one
file of each kind is compiled here: the cheapest for every architecture that the compiler has, the matrix products for
the oldest and the newest, the rest for the newest. In CPU seconds for one architecture: norm 5, argsort 34, mmf 13,
mmq 27.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_local.docker import commands
from claude_local.hardware.cuda import IN_WHEELS, WHEELS_ARCHITECTURE, Cuda, real
from claude_local.image import cmake, cuda_wheels, source
from claude_local.image.base import REPOSITORY
from claude_local.image.builds import BUILDS
from claude_local.image.dockerfile import CUDA_WHEELS
from claude_local.paths import Paths
from tests.integration.machine import HOME, ROOT, docker, run

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

NAME = "claude-local-test/cuda"
TOOLS = """FROM {stage}
RUN --mount=type=cache,id=claude-local-apt,target=/var/cache/apt,sharing=locked \\
    --mount=type=cache,id=claude-local-lists,target=/var/lib/apt/lists,sharing=locked \\
    apt-get update -q && apt-get install -q -y --no-install-recommends cmake ninja-build
"""
# $1 CMake's options; then the files, without their suffixes. -k 0: report every file that does not compile.
COMPILE = r"""
options=$1; shift
cmake -S /src -B /build -G Ninja -DCMAKE_BUILD_TYPE=Release -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
  -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF $options >/tmp/log || { cat /tmp/log; exit 1; }
for file; do set -- "$@" "ggml/src/ggml-cuda/CMakeFiles/ggml-cuda.dir/$file.cu.o"; shift; done
ninja -C /build -k 0 "$@"
"""
# The deploy's own downloads; they stay.
CONTEXT = Path(Paths(home=str(HOME), model_dir="", bin_dir="").image_context)
ARCHITECTURES = sorted(IN_WHEELS.architectures)
OLDEST, NEWEST = ARCHITECTURES[0], ARCHITECTURES[-1]


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of an image with the compiler: the stage of our Dockerfile, CMake and Ninja."""
    context = tmp_path_factory.mktemp("context")
    assert source.main([str(max(BUILDS)), str(CONTEXT / "llama.cpp")]) == 0
    cuda_wheels.fetch(CONTEXT / "cuda")
    shutil.copytree(CONTEXT / "cuda", context / "cuda")
    shutil.copy(ROOT / "files/image/Dockerfile", context)
    listed = [docker(), "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY]
    base = subprocess.run(listed, capture_output=True, text=True, check=True, timeout=60).stdout.split()[0]
    stage = f"{NAME}:stage"
    build = commands.build(docker(), str(context), stage, {"BASE": base, "RUNTIME_BASE": base}, {}, CUDA_WHEELS)
    assert run(*build, timeout=900).returncode == 0
    (context / "tools").mkdir()
    (context / "tools/Dockerfile").write_text(TOOLS.format(stage=stage))
    assert run(*commands.build(docker(), str(context / "tools"), f"{NAME}:tools", {}), timeout=600).returncode == 0
    yield f"{NAME}:tools"
    subprocess.run([docker(), "rmi", "--force", f"{NAME}:tools", stage], check=False, capture_output=True, timeout=120)


@pytest.mark.parametrize(
    ("architectures", "files"),
    [
        (ARCHITECTURES, ["norm"]),
        ([OLDEST, NEWEST], ["template-instances/mmf-instance-ncols_1", "template-instances/mmq-instance-q4_0"]),
        (
            [NEWEST],
            [
                "argsort",
                "template-instances/fattn-mma-f16-instance-ncols1_64-ncols2_1",
                "template-instances/fattn-tile-instance-dkq40-dv40",
            ],
        ),
    ],
)
def test_kernels_compile_with_the_planned_options(compiler: str, architectures: list[int], files: list[str]) -> None:
    cuda = Cuda(IN_WHEELS, tuple(real(each) for each in architectures), packages=IN_WHEELS)
    options = " ".join(cmake.options("cuda", "native", WHEELS_ARCHITECTURE, [], cuda))
    words = [docker(), "run", "--rm", "--network=none", f"--volume={CONTEXT}/llama.cpp:/src:ro", compiler]
    done = run(*words, "sh", "-euc", COMPILE, "sh", options, *files, timeout=1800)
    assert done.returncode == 0
