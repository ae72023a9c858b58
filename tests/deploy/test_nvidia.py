"""NVIDIA's container toolkit: installed from its repository, registered with Docker, tried with nvidia-smi."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from claude_local.deploy.facts.docker import Client
from claude_local.deploy.facts.nvidia import ContainerGpus, GpusInContainer, NvidiaRuntime
from claude_local.deploy.facts.packages import InstalledPackages
from claude_local.deploy.operations.nvidia import check_gpus, install_toolkit, register_runtime
from claude_local.docker.gpus import nvidia_options
from tests.deploy.strict_host import StrictHost, fact_on_this_machine, run

CLIENT = Client(client="/usr/bin/docker", buildkit=True, version="28.5.2", daemon=True, dockerd=True)
NO_TOOLKIT = {"Which": None, "DockerClient": CLIENT, "NvidiaRuntime": False}
LISTED = "GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-12345678-0000-0000-0000-000000000000)"


def stand_in(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


# --- the toolkit ----------------------------------------------------------------------------------------------------


def test_an_installed_toolkit_stays(monkeypatch: Any) -> None:
    host = StrictHost({"Which": "/usr/bin/nvidia-ctk"})
    assert run(monkeypatch, install_toolkit, host, machine="x86_64") == []
    assert host.noop_reason


def test_a_docker_that_brings_the_runtime_needs_no_toolkit(monkeypatch: Any) -> None:
    host = StrictHost({**NO_TOOLKIT, "NvidiaRuntime": True})
    assert run(monkeypatch, install_toolkit, host, machine="x86_64") == []
    assert "Docker Desktop" in (host.noop_reason or "")


def test_the_repository_is_added_with_the_pinned_key_and_the_toolkit_installed(monkeypatch: Any) -> None:
    host = StrictHost(
        {
            **NO_TOOLKIT,
            "DockerPackages": {"installed": [], "candidates": []},
            "InstalledPackages": {
                "package": ["curl", "gnupg", "ca-certificates"],
                "program": ["curl", "gpg"],
                "interrupted": False,
            },
        },
        root=True,
    )
    repository, install = run(monkeypatch, install_toolkit, host, machine="x86_64", lock_timeout=7)
    assert "https://nvidia.github.io/libnvidia-container/gpgkey C95B321B61E88C1809C4F759DDCAE044F796ECB0" in repository
    assert "URIs: https://nvidia.github.io/libnvidia-container/stable/deb/amd64" in repository
    assert install.endswith(" apt.sh 7 install --yes --no-install-recommends nvidia-container-toolkit ) 2>&1")
    assert host.sudo == [True, True]


def test_a_toolkit_that_apt_knows_needs_no_repository_of_ours(monkeypatch: Any) -> None:
    host = StrictHost(
        {
            **NO_TOOLKIT,
            "DockerPackages": {"installed": [], "candidates": ["nvidia-container-toolkit"]},
            "InstalledPackages": InstalledPackages.default(),
        }
    )
    (install,) = run(monkeypatch, install_toolkit, host, machine="x86_64")
    assert "gpgkey" not in install


def test_a_machine_without_a_toolkit_of_nvidias_is_an_error(monkeypatch: Any) -> None:
    host = StrictHost({**NO_TOOLKIT, "DockerPackages": {"installed": [], "candidates": []}})
    run(monkeypatch, install_toolkit, host, machine="riscv64")
    assert "no container toolkit for riscv64" in host.logged[0]


# --- the runtime ----------------------------------------------------------------------------------------------------


def test_a_daemon_that_knows_the_runtime_is_left_alone(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "NvidiaRuntime": True})
    assert run(monkeypatch, register_runtime, host) == []
    assert host.noop_reason == "Docker knows the runtime nvidia"


class Daemon:
    """A stand-in for dockerd that reads its runtimes from daemon.json on SIGHUP, and for its client and nvidia-ctk."""

    def __init__(self, folder: Path, *, deaf: bool = False) -> None:
        self.config, self.pidfile, self.known = folder / "daemon.json", folder / "docker.pid", folder / "known"
        self.known.write_text("runc\n")
        self.client = stand_in(folder / "bin/docker", f"cat {self.known}")
        stand_in(
            folder / "bin/nvidia-ctk",
            'echo "$*" >>"$LOG"; for word do case $word in --config=*) config=${word#--config=} ;; esac; done\n'
            'python3 - "$config" <<"END"\n'
            "import json, os, sys\n"
            "path = sys.argv[1]\n"
            "known = json.load(open(path)) if os.path.exists(path) else {}\n"
            'known["runtimes"] = {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}\n'
            'json.dump(known, open(path, "w"))\nEND',
        )
        self.log = folder / "log"
        self.path = f"{folder / 'bin'}:{os.environ['PATH']}"
        hear = ":" if deaf else f"grep -q nvidia {self.config} && echo nvidia >>{self.known}"
        # A shell cannot trap a signal that it found ignored, as under nohup.
        self.process = subprocess.Popen(
            ["env", "--default-signal=HUP", "sh", "-c", f"trap '{hear}' HUP; echo up; while :; do sleep 0.05; done"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None and self.process.stdout.readline() == "up\n"
        self.pidfile.write_text(f"{self.process.pid}\n")

    def configure(self, monkeypatch: Any, wait: int = 10) -> tuple[subprocess.CompletedProcess[str], StrictHost]:
        """The real command of the operation, against the stand-ins."""
        host = StrictHost({"DockerClient": {**CLIENT, "client": str(self.client)}, "NvidiaRuntime": False})
        (command,) = run(
            monkeypatch, register_runtime, host, wait_seconds=wait, config=str(self.config), pidfile=str(self.pidfile)
        )
        env = {"PATH": self.path, "LOG": str(self.log)}
        return subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, timeout=60), host

    def stop(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)


@pytest.fixture
def daemon(tmp_path: Path) -> Any:
    made: list[Daemon] = []

    def make(**arguments: Any) -> Daemon:
        made.append(Daemon(tmp_path, **arguments))
        return made[0]

    yield make
    for each in made:
        each.stop()


needs_no_systemd = pytest.mark.skipif(
    os.path.isdir("/run/systemd/system"), reason="systemd would reload this machine's own Docker"
)


@needs_no_systemd
def test_docker_learns_of_the_runtime_without_being_restarted(monkeypatch: Any, daemon: Any) -> None:
    docker = daemon()
    docker.config.write_text('{"data-root": "/data/docker"}')
    done, _ = docker.configure(monkeypatch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert docker.process.poll() is None, "the daemon is the same process"
    assert json.loads(docker.config.read_text())["data-root"] == "/data/docker"
    kept = docker.config.with_name("daemon.json.before-nvidia")
    assert kept.read_text() == '{"data-root": "/data/docker"}'
    assert "runtime configure --runtime=docker" in docker.log.read_text()
    # A second time must not take the changed file for the first one.
    docker.configure(monkeypatch)
    assert kept.read_text() == '{"data-root": "/data/docker"}'


@needs_no_systemd
def test_a_daemon_that_does_not_reload_is_left_to_the_person(monkeypatch: Any, daemon: Any) -> None:
    docker = daemon(deaf=True)
    done, _ = docker.configure(monkeypatch, wait=1)
    assert done.returncode == 1 and "does not know the runtime" in done.stdout
    assert docker.process.poll() is None


def test_a_failure_says_what_a_restart_would_end(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "NvidiaRuntime": False})
    host.succeeds, host.output = False, ['level=error msg="unable to load config"']
    run(monkeypatch, register_runtime, host)
    assert "unable to load config" in host.logged[0] and "systemctl restart docker" in host.logged[0]


@pytest.mark.parametrize(
    ("runtimes", "known"), [("io.containerd.runc.v2\nnvidia\nrunc", True), ("runc\nnvidia-legacy", False), ("", False)]
)
def test_whether_docker_knows_the_runtime_is_asked_of_the_daemon(tmp_path: Path, runtimes: str, known: bool) -> None:
    client = stand_in(tmp_path / "docker", f"test \"$1\" = info && cat <<'END'\n{runtimes}\nEND")
    assert fact_on_this_machine(NvidiaRuntime(), client=str(client)) is known


# --- the try --------------------------------------------------------------------------------------------------------

TRY = {
    "images": ["claude-local/base:noble", "claude-local/llama-server:tag"],
    "gpu_argv": nvidia_options("all"),
    "expected": 1,
}


def try_it(monkeypatch: Any, found: ContainerGpus, *there: str, **arguments: Any) -> StrictHost:
    host = StrictHost(
        {
            "DockerClient": CLIENT,
            "DockerImage": lambda client, reference: {"Id": "x"} if reference in there else {},
            "GpusInContainer": lambda client, image, gpu_argv: found if image == there[0] else None,
        }
    )
    run(monkeypatch, check_gpus, host, **{**TRY, **arguments})
    return host


def test_gpus_that_a_container_sees_are_enough(monkeypatch: Any) -> None:
    host = try_it(monkeypatch, ContainerGpus(gpus=[LISTED], error=""), "claude-local/base:noble")
    assert host.noop_reason == LISTED and host.logged == []
    # Where the base image was removed, the server's own will do.
    assert (
        try_it(monkeypatch, ContainerGpus(gpus=[LISTED], error=""), "claude-local/llama-server:tag").noop_reason
        == LISTED
    )


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch", "sudo reboot"),
        ("docker: Error response from daemon: unknown or invalid runtime name: nvidia.", "restart docker"),
        ("docker: Error response from daemon: Unknown runtime specified nvidia.", "restart docker"),
        ("nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1", "whole driver"),
        ('exec: "nvidia-smi": executable file not found in $PATH', "apt install nvidia-smi"),
        ("Failed to initialize NVML: Unknown Error", "restart docker"),
        ("something new", "nvidia-ctk cdi list"),
    ],
)
def test_an_error_from_the_container_comes_with_advice(monkeypatch: Any, said: str, advice: str) -> None:
    host = try_it(monkeypatch, ContainerGpus(gpus=[], error=said), "claude-local/base:noble")
    assert said in host.logged[0] and advice in host.logged[0] and "image_variant = 'cpu'" in host.logged[0]


def test_one_gpu_of_two_is_not_enough(monkeypatch: Any) -> None:
    host = try_it(monkeypatch, ContainerGpus(gpus=[LISTED], error=""), "claude-local/base:noble", expected=2)
    assert "lists 1 of 2 GPUs" in host.logged[0]


def test_without_an_image_nothing_is_claimed(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": {}})
    run(monkeypatch, check_gpus, host, **TRY)
    assert "there is no image to try the GPUs with" in host.logged[0]


def test_a_real_nvidia_smi_is_run_in_a_fenced_container_of_ours(tmp_path: Path) -> None:
    log = tmp_path / "log"
    warns = "echo 'GPU 9: from a warning of docker' >&2"
    client = stand_in(tmp_path / "docker", f"echo \"$*\" >{log}; {warns}; echo '{LISTED}'")
    words = nvidia_options("0,2")
    found = fact_on_this_machine(GpusInContainer(), client=str(client), image="base:noble", gpu_argv=words)
    assert found == ContainerGpus(gpus=[LISTED], error="")
    assert log.read_text().split() == [
        "run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--userns=host", *words,
        "--entrypoint=nvidia-smi", "base:noble", "--list-gpus",
    ]  # fmt: skip
    client = stand_in(tmp_path / "docker", "echo 'docker: no such runtime' >&2; exit 125")
    found = fact_on_this_machine(GpusInContainer(), client=str(client), image="base:noble", gpu_argv=words)
    assert found == ContainerGpus(gpus=[], error="docker: no such runtime")
