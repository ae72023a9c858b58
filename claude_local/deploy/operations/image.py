"""The llama-server image: base image, sources, build. Nothing is done while an image with the planned tag exists."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from posixpath import join
from typing import Any

from pyinfra import host
from pyinfra.api import DeployError, QuoteString, StringCommand, operation

from claude_local.deploy.facts.docker import DockerClient, DockerImage
from claude_local.deploy.facts.image import CpuFlags, LlamaSource, ServerImages
from claude_local.deploy.operations import packages, user_files
from claude_local.deploy.operations.docker import fails
from claude_local.deploy.operations.streaming import shell, streamed
from claude_local.deploy.workstation import PROJECT, Workstation, hardware
from claude_local.docker import commands as docker
from claude_local.docker.gpus import gpu_options
from claude_local.hardware.cuda import TOOLKITS
from claude_local.hardware.variant import ImageVariant, VariantError, choose
from claude_local.image import base as base_images
from claude_local.image import plan as pure
from claude_local.image.builds import ImageError
from claude_local.image.plan import Image
from claude_local.paths import Paths

DOCKERFILE = PROJECT / "files" / "image" / "Dockerfile"
BASE_SCRIPT = PROJECT / "files" / "image" / "base-image.sh"


def verdict(ws: Workstation) -> ImageVariant:
    """Which variant the setting image_variant comes to on this machine. Raises DeployError where it cannot be met."""
    try:
        return choose(hardware(), ws.settings.image_variant)
    except VariantError as error:
        raise DeployError(str(error)) from None


def gpu_words(ws: Workstation) -> tuple[str, ...]:
    """The words of ``docker run`` that give a container this machine's GPUs; none for the CPU variant."""
    return gpu_options(verdict(ws), hardware())


def planned(ws: Workstation) -> Image:
    """The image that the settings ask for on this machine. Raises DeployError naming the setting that cannot be met."""
    settings = ws.settings
    found = verdict(ws)
    cpu_flags: list[str] = host.get_fact(CpuFlags)
    try:
        return pure.plan(
            dockerfile=DOCKERFILE.read_text(),
            build_number=settings.image_llama_build,
            variant=found.variant,
            cpu=settings.image_cpu,
            base=base_images.base_image(
                settings.image_base, ws.identity["distro"], ws.identity["codename"], found.variant
            ),
            arch=ws.identity["arch"],
            cpu_flags=cpu_flags,
            jobs=settings.image_jobs,
            cuda=found.cuda,
        )
    except ImageError as error:
        raise DeployError(str(error)) from None


def base_wanted(ws: Workstation, image: Image) -> dict[str, Any]:
    """What ``based`` needs to know of a workstation: its arguments but for the name."""
    return {
        "image": image,
        "distro": ws.identity["distro"],
        "codename": ws.identity["codename"],
        "scratch": join(ws.paths.cache, "base-image"),
        "lock_timeout": ws.settings.packages_lock_timeout,
        "root": bool(ws.root),
    }


def _root(root: bool) -> Mapping[str, Any]:
    return {"_sudo": True} if root else {}


def _client(root: bool) -> str:
    """The docker client; on a machine without one, where it will be."""
    return host.get_fact(DockerClient, **_root(root))["client"] or "/usr/bin/docker"


def _there(client: str, name: str, root: bool) -> bool:
    return bool(host.get_fact(DockerImage, client=client, reference=name, **_root(root)))


@operation()
def based(
    image: Image, distro: str, codename: str, scratch: str, lock_timeout: int = 300, root: bool = False
) -> Generator[Any]:
    """Make the base image available: from the registry, else by a debootstrap of the host's own release.

    + image: the planned image; nothing is needed while it exists
    + distro: ``debian`` or ``ubuntu``, and ``codename`` its release
    + scratch: folder for debootstrap on a file system with 1 GB free; removed afterwards
    + lock_timeout: seconds to wait for another apt or dpkg (debootstrap is installed only when it is needed)
    + root: whether to run docker and debootstrap through sudo (``bool(ws.root)``)
    """
    client = _client(root)
    if _there(client, image.tag, root):
        host.noop(f"{image.tag} exists")
        return
    missing = [base for base in image.bases if not _there(client, base.name, root)]
    if not missing:
        host.noop(f"{', '.join(base.name for base in image.bases)} exists")
        return
    for base in missing:
        yield from _based(base, image.variant, client, distro, codename, scratch, lock_timeout, root)


def _not_pulled(base: base_images.Base, variant: str) -> str:
    """What to do about a base image that only a registry has. Its name is ours to choose unless image_base says it."""
    ours = base.name.startswith(f"{base_images.REPOSITORY}:") or base.pull in {each.devel for each in TOOLKITS}
    tag = "" if base.name == base.pull else f", docker tag {base.pull} {base.name}"
    first = (
        f"{base.pull} could not be pulled (the lines above say why). Run again, with a better line if this one is too slow: "
        "docker keeps nothing of a pull that was broken off"
        if ours
        else f"image_base: {base.pull} could not be pulled (the lines above say why); correct the name, or set image_base "
        "to 'auto'"
    )
    return (
        f"{first}. Without a registry, bring the image here: docker pull and docker save {base.pull} on a machine that has "
        f"one, docker load here{tag}" + ("" if variant == "cpu" else "; or do without the GPU: image_variant = 'cpu'")
    )


def _based(
    base: base_images.Base,
    variant: str,
    client: str,
    distro: str,
    codename: str,
    scratch: str,
    lock_timeout: int,
    root: bool,
) -> Generator[Any]:
    """One image of :func:`based`."""
    run = ["sh", "-c", BASE_SCRIPT.read_text(), "base-image.sh"]
    # No registry is no failure yet: what counts is whether the image is there afterwards.
    yield streamed(StringCommand(shell([*run, "pull", client, base.name, base.pull]), "|| test $? -eq 3"), root=root)
    if _there(client, base.name, root):
        return
    if not base.bootstrap:
        yield fails(_not_pulled(base, variant))
        return
    keyring = {"debian": "debian-archive-keyring", "ubuntu": "ubuntu-keyring"}.get(distro)
    needed: dict[str, str | None] = {"debootstrap": "debootstrap"}
    if keyring:
        needed[keyring] = None
    yield from packages.installed._inner(packages=needed, lock_timeout=lock_timeout, root=root)
    yield streamed(
        shell([*run, "bootstrap", client, base.name, distro, codename, scratch]),
        root=root,
        failure=lambda tail: (
            f"there is no base image: neither could {base.pull} be pulled, nor could debootstrap make one:\n  "
            + "\n  ".join(tail[-6:])
            + "\nSet image_base to an image that this machine can pull, or load one: docker load < image.tar"
        ),
    )


@operation()
def sourced(image: Image, paths: Paths, root: bool = False) -> Generator[Any]:
    """Fetch the pinned llama.cpp sources into the build context, verified by the hash of their tree.

    + image: the planned image; nothing is needed while it exists
    + paths: the workstation's paths
    + root: whether docker is asked through sudo (``bool(ws.root)``); the sources are the user's
    """
    folder = join(paths.image_context, "llama.cpp")
    if _there(_client(root), image.tag, root):
        host.noop(f"{image.tag} exists")
        return
    if host.get_fact(LlamaSource, python=paths.python, build=image.build.number, folder=folder):
        host.noop(f"{image.build.name} is in {folder}")
        return
    yield streamed(
        shell([paths.python, "-m", "claude_local.image.source", str(image.build.number), folder]),
        failure=lambda tail: (
            "\n  ".join(tail[-4:]) + "\nRun again when the network is back; what is complete is not fetched again."
        ),
    )


@operation()
def built(image: Image, dockerfile: Path, paths: Paths, root: bool = False, gpu: Sequence[str] = ()) -> Generator[Any]:
    """Build the image with BuildKit, check that it says its build number and finds its GPUs, then give it its tag.

    + image: the planned image
    + dockerfile: our Dockerfile on the controller
    + paths: the workstation's paths; the context is ``paths.image_context``
    + root: whether to run docker through sudo (``bool(ws.root)``)
    + gpu: the words of ``docker run`` that give a container the GPUs (``gpu_words(ws)``)
    """
    client = _client(root)
    if _there(client, image.tag, root):
        host.noop(f"{image.tag} exists")
        return
    context, unchecked = paths.image_context, f"{image.tag}{pure.UNCHECKED}"
    for name, source in (("Dockerfile", "Dockerfile"), (".dockerignore", "dockerignore")):
        text = (dockerfile.parent / source).read_text()
        yield from user_files.whole_file._inner(dest=join(context, name), text=text, mode="644")
    build = docker.build(client, context, unchecked, image.arguments, {pure.LABEL: image.tag}, image.target)
    version = shell(docker.version_of(client, unchecked))
    yield streamed(
        # -B: root leaves no bytecode in the user's copy of the runtime.
        shell([paths.python, "-B", "-m", "claude_local.image.build_progress", "--", *build]),
        root=root,
        failure=lambda tail: (
            "the image could not be built; the compiler's last lines are above. "
            "Run again: what was compiled is cached. If memory ran out, lower image_jobs."
        ),
    )
    if gpu:
        devices = shell(docker.devices_of(client, unchecked, gpu))
        yield streamed(
            # llama.cpp names them CUDA0, Vulkan0 ...
            StringCommand(
                "said=$(",
                devices,
                "2>&1 ); printf '%s\\n' \"$said\"; printf '%s\\n' \"$said\" | grep -Eq",
                QuoteString(r"^ *(CUDA|Vulkan)[0-9]+:"),
            ),
            root=root,
            failure=lambda tail: (
                f"the image is built, but finds no GPU in its container (variant {image.variant}):\n  "
                + "\n  ".join(tail[-6:])
                + "\nllama-local hardware shows the GPUs and their drivers; image_variant = 'cpu' does without."
            ),
        )
    yield streamed(
        StringCommand(
            version, "2>&1 | grep -w", QuoteString(image.version), "&&",
            shell([client, "tag", unchecked, image.tag]), "&&", shell([client, "rmi", unchecked]), ">/dev/null",
        ),
        root=root,
        failure=lambda tail: f"the built image does not say that it is {image.build.name}:\n  " + "\n  ".join(tail[-4:]),
    )  # fmt: skip


@operation()
def pruned(image: Image, keep: bool = False, root: bool = False) -> Generator[Any]:
    """Remove our llama-server images that no container uses and that are not the planned one.

    + image: the planned image, which the server runs on by now
    + keep: remove nothing
    + root: whether to run docker through sudo (``bool(ws.root)``)

    Base images and BuildKit's cache stay. An image that somebody begins to use at this moment is no failure: docker
    keeps it.
    """
    client = _client(root)
    there: dict[str, bool] = host.get_fact(ServerImages, client=client, **_root(root))
    old = [] if keep else pure.superseded(there, image.tag)
    if not old:
        host.noop("image_keep_old is set" if keep else "no image is superseded")
        return
    remove = shell(docker.remove_images(client, old))
    yield streamed(
        StringCommand(remove, "|| echo 'What could not be removed is tried again by the next run.'"), root=root
    )
