"""Docker itself: install it where it is missing, and start its daemon."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pyinfra import host
from pyinfra.api import operation
from pyinfra.operations import systemd

from claude_local.deploy import shell
from claude_local.deploy.facts.docker import KINDS, Answers, DockerClient, DockerObjects, DockerPackages, DockerUnit
from claude_local.deploy.operations import apt_repository, known, packages
from claude_local.deploy.operations.streaming import fail, last_lines, stream
from claude_local.docker import commands as docker

# The client's path where no client is installed yet.
DEFAULT_CLIENT = "/usr/bin/docker"


def client() -> str:
    """The path of the docker client to use; on a machine without one, the path that it will have."""
    return known.ask(DockerClient)["client"] or DEFAULT_CLIENT


def look(*objects: tuple[str, str]) -> None:
    """Ask about several objects, (kind, name) each, in one command. ``known.ask`` has the answers from then on."""
    docker_client = client()
    found = host.get_fact(DockerObjects, client=docker_client, objects=objects)
    for kind, name in objects:
        known.remember(KINDS[kind], found.get((kind, name), {}), client=docker_client, reference=name)


@operation()
def install(distro: str, codename: str, upstream: bool = True, lock_timeout: int = 300) -> Generator[Any]:
    """Install Docker where none can build with BuildKit. A Docker that is installed stays.

    + distro: ``debian`` or ``ubuntu``
    + codename: its release, such as ``bookworm``
    + upstream: try Docker's own apt repository first (its key is checked against the pinned fingerprint)
    + lock_timeout: seconds to wait for another apt or dpkg

    Otherwise the distribution's packages: docker.io, and docker-cli and docker-buildx where the release has them.

    Example::

        docker.install(name="Install Docker", distro="debian", codename="bookworm", _sudo=True)
    """
    before = known.ask(DockerClient)
    daemon = before["daemon"] or before["dockerd"]
    if before["client"] and before["buildkit"] and daemon:
        host.noop(f"{before['client']} {before['version']} is installed")
        return
    known.forget(DockerClient)
    yield stream(packages.apt_get(["update"], lock_timeout), failure=packages.failure("apt-get update fails"))
    apt = host.get_fact(DockerPackages, names=list(docker.PACKAGES))
    address = f"{docker.UPSTREAM}/{distro}/dists/{codename}/Release"
    if upstream and not daemon and not apt["installed"] and host.get_fact(Answers, url=address):
        # The distribution's packages are the second source.
        yield from apt_repository.add(
            repository=docker.repository(distro, codename),
            lock_timeout=lock_timeout,
            optional=True,
        )
        apt = host.get_fact(DockerPackages, names=list(docker.PACKAGES))
    missing = docker.missing_packages(apt["installed"], apt["candidates"], daemon=daemon)
    if not missing:
        yield fail(
            "apt knows no package of Docker (docker.io, docker-ce, docker-buildx): add your distribution's "
            f"{'universe' if distro == 'ubuntu' else 'main'} repository to apt's sources, or install Docker by hand, "
            "and run again"
        )
        return
    yield from packages.install._inner(packages=dict.fromkeys(missing), lock_timeout=lock_timeout)
    after = known.ask(DockerClient)
    if not after["buildkit"]:
        yield fail(
            f"the docker client {after['client'] or '(none)'} cannot build with BuildKit, although its packages are "
            "installed: install docker-buildx (Debian, Ubuntu) or docker-buildx-plugin (Docker's packages)"
        )


# Starts the daemon where systemd does not, and waits for its answer. $1 client, $2 seconds to wait. Prints the daemon's
# last lines when it does not answer.
START_SCRIPT = r"""
client=$1 seconds=$2 log=/var/log/docker.log
PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin
answers() { timeout 20 "$client" version --format '{{.Server.Version}}' >/dev/null 2>&1; }
by_hand() {
  echo "starting dockerd, its log is $log"
  setsid dockerd >>"$log" 2>&1 </dev/null &
}
if test -d /run/systemd/system && systemctl cat docker.service >/dev/null 2>&1; then
  echo "waiting for docker.service"
elif test -x /etc/init.d/docker; then
  echo "starting Docker's init script"
  # It wants limits that a container's root may not set.
  service docker start || by_hand
else
  by_hand
fi
waited=0
until answers; do
  if test "$waited" -ge "$seconds"; then
    echo "its last lines:"
    if test -d /run/systemd/system; then journalctl --unit docker.service --lines 15 --no-pager --output cat
    else tail -n 15 "$log"; fi 2>/dev/null
    exit 1
  fi
  sleep 1
  waited=$((waited + 1))
done
echo "the daemon answers after $waited s"
"""


@operation()
def start(wait_seconds: int = 60) -> Generator[Any]:
    """Start the Docker daemon when none answers, and wait for its answer.

    + wait_seconds: how long it may take to answer

    With systemd through pyinfra's ``systemd.service``, which can neither tell that another daemon answers already nor
    start one without systemd: there with the init script, else ``dockerd`` itself.

    Example::

        docker.start(name="Start the Docker daemon", wait_seconds=60, _sudo=True)
    """
    docker_client = known.ask(DockerClient)
    if docker_client["daemon"]:
        host.noop("the Docker daemon answers")
        return
    known.forget(DockerClient)
    if host.get_fact(DockerUnit):
        yield from systemd.service._inner(service="docker.service", running=True, enabled=True)
    yield stream(
        shell.script(START_SCRIPT, docker_client["client"] or DEFAULT_CLIENT, str(int(wait_seconds))),
        failure=last_lines(
            "the Docker daemon does not start",
            17,
            "Start it by hand (systemctl start docker, or dockerd) until 'docker info' answers, then run again.",
        ),
    )
