"""GPUs in containers: NVIDIA's container toolkit installed, known to Docker, and tried. The driver is never installed."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from pyinfra import host
from pyinfra.api import QuoteString, StringCommand, operation

from claude_local.deploy.facts.docker import DockerClient, DockerImage, DockerPackages
from claude_local.deploy.facts.nvidia import ContainerToolkit, GpusInContainer, NvidiaRuntime, Seen
from claude_local.deploy.operations import apt_repository, packages
from claude_local.deploy.operations.docker import fails
from claude_local.deploy.operations.streaming import streamed
from claude_local.docker import nvidia

# $1 client, $2 seconds to wait, $3 Docker's configuration, $4 its pid file. The daemon reads its runtimes anew on SIGHUP
# (so does NVIDIA's own tool for Kubernetes); nothing that runs or is built is disturbed, which a restart would end.
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
def installed(machine: str, lock_timeout: int = 300, root: bool = False) -> Generator[Any]:
    """Install NVIDIA's container toolkit, from NVIDIA's repository unless apt knows it already.

    + machine: as ``uname -m`` says
    + lock_timeout: seconds to wait for another apt or dpkg to release its lock
    + root: whether to run commands through sudo (``bool(ws.root)``)

    The repository's key must have the pinned fingerprint. A toolkit from elsewhere stays.
    """
    if host.get_fact(ContainerToolkit):
        host.noop("NVIDIA's container toolkit is installed")
        return
    known = host.get_fact(DockerPackages, names=[nvidia.PACKAGE])
    if not known["candidates"]:
        if machine not in nvidia.DEBIAN_ARCHITECTURES:
            yield fails(f"NVIDIA has no container toolkit for {machine}: set image_variant to 'cpu'")
            return
        yield from apt_repository.added(
            address=nvidia.KEY_ADDRESS,
            fingerprint=nvidia.KEY,
            keyring=nvidia.KEYRING,
            list_name=nvidia.SOURCES,
            text=nvidia.sources_file(machine),
            lock_timeout=lock_timeout,
            root=root,
        )
    yield from packages.installed._inner(packages={nvidia.PACKAGE: "nvidia-ctk"}, lock_timeout=lock_timeout, root=root)


@operation()
def configured(
    wait_seconds: int = 15,
    root: bool = False,
    config: str = "/etc/docker/daemon.json",
    pidfile: str = "/var/run/docker.pid",
) -> Generator[Any]:
    """Tell Docker of the runtime ``nvidia``, once: ``nvidia-ctk runtime configure``, then a reload (no restart).

    + wait_seconds: how long the daemon may take to know it
    + root: whether to run commands through sudo (``bool(ws.root)``)
    + config: the daemon's configuration; what else stands in it stays, the first version is kept as ``.before-nvidia``
    + pidfile: where the daemon's process id is, for machines without systemd
    """
    rights = {"_sudo": True} if root else {}
    client = host.get_fact(DockerClient, **rights)["client"] or "/usr/bin/docker"
    if host.get_fact(NvidiaRuntime, client=client, **rights):
        host.noop("Docker knows the runtime nvidia")
        return
    words = [QuoteString(word) for word in (client, str(int(wait_seconds)), config, pidfile)]
    yield streamed(
        StringCommand("sh", "-c", QuoteString(CONFIGURE_SCRIPT), "sh", *words),
        root=root,
        failure=lambda tail: (
            f"Docker could not be told of NVIDIA's runtime ({config}):\n  "
            + "\n  ".join(tail[-6:])
            + "\nWhen nothing is being built: sudo systemctl restart docker, then run again "
            "(containers without a restart policy end with it)."
        ),
    )


@operation()
def seen(images: Sequence[str], words: Sequence[str], expected: int, root: bool = False) -> Generator[Any]:
    """Check that a real ``nvidia-smi`` in a container sees the GPUs; nothing is changed.

    + images: names of images of ours, the first that is there is used
    + words: the words of ``docker run`` that give a container the GPUs
    + expected: how many GPUs
    + root: whether to run docker through sudo (``bool(ws.root)``)
    """
    rights = {"_sudo": True} if root else {}
    client = host.get_fact(DockerClient, **rights)["client"] or "/usr/bin/docker"
    there = [name for name in images if host.get_fact(DockerImage, client=client, reference=name, **rights)]
    if not there:
        yield fails(f"no image is there to try the GPUs with: {', '.join(images)}; run tasks/image.py")
        return
    found: Seen = host.get_fact(GpusInContainer, client=client, image=there[0], words=list(words), **rights)
    if len(found["gpus"]) >= expected:
        host.noop("; ".join(found["gpus"]))
        return
    said = found["said"] or f"nvidia-smi lists {len(found['gpus'])} of {expected} GPUs"
    yield fails(
        f"containers do not see the GPUs: {said}\nWhat to try: {nvidia.advice(said)}\n"
        "To go on without them: image_variant = 'cpu'"
    )
