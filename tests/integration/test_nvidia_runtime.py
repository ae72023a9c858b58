"""The operation adds NVIDIA's runtime to a real dockerd without restarting it.

nvidia-ctk and the runtime are stand-ins (container_toolkit.py). Like the real one, the runtime mounts nvidia-smi and
then runs runc.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_local.deploy.facts.docker import Client
from claude_local.deploy.facts.nvidia import GpusInContainer, NvidiaRuntime
from claude_local.deploy.operations.nvidia import register_runtime
from claude_local.docker.gpus import nvidia_options
from claude_local.image.base import REPOSITORY
from tests.deploy.strict_host import StrictHost, fact_on_this_machine, run
from tests.integration import container_toolkit
from tests.integration.machine import docker

pytestmark = [
    pytest.mark.integration,
    pytest.mark.usefixtures("deployed"),
    pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="systemd would reload this machine's own Docker"),
    pytest.mark.skipif(os.getuid() != 0, reason="only root starts a Docker daemon"),
]

LISTED = "GPU 0: Stand-in (UUID: GPU-1)"


class Daemon:
    """A dockerd with its own data directory, socket and configuration, and no network."""

    def __init__(self, folder: Path) -> None:
        self.config, self.pidfile = folder / "daemon.json", folder / "pid"
        self.config.write_text('{"log-level": "warn"}')
        self.tools = folder / "bin"
        self.tools.mkdir()
        for name, text in (
            ("smi", f"#!/bin/sh\necho '{LISTED}'\n"),
            ("docker", f'#!/bin/sh\nexec {docker()} --host unix://{folder}/socket "$@"\n'),
        ):
            (self.tools / name).write_text(text)
            (self.tools / name).chmod(0o755)
        container_toolkit.install(self.tools, {"/usr/bin/nvidia-smi": self.tools / "smi"})
        self.client = str(self.tools / "docker")
        # In a network namespace of its own: a dockerd without a bridge removes the machine's docker0, and with it the
        # network of every container.
        words = ["unshare", "--net", "--", "dockerd", "--bridge=none", "--iptables=false", "--ip-masq=false"]
        words += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", str(self.pidfile)]
        words += ["--host", f"unix://{folder}/socket", "--config-file", str(self.config)]
        environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        with open(folder / "log", "w") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        for _ in range(240):
            if self.run("version").returncode == 0:
                return
            assert self.process.poll() is None, (folder / "log").read_text()[-2000:]
            time.sleep(0.5)
        raise AssertionError((folder / "log").read_text()[-2000:])

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.client, *words], capture_output=True, text=True, timeout=120)

    def stop(self) -> None:
        for name in self.run("ps", "--all", "--quiet").stdout.split():
            self.run("rm", "--force", name)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def bridges() -> set[str]:
    """The bridges of this machine, docker0 among them."""
    return {path.parent.name for path in Path("/sys/class/net").glob("*/bridge")}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    before = bridges()
    made = Daemon(tmp_path)
    yield made
    made.stop()
    assert bridges() == before, "this machine's own network is left alone"


def test_docker_gets_the_runtime_without_stopping_a_container(daemon: Daemon, monkeypatch: Any) -> None:
    listed = [docker(), "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY]
    image = subprocess.run(listed, capture_output=True, text=True, check=True, timeout=60).stdout.split()[0]
    with subprocess.Popen([docker(), "save", image], stdout=subprocess.PIPE) as saved:
        subprocess.run([daemon.client, "load"], stdin=saved.stdout, check=True, capture_output=True, timeout=120)
    started = daemon.run("run", "--detach", "--network=none", "--name=other", image, "sleep", "600")
    assert started.returncode == 0, started.stderr

    assert fact_on_this_machine(NvidiaRuntime(), client=daemon.client) is False
    words = nvidia_options("all")
    before = fact_on_this_machine(GpusInContainer(), client=daemon.client, image=image, gpu_argv=words)
    assert before["gpus"] == [] and "nknown" in before["error"] and "runtime" in before["error"]

    client = Client(client=daemon.client, buildkit=True, version="", daemon=True, dockerd=True)
    host = StrictHost({"DockerClient": client, "NvidiaRuntime": False})
    (command,) = run(monkeypatch, register_runtime, host, config=str(daemon.config), pidfile=str(daemon.pidfile))
    environment = {**os.environ, "PATH": f"{daemon.tools}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr

    assert fact_on_this_machine(NvidiaRuntime(), client=daemon.client) is True
    after = fact_on_this_machine(GpusInContainer(), client=daemon.client, image=image, gpu_argv=words)
    assert after == {"gpus": [LISTED], "error": ""}
    assert daemon.run("inspect", "--format", "{{.State.Running}} {{.RestartCount}}", "other").stdout.split() == [
        "true",
        "0",
    ]
    assert json.loads(daemon.config.read_text())["log-level"] == "warn"
