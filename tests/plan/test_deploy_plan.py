"""The whole deploy on pyinfra's @fake connector: every stage in order, on a machine that has nothing, touching
nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from claude_local.deploy import dry_run

ROOT = Path(__file__).resolve().parents[2]
PYINFRA = str(Path(sys.executable).parent / "pyinfra")
STAGES = [
    "packages",
    "runtime",
    "fence",
    "docker",
    "image",
    "models",
    "server",
    "manager",
    "claude",
    "home",
    "commands",
]


def pyinfra(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [PYINFRA, *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False
    )


@pytest.fixture(scope="module")
def steps() -> list[dict[str, Any]]:
    done = pyinfra("--json", "tests/plan/fake_inventory.py", "deploy.py")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["plan"]
    return found


@pytest.fixture(scope="module")
def plan(steps: list[dict[str, Any]]) -> list[str]:
    return [step["name"] for step in steps]


def test_a_dry_run_fits_80_columns_and_names_the_big_downloads(steps: list[dict[str, Any]]) -> None:
    lines = dry_run.render(steps, 80)
    assert max(map(len, lines)) <= 80 and len(lines) > 20
    said = " ".join(" ".join(lines).split())
    for size in ("GB to download)", "llama.cpp b11434 (about 40 MB)", "release server (380 MB)"):
        assert size in said


def test_a_run_for_no_machine_is_an_error() -> None:
    done = pyinfra("-y", "tests/plan/fake_inventory.py", "tasks/preflight.py", "--limit", "nobody")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("no machine is left") and "@fake/" in done.stderr.splitlines()[-1]


def test_the_stages_come_in_the_order_of_the_picture(plan: list[str]) -> None:
    stages = [name.split(" | ")[0] for name in plan]
    assert list(dict.fromkeys(stages)) == [f"tasks/{stage}.py" for stage in STAGES]


def test_every_step_is_named_in_the_imperative(plan: list[str]) -> None:
    for name in plan:
        step = name.split(" | ", 1)[1]
        assert step[0].isupper() and "(" not in step.split()[0], name


@pytest.mark.parametrize("stage", ["preflight", *STAGES, "nvidia", "verify"])
def test_each_task_file_plans_alone(stage: str) -> None:
    done = pyinfra("--dry", "tests/plan/fake_inventory.py", f"tasks/{stage}.py")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("machine", "variant", "reason", "steps"),
    [
        (
            "two-generations",
            "cuda",
            "Image variant cuda: NVIDIA GeForce RTX 4090 (8.9, 24 GiB), NVIDIA GeForce RTX 5070 Ti (12.0, 16 GiB) "
            "with driver 575.64.03: CUDA 12.8.1 for 89-real;120a-real",
            ["Install NVIDIA's container toolkit", "Register NVIDIA's runtime with Docker", "Get ubuntu:noble",
             "Check that containers see the GPUs"],
        ),
        ("hopper", "cuda", "driver 590.48.01: CUDA 12.8.1 (without a registry 13.0.2) for 90-real",
         ["Get ubuntu:noble, nvidia/cuda:12.8.1-devel-ubuntu24.04", "Get NVIDIA's CUDA packages"]),
        ("spark", "cuda", "NVIDIA GB10 (12.1) with driver 580.95.05: CUDA 13.0.2 for 121a-real", []),
        ("amd", "vulkan", "Image variant vulkan: AMD Radeon RX 6700/6700 XT",
         ["Get debian:trixie-slim"]),
        ("no-driver", "cpu", "NVIDIA GeForce RTX 4070 has no NVIDIA driver (nouveau", []),
    ],
)  # fmt: skip
def test_a_machine_with_a_gpu_gets_its_image_and_what_that_needs(
    machine: str, variant: str, reason: str, steps: list[str]
) -> None:
    done = pyinfra("--json", "tests/plan/gpu_inventory.py", "deploy.py", "--limit", f"@fake/{machine}")
    assert done.returncode == 0, done.stderr
    names = [operation["name"] for operation in json.loads(done.stdout)["plan"]]
    assert any(f"Build claude-local/llama-server:b11434-{variant}-" in name for name in names)
    assert reason in " ".join(done.stderr.split())
    for step in steps:
        assert any(step in name for name in names), step
    stages = list(dict.fromkeys(name.split(" | ")[0] for name in names))
    assert ("tasks/nvidia.py" in stages) == variant.startswith("cuda")
    if variant.startswith("cuda"):
        assert stages.index("tasks/docker.py") < stages.index("tasks/nvidia.py") < stages.index("tasks/image.py")


@pytest.mark.parametrize(
    ("machine", "build", "gpu"),
    [
        (
            "two-generations",
            ["--build-arg BASE=nvidia/cuda:12.8.1-devel-ubuntu24.04",
             "--build-arg RUNTIME_BASE=claude-local/base:noble",
             "-DGGML_CUDA=ON -DGGML_CUDA_NCCL=OFF -DGGML_CUDA_COMPRESSION_MODE=speed ",
             "-DCMAKE_CUDA_ARCHITECTURES=89-real;120a-real ", "--target runtime-cuda"],
            "--runtime nvidia --env NVIDIA_VISIBLE_DEVICES=all --env NVIDIA_DRIVER_CAPABILITIES=compute,utility "
            "--env CUDA_DEVICE_ORDER=PCI_BUS_ID --env CUDA_CACHE_DISABLE=1",
        ),
        (
            "amd",
            ["--build-arg BASE=vulkan-sdk", "--build-arg RUNTIME_BASE=claude-local/base:trixie", "-DGGML_VULKAN=ON ",
             "--target runtime-vulkan"],
            "--device /dev/dri/renderD128 --group-add 105",
        ),
        ("no-driver", ["--build-arg BASE=claude-local/base:bookworm", "-DGGML_NATIVE=ON "], ""),
    ],
)  # fmt: skip
def test_the_commands_that_build_and_run_a_variant(machine: str, build: list[str], gpu: str) -> None:
    done = pyinfra(
        "-y", "--debug", "tests/plan/gpu_inventory.py", "tasks/image.py", "tasks/server.py", "--limit",
        f"@fake/{machine}",
        "--data", "default_profile=qwen2.5-coder-1.5b",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "simulating command" in line]
    (building,) = [line for line in lines if "docker build --progress=plain" in line]
    for words in build:
        assert words in building
    assert ("--target" in building) == bool(gpu)
    (running,) = [line for line in lines if "docker run --label claude-local.config=" in line]
    assert f" {gpu} claude-local/llama-server:b11434-".replace("  ", " ") in running
    assert "--cap-drop ALL" in running and "--read-only" in running
    devices = [line for line in lines if "--list-devices" in line]
    assert len(devices) == bool(gpu) and all(gpu in line for line in devices)


def test_the_cpus_image_makes_no_room_for_that_of_a_gpu_that_came_later() -> None:
    machine = ("tests/plan/gpu_inventory.py", "tasks/preflight.py", "--limit", "@fake/hopper-with-a-cpu-image")
    done = pyinfra("-y", *machine)
    assert done.returncode == 1
    assert "12.0 GiB free, needed 21.0 GiB (image build 20.0 GiB" in " ".join(done.stderr.split())
    assert pyinfra("-y", *machine, "--data", "image_variant=cpu").returncode == 0


def test_a_variant_that_the_machine_cannot_run_is_refused_with_the_way_there() -> None:
    done = pyinfra(
        "-y", "tests/plan/gpu_inventory.py", "deploy.py", "--limit", "@fake/no-driver", "--data", "image_variant=cuda"
    )
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "image_variant: 'cuda' cannot run here: NVIDIA GeForce RTX 4070 has no NVIDIA driver" in said
    assert "apt install nvidia-driver" in said
    assert "Traceback" not in done.stderr and "Starting operation" not in done.stderr


def test_bad_data_stops_everything_with_all_problems_and_no_operation(tmp_path: Path) -> None:
    (tmp_path / "mine.conf").write_text("[a]\nMODEL = a.gguf\nCTX_SIZE = many\n")
    done = pyinfra(
        "-y", "tests/plan/fake_inventory.py", "deploy.py", "--data", "server_port=http", "--data", "image_cpu=fast",
        "--data", f"models_conf={tmp_path}/mine.conf", "--data", "nonsense=1", "--data", "ssh_user=me",
    )  # fmt: skip
    assert done.returncode == 1
    assert "nonsense: unknown setting" in done.stderr and "ssh_user" not in done.stderr
    assert "mine.conf: [a] CTX_SIZE: found 'many'" in done.stderr
    assert "server_port: found 'http', expected a whole number" in done.stderr
    assert "image_cpu: found 'fast'" in done.stderr
    assert "Traceback" not in done.stderr and "Starting operation" not in done.stderr


def test_a_claude_code_that_cannot_be_installed_is_refused_before_anything_is_changed() -> None:
    done = pyinfra("-y", "tests/plan/fake_inventory.py", "deploy.py", "--data", "claude_version=9.9.9")
    assert done.returncode == 1
    assert "nothing has been changed: claude_version is 9.9.9, but no sha256 of that version is known" in done.stderr
    assert "Traceback" not in done.stderr and "Starting operation" not in done.stderr


def test_an_unsupported_machine_is_refused_by_preflight() -> None:
    done = pyinfra("-y", "tests/plan/old_inventory.py", "deploy.py")
    assert done.returncode == 1
    assert "found debian 10; Debian 12 or newer, or Ubuntu 22.04 or newer, is needed" in done.stderr
    assert "Traceback" not in done.stderr and "Starting operation" not in done.stderr
