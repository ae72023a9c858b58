"""GPUs in containers: install NVIDIA's container toolkit, register it with Docker, and try it.

The driver is never installed.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from pyinfra import host
from pyinfra.api import operation
from pyinfra.facts.server import Which

from claude_local.deploy import shell
from claude_local.deploy.facts.docker import DockerImage, DockerPackages
from claude_local.deploy.facts.nvidia import ContainerGpus, GpusInContainer, NvidiaRuntime
from claude_local.deploy.operations import apt_repository, packages
from claude_local.deploy.operations.docker import client
from claude_local.deploy.operations.streaming import fail, last_lines, stream
from claude_local.docker import nvidia

# $1 client, $2 seconds to wait, $3 Docker's configuration, $4 its pid file. The daemon reads its runtimes anew on
# SIGHUP (NVIDIA's own tool for Kubernetes does the same). A restart would end running containers and builds.
CONFIGURE_SCRIPT = r"""
set -eu
client=$1 seconds=$2 config=$3 pidfile=$4
if test -s "$config" && test ! -e "$config.before-nvidia"; then cp -p "$config" "$config.before-nvidia"; fi
nvidia-ctk runtime configure --runtime=docker --config="$config"
if test -d /run/systemd/system && systemctl is-active --quiet docker.service; then
  systemctl reload docker.service
else
  kill -HUP "$(cat "$pidfile")"
fi
knows() {
  "$client" info --format '{{range $name, $_ := .Runtimes}}{{println $name}}{{end}}' 2>/dev/null | grep -qx nvidia
}
waited=0
until knows; do
  if test "$waited" -ge "$seconds"; then
    echo "Docker does not know the runtime after $waited s"
    exit 1
  fi
  sleep 1
  waited=$((waited + 1))
done
"""


@operation()
def install_toolkit(machine: str, lock_timeout: int = 300) -> Generator[Any]:
    """Install NVIDIA's container toolkit, from NVIDIA's repository unless apt knows it already.

    + machine: as ``uname -m`` says
    + lock_timeout: seconds to wait for another apt or dpkg

    The repository's key must have the pinned fingerprint. A toolkit that is installed stays.

    Example::

        nvidia.install_toolkit(name="Install NVIDIA's container toolkit", machine="x86_64", _sudo=True)
    """
    if host.get_fact(Which, command="nvidia-ctk"):
        host.noop("NVIDIA's container toolkit is installed")
        return
    if host.get_fact(NvidiaRuntime, client=client()):
        host.noop("Docker brings the runtime nvidia, as Docker Desktop does")
        return
    known = host.get_fact(DockerPackages, names=[nvidia.PACKAGE])
    if not known["candidates"]:
        if machine not in nvidia.DEBIAN_ARCHITECTURES:
            yield fail(f"NVIDIA has no container toolkit for {machine}: set image_variant to 'cpu'")
            return
        yield from apt_repository.add(
            repository=nvidia.repository(machine),
            lock_timeout=lock_timeout,
        )
    yield from packages.install._inner(packages={nvidia.PACKAGE: "nvidia-ctk"}, lock_timeout=lock_timeout)


@operation()
def register_runtime(
    wait_seconds: int = 15, config: str = "/etc/docker/daemon.json", pidfile: str = "/var/run/docker.pid"
) -> Generator[Any]:
    """Register the runtime ``nvidia`` with Docker: ``nvidia-ctk runtime configure``, then a reload without a restart.

    + wait_seconds: how long the daemon may take to know it
    + config: the daemon's configuration; its other keys stay, and its first version is kept as ``.before-nvidia``
    + pidfile: where the daemon's process id is, for machines without systemd

    Example::

        nvidia.register_runtime(name="Register NVIDIA's runtime with Docker", wait_seconds=15, _sudo=True)
    """
    docker = client()
    if host.get_fact(NvidiaRuntime, client=docker):
        host.noop("Docker knows the runtime nvidia")
        return
    yield stream(
        shell.script(CONFIGURE_SCRIPT, docker, str(int(wait_seconds)), config, pidfile),
        failure=last_lines(
            f"NVIDIA's runtime could not be registered with Docker ({config})",
            6,
            "When nothing is being built: sudo systemctl restart docker, then run again "
            "(this ends containers without a restart policy).",
        ),
    )


@operation()
def check_gpus(images: Sequence[str], gpu_argv: Sequence[str], expected: int) -> Generator[Any]:
    """Check that ``nvidia-smi`` in a container lists the GPUs. It changes nothing.

    + images: names of images of ours; the first that exists is used
    + gpu_argv: arguments of ``docker run`` that give a container the GPUs
    + expected: how many GPUs

    Example::

        nvidia.check_gpus(name="Check the GPUs", images=["ubuntu:noble"], gpu_argv=["--gpus=all"], expected=1)
    """
    docker = client()
    image = next((name for name in images if host.get_fact(DockerImage, client=docker, reference=name)), None)
    if image is None:
        yield fail(f"there is no image to try the GPUs with: {', '.join(images)}; run tasks/image.py")
        return
    answer: ContainerGpus = host.get_fact(GpusInContainer, client=docker, image=image, gpu_argv=list(gpu_argv))
    if len(answer["gpus"]) >= expected:
        host.noop("; ".join(answer["gpus"]))
        return
    error = answer["error"] or f"nvidia-smi lists {len(answer['gpus'])} of {expected} GPUs"
    yield fail(
        f"containers do not see the GPUs: {error}\nWhat to try: {nvidia.advice(error)}\n"
        "To go on without them: image_variant = 'cpu'"
    )
