"""Docker's packages and command lines. Pure.

The one place that builds docker command lines, except for the options of the server's container
(claude_local/server/container.py) and of a container's GPUs (gpus.py). ``client`` is always the docker command to run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from claude_local.docker.apt_repository import AptRepository

# Docker's own repository, and the fingerprint of the key that signs it (docs.docker.com/engine/install).
UPSTREAM = "https://download.docker.com/linux"
UPSTREAM_KEY = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"

UPSTREAM_PACKAGES = ("docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin")
# The distributions' packages. Up to Debian 12, docker.io includes the client, which can build with BuildKit by itself.
# Later releases have the client and BuildKit's plugin in packages of their own.
DISTRIBUTION_PACKAGES = ("docker.io", "docker-cli", "docker-buildx")
PACKAGES = (*UPSTREAM_PACKAGES, *DISTRIBUTION_PACKAGES)

# For containers that run one command of an image: no network, no capabilities, no writes.
CONFINED = ("--network=none", "--read-only", "--cap-drop=ALL")
# Our images are built here, so no notary server has signed them. Overrides the caller's DOCKER_CONTENT_TRUST=1.
UNSIGNED = ("env", "DOCKER_CONTENT_TRUST=0")

# The network of our two containers, the server's and the management API's. Its containers' default route leads to an
# address that no machine has, so nothing leaves the bridge, whatever the packet filter does. Without masquerading alone
# they would still reach each address of this machine, and a network that knows the way back. (Tried with Docker
# 20.10.24.)
NETWORK = "claude-local"
NETWORK_LABEL = "claude-local.network"
NETWORK_OPTIONS = {
    "com.docker.network.bridge.enable_ip_masquerade": "false",
    # The management API's container asks the server's.
    "com.docker.network.bridge.enable_icc": "true",
}
# libnetwork's name for the address of a bridge's default route.
NO_ROUTER = "DefaultGatewayIPv4"
# $1 is the client, $2 the network. Docker chooses a free subnet; only a network with a given subnet can have another
# default route. The first address is the bridge's, the second stays without an owner.
NETWORK_SCRIPT = f"""set -e
make() {{ "$@" --driver bridge --ipv6=false --label {NETWORK_LABEL}=1 {{options}} "$network" >/dev/null; }}
client=$1 network=$2
make "$client" network create
subnet=$("$client" network inspect --format '{{{{(index .IPAM.Config 0).Subnet}}}}' "$network")
"$client" network rm "$network" >/dev/null
base=${{subnet%/*}}
start=${{base%.*}} last=${{base##*.}}
make "$client" network create --subnet "$subnet" --gateway "$start.$((last + 1))" \\
  --aux-address "{NO_ROUTER}=$start.$((last + 2))"
""".replace("{options}", " ".join(f"--opt {name}={value}" for name, value in NETWORK_OPTIONS.items()))


def missing_packages(installed: Collection[str], candidates: Collection[str], *, daemon: bool) -> list[str]:
    """The packages that give this machine a Docker that builds with BuildKit; empty when apt has none of them.

    ``installed`` and ``candidates`` are those of :data:`PACKAGES` that dpkg has, and that apt can install. ``daemon``
    says that a Docker daemon of any origin exists; it is never replaced. A machine with Docker's own packages gets more
    of those. Any other machine gets the distribution's packages, unless apt's sources include Docker's repository.
    """
    has_upstream = any(name in installed for name in UPSTREAM_PACKAGES)
    if has_upstream or ("docker-ce" in candidates and "docker.io" not in installed and not daemon):
        upstream = [name for name in UPSTREAM_PACKAGES if name in candidates]
        return ["docker-buildx-plugin"] if daemon and "docker-buildx-plugin" in upstream else upstream
    if daemon and "docker-buildx" in candidates:
        return ["docker-buildx"]
    return [name for name in DISTRIBUTION_PACKAGES if name in candidates]


def repository(distro: str, codename: str) -> AptRepository:
    """Docker's repository for a release of ``debian`` or ``ubuntu``."""
    return AptRepository(
        name="claude-local-docker",
        uri=f"{UPSTREAM}/{distro}",
        suite=codename,
        components="stable",
        key_address=f"{UPSTREAM}/{distro}/gpg",
        fingerprint=UPSTREAM_KEY,
    )


def build(
    client: str,
    context: str,
    tag: str,
    arguments: Mapping[str, str],
    labels: Mapping[str, str] | None = None,
    target: str | None = None,
) -> list[str]:
    """Build the image of ``context`` with BuildKit and a plain log. ``target`` is the stage, None for the last one.

    BUILDX_BUILDER: only the daemon's own builder sees a base image that exists in the daemon alone.
    """
    argv = [*UNSIGNED, "DOCKER_BUILDKIT=1", "BUILDX_BUILDER=default", client, "build", "--progress=plain", "--tag", tag]
    for name, value in arguments.items():
        argv += ["--build-arg", f"{name}={value}"]
    for name, value in (labels or {}).items():
        argv += ["--label", f"{name}={value}"]
    if target:
        argv += ["--target", target]
    return [*argv, context]


def version_of(client: str, tag: str) -> list[str]:
    """Run the image's program with ``--version``."""
    return [*UNSIGNED, client, "run", "--rm", *CONFINED, tag, "--version"]


def devices_of(client: str, tag: str, gpu: Sequence[str]) -> list[str]:
    """Let the image's llama-server list the GPUs that it can use. ``gpu``: see ``gpus.gpu_options``."""
    confined = [*CONFINED, "--security-opt=no-new-privileges"]
    options = [*confined, "--userns=host", "--tmpfs=/tmp", "--env=HOME=/tmp", *gpu]
    return [*UNSIGNED, client, "run", "--rm", *options, tag, "--list-devices"]


def nvidia_smi(client: str, tag: str, gpu: Sequence[str]) -> list[str]:
    """Run nvidia-smi in a container of any image: the container toolkit adds it. ``gpu``: see ``gpus.gpu_options``."""
    options = [*CONFINED, "--userns=host", *gpu, "--entrypoint=nvidia-smi"]
    return [*UNSIGNED, client, "run", "--rm", *options, tag, "--list-gpus"]


def make_network(client: str) -> list[str]:
    """Make the server's network. It must not exist."""
    return ["sh", "-c", NETWORK_SCRIPT, "sh", client, NETWORK]


def remove_network(client: str) -> list[str]:
    """Remove the server's network. Docker refuses while a running container uses it."""
    return [client, "network", "rm", NETWORK]


def has_no_way_out(network: Mapping[str, Any]) -> bool:
    """Whether a network, as ``docker network inspect`` reports it, is what :func:`make_network` makes."""
    options, ipam = network.get("Options") or {}, network.get("IPAM") or {}
    return (
        network.get("Driver") == "bridge"
        and not network.get("EnableIPv6")
        and NETWORK_LABEL in (network.get("Labels") or {})
        and all(options.get(name) == value for name, value in NETWORK_OPTIONS.items())
        and any(NO_ROUTER in (part.get("AuxiliaryAddresses") or {}) for part in ipam.get("Config") or [])
    )


def logs(client: str, container: str, lines: int) -> list[str]:
    """Print the container's last ``lines`` lines."""
    return [client, "logs", "--tail", str(lines), container]


def start(client: str, container: str) -> list[str]:
    """Start a container that exists."""
    return [client, "start", container]


def remove(client: str, container: str) -> list[str]:
    """Stop and remove a container, whether it runs or not."""
    return [client, "rm", "--force", container]


def tag(client: str, image: str, name: str) -> list[str]:
    """Give an image a further name."""
    return [client, "tag", image, name]


def remove_images(client: str, tags: Sequence[str]) -> list[str]:
    """Remove images by tag. Docker keeps an image that a container uses, and then exits with an error."""
    return [client, "rmi", *tags]
