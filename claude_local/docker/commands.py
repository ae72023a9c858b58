"""How Docker is used: the one place that builds docker command lines and knows its packages. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

# Docker's own repository, and the fingerprint of the key that signs it (docs.docker.com/engine/install).
UPSTREAM = "https://download.docker.com/linux"
UPSTREAM_KEY = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"

UPSTREAM_PACKAGES = ("docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin")
# The distributions': docker.io is daemon and, up to Debian 12, client; later releases split the client off, and
# BuildKit's client comes in a package of its own where the release has it (Debian 12's client has it built in).
DISTRIBUTION_PACKAGES = ("docker.io", "docker-cli", "docker-buildx")
PACKAGES = (*UPSTREAM_PACKAGES, *DISTRIBUTION_PACKAGES)


def missing_packages(installed: Collection[str], candidates: Collection[str], *, daemon: bool) -> list[str]:
    """The packages that give this machine a Docker which builds with BuildKit; empty when apt knows none.

    ``installed`` and ``candidates`` are those of :data:`PACKAGES` that dpkg has and that apt could install;
    ``daemon`` says that a daemon is there already, from wherever, which must not be replaced. A machine with Docker's own
    packages gets more of those, any other the distribution's unless Docker's repository is among apt's sources.
    """
    ours = [name for name in UPSTREAM_PACKAGES if name in installed]
    if ours or ("docker-ce" in candidates and "docker.io" not in installed and not daemon):
        wanted = [name for name in UPSTREAM_PACKAGES if name in candidates]
        return ["docker-buildx-plugin"] if daemon and "docker-buildx-plugin" in wanted else wanted
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
    """``docker build`` of ``context`` with BuildKit, one line a step; ``target``: the stage, None for the last one. The
    words of the command.

    BUILDX_BUILDER: only the daemon's own builder sees the base image that exists in the daemon alone.
    """
    words = ["env", "DOCKER_BUILDKIT=1", "BUILDX_BUILDER=default", client, "build", "--progress=plain", "--tag", tag]
    for name, value in arguments.items():
        words += ["--build-arg", f"{name}={value}"]
    for name, value in (labels or {}).items():
        words += ["--label", f"{name}={value}"]
    if target:
        words += ["--target", target]
    return [*words, context]


def version_of(client: str, tag: str) -> list[str]:
    """Run the image's program with ``--version``, with nothing else allowed."""
    return [client, "run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", tag, "--version"]


def devices_of(client: str, tag: str, gpu: Sequence[str]) -> list[str]:
    """Let the image's program list the GPUs that it can use; ``gpu`` are the words that give them to a container."""
    fenced = ["--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    return [client, "run", "--rm", *fenced, "--tmpfs=/tmp", "--env=HOME=/tmp", *gpu, tag, "--list-devices"]


def nvidia_smi(client: str, tag: str, gpu: Sequence[str]) -> list[str]:
    """Run nvidia-smi in a container of any image: the container toolkit brings it in."""
    fenced = ["--network=none", "--read-only", "--cap-drop=ALL"]
    return [client, "run", "--rm", *fenced, *gpu, "--entrypoint=nvidia-smi", tag, "--list-gpus"]


def logs(client: str, container: str, lines: int) -> list[str]:
    """The container's last ``lines`` lines."""
    return [client, "logs", "--tail", str(lines), container]


def start(client: str, container: str) -> list[str]:
    return [client, "start", container]


def remove(client: str, container: str) -> list[str]:
    """Stop and remove a container, whether it runs or not."""
    return [client, "rm", "--force", container]


def remove_images(client: str, tags: Sequence[str]) -> list[str]:
    """Remove images by their tags; docker keeps those that a container uses, and then ends in a failure."""
    return [client, "rmi", *tags]
