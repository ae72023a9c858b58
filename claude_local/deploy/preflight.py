"""Can this machine become a claude-local workstation? It is read once, and each problem is one line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import join
from typing import Any

from pyinfra import config, host

from claude_local.deploy.facts.preflight import PreflightFindings
from claude_local.deploy.workstation import Workstation
from claude_local.hardware.distribution import Distribution
from claude_local.hardware.distribution import problems as distribution_problems
from claude_local.image import plan as image
from claude_local.manager.container import container_name

GIB = 1024**3

# Docker's data directory; the fact reads the file system of the daemon's own.
DOCKER_DIR = "/var/lib/docker"
# Disk that building the image takes in Docker's data directory, bytes: base image, compiler layer, compiler cache and
# result. `docker system df` after a build (Debian 12, CPU variant): 0.92 GB; the rest is room for the next build.
IMAGE_BYTES = 4 * GIB
# The same for a GPU's variant. CUDA: NVIDIA's devel image unpacked (about 9 GB), the compiler cache (up to 5 GB) and a
# result of about 2 GB, an estimate. Vulkan: the CPU variant with the shader compiler and Mesa.
GPU_IMAGE_BYTES = {"cuda": 20 * GIB, "vulkan": 6 * GIB}
# Source tree, Python environments and Claude Code (a binary of 381 MB and its download) in the home directory, bytes.
HOME_BYTES = 2 * GIB
# To stay free on every file system, bytes.
MARGIN_BYTES = 1 * GIB


@dataclass(frozen=True)
class Filesystem:
    """The file system of a path: its device, type (``df -T``) and free bytes for this user."""

    device: str
    kind: str
    free: int


@dataclass(frozen=True)
class Findings:
    """The machine before the deploy.

    ``userland``: the architecture of dpkg's packages, empty where dpkg does not say. ``docker_snap``: the only docker
    command is a snap's. ``mounts``: path -> its file system, now or once it exists. ``listening``: TCP ports that some
    program listens on. ``ours``: ports that our own container publishes. ``present``: name of a model file -> its bytes
    that are downloaded. ``root_without_password``: root, or sudo asks for nothing. ``terminal``: sudo could ask, or its
    password is given. ``image_built``: an image of the planned kind exists, of this build or an earlier one.
    ``runtime_installed``: a former deploy finished.
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
    mounts: Mapping[str, Filesystem] = field(default_factory=dict)
    present: Mapping[str, int] = field(default_factory=dict)
    image_built: bool = False
    runtime_installed: bool = False
    userland: str = ""
    docker_snap: bool = False


def disk_needs(
    findings: Findings, home: str, model_dir: str, models: Mapping[str, int], variant: str = "cpu"
) -> list[tuple[str, str, int]]:
    """What the deploy will write: ``(purpose, path, bytes)``.

    ``models`` maps file names to sizes in bytes; ``variant`` is the image's.
    """
    needs = [] if findings.runtime_installed else [("runtime and Claude Code", home, HOME_BYTES)]
    if not findings.image_built:
        needs.append(("image build", DOCKER_DIR, GPU_IMAGE_BYTES.get(variant, IMAGE_BYTES)))
    missing = sum(max(0, size - findings.present.get(name, 0)) for name, size in models.items())
    if missing:
        needs.append(("models", model_dir, missing))
    return needs


def problems(
    findings: Findings,
    ports: Sequence[tuple[str, int]],
    needs: Sequence[tuple[str, str, int]],
    image_base: str = "auto",
    image_cpu: str = "native",
) -> list[str]:
    """One line for each problem, with its fix. Empty: go ahead.

    ``ports`` are ``(setting, port)``; ``needs`` comes from :func:`disk_needs`; ``image_base`` and ``image_cpu`` are the
    settings.
    """
    lines = distribution_problems(
        findings.distribution,
        apt=findings.apt,
        arch=findings.arch,
        userland=findings.userland,
        image_base=image_base,
        image_cpu=image_cpu,
    )
    if findings.docker_snap:
        lines.append(
            "docker: installed as a snap, which cannot read ~/.cache and ~/.local, where the image's sources and the "
            "models are; sudo snap remove docker, and run again (the deploy then installs it as a package)"
        )
    return [*lines, *_sudo_problems(findings), *_port_problems(findings, ports), *_disk_problems(findings, needs)]


def _sudo_problems(findings: Findings) -> list[str]:
    if findings.uid == 0 or findings.root_without_password:
        return []
    if not findings.sudo:
        return ["sudo: not installed; run as root, or as root: apt-get install sudo && usermod -aG sudo YOUR_NAME"]
    if not findings.terminal:
        return ["sudo: asks for a password and there is no terminal to ask on; run in a terminal"]
    return []


def _port_problems(findings: Findings, ports: Sequence[tuple[str, int]]) -> list[str]:
    return [
        f"{setting}: port {port} is in use by another program (see: ss -ltnp 'sport = :{port}'); "
        f"stop it or choose another with --data {setting}=PORT"
        for setting, port in ports
        if port in findings.listening and port not in findings.ours
    ]


def _disk_problems(findings: Findings, needs: Sequence[tuple[str, str, int]]) -> list[str]:
    """Needs on one file system are judged by their sum."""
    by_device: dict[str, list[tuple[str, str, int]]] = {}
    for need in needs:
        mount = findings.mounts.get(need[1])
        if mount is not None:
            by_device.setdefault(mount.device, []).append(need)
    lines = []
    for device, group in by_device.items():
        total, free = sum(size for _, _, size in group), findings.mounts[group[0][1]].free
        if free < total + MARGIN_BYTES:
            sums = " + ".join(f"{purpose} {_gib(size)}" for purpose, _, size in group)
            lines.append(
                f"disk {device} ({group[0][1]}): {_gib(free)} free, needed {_gib(total + MARGIN_BYTES)} "
                f"({sums} + margin {_gib(MARGIN_BYTES)}); free some space or set model_dir to a bigger disk"
            )
    return lines


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def password_available() -> bool:
    """Whether sudo's password is known or can be asked for.

    It is known from pyinfra's configuration or data (``_sudo_password``) or from an earlier question in this run, and
    can be asked for on a terminal.
    """
    given = (config.SUDO_PASSWORD, host.data.get("_sudo_password"), host.connector_data.get("prompted_sudo_password"))
    return any(given) or sys.stdin.isatty()


def read_findings(uid: int, sudo: bool, **arguments: Any) -> dict[str, Any]:
    """The fact PreflightFindings for its ``arguments``, as root where docker answers only root.

    ``uid`` is the user's, ``sudo`` says whether sudo is installed. Without docker's answers, our own containers'
    ports would count as another program's, and the image as missing.
    """
    findings: dict[str, Any] = host.get_fact(PreflightFindings, **arguments)
    if not findings["unasked"] or uid == 0 or not sudo or not password_available():
        return findings
    as_root: dict[str, Any] = host.get_fact(PreflightFindings, **arguments, _sudo=True)
    return {**as_root, "root": findings["root"]}


def check(ws: Workstation) -> list[str]:
    """The problems of the current host: one line each. It changes nothing."""
    identity, settings, paths = ws.identity, ws.settings, ws.paths
    models = {file: size for name in settings.model_profiles for file, size in ws.profiles[name].sizes.items()}
    model_dirs = [paths.model_dir, *ws.search_dirs]
    kind = image.kind(ws.variant.variant, settings.image_cpu)
    facts = read_findings(
        identity["uid"],
        identity["sudo"],
        containers=[settings.server_container, container_name(settings.server_container)],
        runtime=paths.verify_report,
        files=[join(directory, name) for directory in model_dirs for name in models],
        paths=[paths.home, DOCKER_DIR, paths.model_dir],
    )
    findings = Findings(
        distribution=Distribution(
            identity["distro"], identity["release"], identity["codename"], identity["system"], identity["derived"]
        ),
        userland=identity["userland"],
        arch=identity["arch"],
        apt=facts["apt"],
        uid=identity["uid"],
        sudo=identity["sudo"],
        root_without_password=facts["root"],
        terminal=password_available(),
        listening=frozenset(facts["listen"]),
        ours=frozenset(facts["ours"]),
        mounts={path: Filesystem(*mount) for path, mount in facts["mount"].items()},
        present={name: max(facts["file"].get(join(directory, name), 0) for directory in model_dirs) for name in models},
        image_built=any(image.is_kind(tag, kind) for tag in facts["image"]),
        runtime_installed=facts["runtime"],
        docker_snap=facts["snap"],
    )
    return problems(
        findings,
        ports=[("server_port", settings.server_port), ("manager_port", settings.manager_port)],
        needs=disk_needs(findings, paths.home, paths.model_dir, models, variant=ws.variant.variant),
        image_base=settings.image_base,
        # It does not matter for a GPU's image.
        image_cpu=settings.image_cpu if ws.variant.variant == "cpu" else "native",
    )
