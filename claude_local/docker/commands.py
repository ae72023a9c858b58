"""Docker's packages and command lines. Pure.

The one place that builds docker command lines, except for the options of the server's container
(claude_local/server/container.py) and of a container's GPUs (gpus.py). ``client`` is always the docker command to run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

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


def sources_file(distro: str, codename: str) -> str:
    """Docker's repository as an apt sources file (deb822)."""
    return (
        "Types: deb\n"
        f"URIs: {UPSTREAM}/{distro}\n"
        f"Suites: {codename}\n"
        "Components: stable\n"
        "Signed-By: /etc/apt/keyrings/docker.asc\n"
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
    argv = ["env", "DOCKER_BUILDKIT=1", "BUILDX_BUILDER=default", client, "build", "--progress=plain", "--tag", tag]
    for name, value in arguments.items():
        argv += ["--build-arg", f"{name}={value}"]
    for name, value in (labels or {}).items():
        argv += ["--label", f"{name}={value}"]
    if target:
        argv += ["--target", target]
    return [*argv, context]


def version_of(client: str, tag: str) -> list[str]:
    """Run the image's program with ``--version``."""
    return [client, "run", "--rm", *CONFINED, tag, "--version"]


def devices_of(client: str, tag: str, gpu: Sequence[str]) -> list[str]:
    """Let the image's llama-server list the GPUs that it can use. ``gpu``: see ``gpus.gpu_options``."""
    confined = [*CONFINED, "--security-opt=no-new-privileges"]
    return [client, "run", "--rm", *confined, "--tmpfs=/tmp", "--env=HOME=/tmp", *gpu, tag, "--list-devices"]


def nvidia_smi(client: str, tag: str, gpu: Sequence[str]) -> list[str]:
    """Run nvidia-smi in a container of any image: the container toolkit adds it. ``gpu``: see ``gpus.gpu_options``."""
    return [client, "run", "--rm", *CONFINED, *gpu, "--entrypoint=nvidia-smi", tag, "--list-gpus"]


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
