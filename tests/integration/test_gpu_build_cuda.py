"""The deploy of a machine with an NVIDIA GPU, with the real CUDA image, until it finds that there is no GPU.

    ./provision test --gpu-build

Stand-ins take the place of silicon, and of what only NVIDIA's repository has: the driver's two libraries (below
NVIDIA's own nvidia-smi), and the container toolkit. CUDA comes from NVIDIA's packages, then from Debian's. Each first
build takes about 20 minutes of two cores. Later only what has changed is compiled.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_local.deploy.facts.nvidia import NvidiaRuntime
from tests.deploy.strict_host import fact_on_this_machine
from tests.hardware.real_nvidia_smi import compile_library, fetch
from tests.integration import container_toolkit
from tests.integration.machine import PYINFRA, docker, run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.gpu_build,
    pytest.mark.usefixtures("deployed"),
    pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="systemd would reload this machine's own Docker"),
    pytest.mark.skipif(os.getuid() != 0, reason="only root may reload Docker"),
]

GPU = "NVML_GPUS=00000000:01:00|NVIDIA GeForce RTX 4090|24564|23900|8.9|0|0"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
DAEMON, PIDFILE = Path("/etc/docker/daemon.json"), Path("/var/run/docker.pid")
# The models stage is never reached; a small model needs no room for the disk's check.
SMALL = ("--data", "default_profile=qwen2.5-coder-0.5b", "--data", 'model_profiles=["qwen2.5-coder-0.5b"]')


def reload_docker(configuration: str) -> None:
    """Let the daemon read this configuration."""
    DAEMON.write_text(configuration)
    os.kill(int(PIDFILE.read_text()), signal.SIGHUP)


@pytest.fixture
def with_a_gpu(tmp_path: Path, driver: str) -> Iterator[dict[str, str]]:
    """The environment of a deploy on a machine with an RTX 4090 and this driver. Docker's configuration is restored
    afterwards."""
    nvml = (GPU, f"NVML_DRIVER={driver}")
    smi = fetch(tmp_path, "trixie")
    compile_library(tmp_path)
    compile_library(tmp_path, "libcuda.c", "libcuda.so.1")
    tools = tmp_path / "bin"
    tools.mkdir()
    variables = " ".join(f"'{each}'" for each in (*nvml, f"LD_LIBRARY_PATH={tmp_path}"))
    (tools / "nvidia-smi").write_text(f'#!/bin/sh\nexec env {variables} {smi} "$@"\n')
    (tools / "nvidia-smi").chmod(0o755)
    mounts = {f"{LIBRARIES}/{name}": tmp_path / name for name in ("libnvidia-ml.so.1", "libcuda.so.1")}
    container_toolkit.install(tools, {"/usr/bin/nvidia-smi": smi, **mounts}, nvml)
    before = DAEMON.read_text() if DAEMON.exists() else None
    kept = DAEMON.with_name("daemon.json.before-nvidia")
    try:
        yield {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    finally:
        # Docker forgets a runtime only if its configuration names the others.
        reload_docker(json.dumps({**json.loads(before or "{}"), "runtimes": {}}))
        assert fact_on_this_machine(NvidiaRuntime(), client=docker()) is False
        if before is None:
            DAEMON.unlink()
        else:
            reload_docker(before)
        kept.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("driver", "packages"),
    [("580.95.05", "libcudart.so.13"), ("550.163.01", "libcudart.so.12")],
    ids=["nvidias-packages", "debians-packages"],
)
def test_the_deploy_goes_through_until_it_finds_no_gpu(with_a_gpu: dict[str, str], packages: str) -> None:
    deploy = [PYINFRA, "-y", "@local", "deploy.py", *SMALL]
    # -a: tee cuts off a log that stderr is.
    copied = ["bash", "-o", "pipefail", "-c", '"$@" 2>&1 | tee -a /dev/stderr', "bash"]
    done = run(*copied, *deploy, timeout=4 * 3600, env=with_a_gpu)
    said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout)
    assert done.returncode != 0, "a machine without a GPU cannot pass"
    tag = re.findall(r"Build (claude-local/llama-server:\S+-cuda-\w+)", said)[-1]
    assert re.findall(r"Starting operation: (.*)", said)[-1].strip().endswith(f"Build {tag}"), "nothing failed before"
    assert "the image is built, but finds no GPU in its container (variant cuda)" in said
    assert "no CUDA-capable device is detected" in said

    image = f"{tag}-unchecked"
    listing = ["run", "--rm", "--network=none", "--user=0", "--entrypoint=sh", image, "-c"]
    script = "ldd /opt/llama/libggml-cuda.so; ls -lL /opt/llama/lib*cu*; find / -xdev -name nvcc -o -xdev -name ptxas"
    inside = subprocess.run(
        [docker(), *listing, script], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    size = subprocess.run(
        [docker(), "image", "inspect", "--format", "{{.Size}}", image],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    print(f"{tag}, {int(size) / 1e6:.0f} MB\n{inside}", flush=True)
    assert re.findall(r"(\S+) => not found", inside) == ["libcuda.so.1"], "the driver brings it"
    assert f"{packages} => /opt/llama/" in inside
    assert not re.search(r"/(nvcc|ptxas)$", inside, re.MULTILINE), "the compiler stays out of the image"
