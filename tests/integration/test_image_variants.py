"""The Dockerfile builds every variant with the planned arguments, in the real BuildKit.

The base images hold stand-ins that record their arguments in place of cmake and apt-get. Building for real needs
the compilers of CUDA and Vulkan, and a GPU.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from claude_local.docker import commands as words
from claude_local.hardware.cuda import TOOLKITS, Cuda
from claude_local.image.base import REPOSITORY, Base
from claude_local.image.builds import BUILDS
from claude_local.image.plan import Image, plan
from tests.integration.machine import ROOT, docker

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

NAME = "claude-local-standin"
DOCKERFILE = ROOT / "files" / "image" / "Dockerfile"

# The stand-ins. cmake leaves a llama-server that prints the arguments, and some libraries under the right names.
TOOLS = r"""
tool() { cat >"/usr/local/bin/$1" && chmod 755 "/usr/local/bin/$1"; }
printf '#!/bin/sh\necho "packages: $*" >>/packages\n' | tool apt-get
printf '#!/bin/sh\necho "cache hits"\n' | tool ccache
printf '#!/bin/sh\n' | tool strip
printf '#!/bin/sh\n' | tool patch
tool cmake <<'END'
#!/bin/sh
if test "$1" = --build; then echo "$*" >>/asked; else echo "$*" >/asked; exit 0; fi
mkdir -p /build/bin
{ printf '#!/bin/sh\ncat <<"SAID"\nversion: 11434 (b11434)\n'; cat /asked; printf 'SAID\n'; } >/build/bin/llama-server
chmod 755 /build/bin/llama-server
for name in cuda vulkan; do cp "$(ldd /bin/sh | awk '/libc\.so/ { print $3 }')" "/build/bin/libggml-$name.so"; done
END
lib=/usr/local/cuda-12.8/targets/x86_64-linux/lib
mkdir -p "$lib" && ln -s targets/x86_64-linux/lib /usr/local/cuda-12.8/lib64 && ln -s cuda-12.8 /usr/local/cuda
for name in cudart cublas cublasLt nvrtc; do
  echo "$name" >"$lib/lib$name.so.12.8.1"; ln -s "lib$name.so.12.8.1" "$lib/lib$name.so.12"
done
"""
LDD = """printf '#!/bin/sh\\necho "\\t%s"\\n' >/usr/local/bin/ldd; chmod 755 /usr/local/bin/ldd\n"""


def base(folder: Path, tag: str, script: str) -> str:
    """Build an image from this machine's base image and a script. Returns its name."""
    name = f"{NAME}/{tag}"
    listed = [docker(), "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY]
    start = subprocess.run(listed, capture_output=True, text=True, check=True, timeout=60).stdout.split()[0]
    folder.mkdir()
    (folder / "script").write_text(script)
    (folder / "Dockerfile").write_text(f"FROM {start}\nCOPY script /script\nRUN sh -eu /script\n")
    subprocess.run(words.build(docker(), str(folder), name, {}), check=True, capture_output=True, timeout=300)
    return name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The base images, by what their ldd prints."""
    folder = tmp_path_factory.mktemp("bases")
    names = {
        "whole": base(folder / "a", "whole", TOOLS),
        "driver": base(folder / "b", "driver", TOOLS + LDD % "libcuda.so.1 => not found"),
        "broken": base(folder / "c", "broken", TOOLS + LDD % "libcublas.so.12 => not found"),
    }
    yield names
    for line in subprocess.run(
        [docker(), "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", f"{NAME}/*"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.split():  # fmt: skip
        subprocess.run([docker(), "rmi", "--force", line], check=False, capture_output=True, timeout=120)


def planned(variant: str, bases: dict[str, str], runtime: str) -> Image:
    """The image as the deploy plans it, on the stand-in base images."""
    cuda = None
    if variant == "cuda":
        cuda = Cuda(replace(TOOLKITS[0], devel=bases["whole"]), ("89-real", "120a-real"))
    return plan(
        dockerfile=DOCKERFILE.read_text(),
        patches="",
        web_ui=b"",
        build_number=max(BUILDS),
        variant=variant,
        cpu="native",
        base=Base(bases[runtime], bases[runtime], bootstrap=False),
        arch="x86_64",
        cpu_flags=["avx2"],
        jobs=3,
        cuda=cuda,
    )


def built(image: Image, folder: Path) -> tuple[subprocess.CompletedProcess[str], str]:
    """Build the variant's stage. Returns the finished process and the image's name."""
    (folder / "llama.cpp").mkdir(exist_ok=True)
    (folder / "llama.cpp" / "CMakeLists.txt").write_text("")
    (folder / "Dockerfile").write_text(DOCKERFILE.read_text())
    (folder / "llama.patch").write_text("")
    (folder / "web-ui.tar.xz").write_bytes(b"")
    name = f"{NAME}/result:{folder.name}"
    command = words.build(docker(), str(folder), name, image.arguments, {}, image.target)
    return subprocess.run(command, capture_output=True, text=True, timeout=300), name


def inside(name: str, script: str) -> str:
    command = [docker(), "run", "--rm", "--network=none", "--entrypoint=sh", name, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.parametrize("variant", ["cpu", "cuda", "vulkan"])
def test_the_dockerfile_builds_every_variant_with_its_own_arguments(
    made: dict[str, str], tmp_path: Path, variant: str
) -> None:
    image = planned(variant, made, "whole")
    done, name = built(image, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    said = subprocess.run(words.version_of(docker(), name), capture_output=True, text=True, timeout=60).stdout
    assert "version: 11434" in said
    for flag in image.arguments["CMAKE_FLAGS"].split():
        assert flag in said.split(), "each flag arrives as one word, also the one with a semicolon"
    assert "--target llama-server --parallel 3" in said
    assert ("-DGGML_CUDA=ON" in said, "-DGGML_VULKAN=ON" in said) == (variant == "cuda", variant == "vulkan")
    assert inside(name, "id -u").strip() == "10001"
    assert ("mesa-vulkan-drivers" in inside(name, "cat /packages")) == (variant == "vulkan")
    libraries = inside(name, "cd /opt/llama && ls | grep -E 'lib(cu|nv)' || true").split()
    wanted = [f"lib{part}.so.{end}" for part in ("cublas", "cublasLt", "cudart") for end in ("12", "12.8.1")]
    assert sorted(libraries) == (sorted(wanted) if variant == "cuda" else [])
    if variant == "cuda":
        assert inside(name, "readlink /opt/llama/libcublas.so.12; echo $LD_LIBRARY_PATH").split() == [
            "libcublas.so.12.8.1",
            "/opt/llama",
        ]


@pytest.mark.parametrize(
    ("variant", "runtime", "fails"), [("cuda", "driver", False), ("cuda", "broken", True), ("vulkan", "broken", True)]
)
def test_a_missing_library_that_the_driver_does_not_provide_fails_the_build(
    made: dict[str, str], tmp_path: Path, variant: str, runtime: str, fails: bool
) -> None:
    done, _ = built(planned(variant, made, runtime), tmp_path)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
