"""Docker itself: install it where it is missing, start its daemon, put a user into its group."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FunctionCommand, Host, QuoteString, State, StringCommand, operation

from claude_local.deploy.facts.docker import Answers, DockerClient, DockerPackages, Groups
from claude_local.deploy.operations import apt_repository, packages
from claude_local.deploy.operations.apt import apt
from claude_local.deploy.operations.streaming import streamed
from claude_local.docker import commands as docker


@operation()
def installed(
    distro: str, codename: str, upstream: bool = True, lock_timeout: int = 300, root: bool = False
) -> Generator[Any]:
    """Install Docker where there is none that can build with BuildKit; whatever Docker is there stays.

    + distro: ``debian`` or ``ubuntu``, and ``codename`` its release
    + upstream: try Docker's own apt repository first (its key is checked against the pinned fingerprint)
    + lock_timeout: seconds to wait for another apt or dpkg to release its lock
    + root: whether to run commands through sudo (``bool(ws.root)``)

    Otherwise the distribution's packages: docker.io, and docker-cli and docker-buildx where the release has them.
    """
    found = host.get_fact(DockerClient)
    if found["client"] and found["buildkit"] and (found["daemon"] or found["dockerd"]):
        host.noop(f"{found['client']} {found['version']} is there")
        return
    daemon = found["daemon"] or found["dockerd"]
    yield streamed(
        apt(["update"], lock_timeout),
        root=root,
        failure=lambda tail: "apt-get update fails:\n  " + "\n  ".join(tail[-6:]),
    )
    known = host.get_fact(DockerPackages, names=list(docker.PACKAGES))
    address = f"{docker.UPSTREAM}/{distro}/dists/{codename}/Release"
    if upstream and not daemon and not known["installed"] and host.get_fact(Answers, url=address):
        # The distribution's packages are the second source.
        yield from apt_repository.added(
            address=f"{docker.UPSTREAM}/{distro}/gpg",
            fingerprint=docker.UPSTREAM_KEY,
            keyring="docker.asc",
            list_name="docker.sources",
            text=docker.sources_file(distro, codename),
            lock_timeout=lock_timeout,
            root=root,
            optional=True,
        )
        known = host.get_fact(DockerPackages, names=list(docker.PACKAGES))
    wanted = docker.missing_packages(known["installed"], known["candidates"], daemon=daemon)
    if not wanted:
        yield fails(
            "apt knows no package of Docker (docker.io, docker-ce, docker-buildx): add your distribution's "
            f"{'universe' if distro == 'ubuntu' else 'main'} repository to apt's sources, or install Docker by hand, "
            "and run again"
        )
        return
    yield from packages.installed._inner(packages=dict.fromkeys(wanted), lock_timeout=lock_timeout, root=root)
    found = host.get_fact(DockerClient)
    if not found["buildkit"]:
        yield fails(
            f"the docker client that is there ({found['client'] or 'none'}) cannot build with BuildKit, even after its "
            "packages were installed: install docker-buildx (Debian, Ubuntu) or docker-buildx-plugin (Docker's packages)"
        )


def fails(message: str) -> FunctionCommand:
    """A command that fails with a message: an operation may not raise while it is only being prepared, and what raises
    afterwards makes pyinfra print a traceback."""

    def run(state: State, host: Host) -> bool:
        host.log_styled(message, fg="red", log_func=logger.error)
        return False

    return FunctionCommand(run, (), {})


# $1 client, $2 seconds to wait. Prints the daemon's last words when it does not answer.
START_SCRIPT = r"""
client=$1 seconds=$2 log=/var/log/docker.log
PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin
answers() { timeout 20 "$client" version --format '{{.Server.Version}}' >/dev/null 2>&1; }
by_hand() {
  echo "starting dockerd, its log is $log"
  setsid dockerd >>"$log" 2>&1 </dev/null &
}
last_words() { tail -n 15 "$log"; }
if test -d /run/systemd/system && systemctl cat docker.service >/dev/null 2>&1; then
  last_words() { journalctl --unit docker.service --lines 15 --no-pager --output cat; }
  echo "starting docker.service"
  systemctl reset-failed docker.service 2>/dev/null || true
  systemctl enable --now docker.service || true
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
    echo "its last words:"
    last_words 2>/dev/null
    exit 1
  fi
  sleep 1
  waited=$((waited + 1))
done
echo "the daemon answers after $waited s"
"""


@operation()
def running(wait_seconds: int = 60, root: bool = False) -> Generator[Any]:
    """Start the Docker daemon when it does not answer: systemd's unit, else the init script, else ``dockerd`` itself.

    + wait_seconds: how long it may take to answer
    + root: whether to run commands through sudo (``bool(ws.root)``)
    """
    found = host.get_fact(DockerClient)
    if found["daemon"]:
        host.noop("the Docker daemon answers")
        return
    client = found["client"] or "/usr/bin/docker"
    yield streamed(
        StringCommand("sh", "-c", QuoteString(START_SCRIPT), "sh", QuoteString(client), str(int(wait_seconds))),
        root=root,
        failure=lambda tail: (
            "the Docker daemon does not start:\n  "
            + "\n  ".join(tail[-17:])
            + "\nStart it by hand (systemctl start docker, or dockerd) until 'docker info' answers, then run again."
        ),
    )


@operation()
def member(user: str) -> Generator[Any]:
    """Put a user into the group ``docker`` (root-equivalent; takes effect at the user's next login).

    + user: the user's name
    """
    if "docker" in host.get_fact(Groups, user=user):
        host.noop(f"{user} is in the group docker")
        return
    yield StringCommand("groupadd", "--force", "--system", "docker")
    yield StringCommand("usermod", "--append", "--groups", "docker", QuoteString(user))
