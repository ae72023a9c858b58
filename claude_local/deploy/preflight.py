"""Can this machine become a claude-local workstation? Pure: facts in, one line a problem out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from claude_local.hardware.distribution import Distribution
from claude_local.hardware.distribution import problems as distribution_problems

GIB = 1024**3

# Disk that building the image takes under Docker's data directory, bytes: base image, compiler layer, compiler cache
# and result. `docker system df` after a build (Debian 12, CPU variant): 0.92 GB; the rest is room for the next one.
IMAGE_BYTES = 4 * GIB
# The same for a GPU's variant. CUDA: NVIDIA's devel image unpacked (some 9 GB), the compiler cache (up to 5 GB), a result
# of some 2 GB: an estimate, not measured. Vulkan: the shader compiler and Mesa more than the CPU variant.
GPU_IMAGE_BYTES = {"cuda": 20 * GIB, "vulkan": 6 * GIB}
# Source tree, Python environments, Claude Code (381 MB binary and its download) in the home directory, bytes.
HOME_BYTES = 2 * GIB
# Left free on every file system, bytes.
MARGIN_BYTES = 1 * GIB


@dataclass(frozen=True)
class Mount:
    """The file system that holds a path: its device, type (``df -T``) and free bytes for this user."""

    device: str
    kind: str
    free: int


@dataclass(frozen=True)
class Findings:
    """What preflight looked at.

    ``userland`` is the architecture of dpkg's packages, empty where dpkg does not say. ``docker_snap``: the only docker
    command is a snap's. ``mounts`` maps a path to the file system it is (or would be) on. ``listening`` are TCP ports that somebody listens
    on, ``ours`` those that our own container publishes. ``present`` maps a model file's name to the bytes of it that
    are already there. ``root_without_password``: root, or sudo asks nothing; ``terminal``: sudo could ask, or its password
    is given. ``image_built``: an image of the planned kind is there, of this build or an earlier one.
    """

    distribution: Distribution
    arch: str
    apt: bool
    uid: int
    sudo: bool
    root_without_password: bool
    terminal: bool
    listening: frozenset[int] = frozenset()
    ours: frozenset[int] = frozenset()
    mounts: Mapping[str, Mount] = field(default_factory=dict)
    present: Mapping[str, int] = field(default_factory=dict)
    image_built: bool = False
    runtime_there: bool = False
    userland: str = ""
    docker_snap: bool = False


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def disk_needs(
    found: Findings, home: str, docker_dir: str, model_dir: str, models: Mapping[str, int], variant: str = "cpu"
) -> list[tuple[str, str, int]]:
    """What will be written where: ``(purpose, path, bytes)``. ``models`` maps file names to sizes in bytes, ``variant``
    is the image's."""
    needs = [] if found.runtime_there else [("runtime and Claude Code", home, HOME_BYTES)]
    if not found.image_built:
        needs.append(("image build", docker_dir, GPU_IMAGE_BYTES.get(variant, IMAGE_BYTES)))
    missing = sum(max(0, size - found.present.get(name, 0)) for name, size in models.items())
    if missing:
        needs.append(("models", model_dir, missing))
    return needs


def problems(
    found: Findings,
    ports: Sequence[tuple[str, int]],
    needs: Sequence[tuple[str, str, int]],
    image_base: str = "auto",
    image_cpu: str = "native",
) -> list[str]:
    """One line for each thing that stands in the way, with what would help. Empty: go ahead.

    ``ports`` are ``(setting, port)``; ``needs`` comes from :func:`disk_needs`. File systems shared by several needs
    are judged by their sum. ``image_base`` and ``image_cpu`` are the settings.
    """
    lines = distribution_problems(
        found.distribution,
        apt=found.apt,
        arch=found.arch,
        userland=found.userland,
        image_base=image_base,
        image_cpu=image_cpu,
    )
    if found.docker_snap:
        lines.append(
            "docker: installed as a snap, which cannot read ~/.cache and ~/.local, where the image's sources and the "
            "models are; sudo snap remove docker, and run again (it is then installed as a package)"
        )
    if found.uid != 0:
        if not found.sudo:
            lines.append(
                "sudo: not installed; run as root, or as root: apt-get install sudo && usermod -aG sudo YOUR_NAME"
            )
        elif not found.root_without_password and not found.terminal:
            lines.append("sudo: asks for a password and there is no terminal to ask on; run in a terminal")
    for setting, port in ports:
        if port in found.listening and port not in found.ours:
            lines.append(
                f"{setting}: port {port} is in use by another program (see: ss -ltnp 'sport = :{port}'); "
                f"stop it or choose another with --data {setting}=PORT"
            )
    by_device: dict[str, list[tuple[str, str, int]]] = {}
    for need in needs:
        mount = found.mounts.get(need[1])
        if mount is not None:
            by_device.setdefault(mount.device, []).append(need)
    for device, group in by_device.items():
        total, free = sum(size for _, _, size in group), found.mounts[group[0][1]].free
        if free < total + MARGIN_BYTES:
            sums = " + ".join(f"{purpose} {_gib(size)}" for purpose, _, size in group)
            lines.append(
                f"disk {device} ({group[0][1]}): {_gib(free)} free, needed {_gib(total + MARGIN_BYTES)} "
                f"({sums} + margin {_gib(MARGIN_BYTES)}); free some space or set model_dir to a bigger disk"
            )
    return lines
