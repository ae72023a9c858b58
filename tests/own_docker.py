"""A Docker daemon that may be killed, in namespaces of its own: the first daemon's packet filter would drop what this
one's containers send, and no mount or process outlives the command. The process that uses it is in them, too.

containerd is a process of its own, as in the distributions' units.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from claude_local.docker.commands import make_network
from tests.integration.machine import docker

# Runs a command in such namespaces; as root.
UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


class OwnDocker:
    """The daemon. All its files are in ``folder``. DOCKER_HOST names it for every docker command of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (folder / "dockerd.log").open("wb")
        self._address = f"{folder}/containerd.sock"
        argv = [
            "containerd", "--address", self._address, "--root", f"{folder}/containerd", "--state", f"{folder}/running",
        ]  # fmt: skip
        self._containerd = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        (self.folder / "docker.pid").unlink(missing_ok=True)
        argv = [
            "dockerd", "--host", self.host, "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec",
            "--pidfile", f"{self.folder}/docker.pid", "--containerd", self._address,
        ]  # fmt: skip
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        end = time.monotonic() + 60
        while subprocess.run([docker(), "version"], capture_output=True, check=False, timeout=60).returncode:
            assert time.monotonic() < end and self._process.poll() is None, (self.folder / "dockerd.log").read_text()
            time.sleep(0.1)

    @property
    def host(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    def kill(self) -> None:
        """Kill the daemon; its containers' processes stay."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(60)

    def end(self) -> None:
        """End it with all containers."""
        for each in (self._process, self._containerd):
            if each is not None:
                each.terminate()
                each.wait(60)


@contextmanager
def own_docker(folder: Path, images: Sequence[str]) -> Iterator[OwnDocker]:
    """The daemon with these images of the first one, and the network of our containers."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=30)
    daemon = OwnDocker(folder)
    with subprocess.Popen([docker(), "save", *images], stdout=subprocess.PIPE) as saved:
        os.environ["DOCKER_HOST"] = daemon.host
        try:
            daemon.start()
            subprocess.run([docker(), "load"], stdin=saved.stdout, check=True, capture_output=True, timeout=300)
            subprocess.run(make_network(docker()), check=True, capture_output=True, timeout=60)
            yield daemon
        finally:
            daemon.end()
            del os.environ["DOCKER_HOST"]
