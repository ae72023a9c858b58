"""The llama-server image: base image, sources, build, removal of superseded images.

The image's tag says what it is made of, so an image that has its tag needs no work.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from posixpath import join
from typing import Any

from pyinfra import host
from pyinfra.api import QuoteString, StringCommand, operation

from claude_local.deploy import shell
from claude_local.deploy.facts.docker import DockerClient, DockerImage
from claude_local.deploy.facts.image import LlamaSource, ServerImages
from claude_local.deploy.operations import known, packages
from claude_local.deploy.operations.docker import DEFAULT_CLIENT, client, look
from claude_local.deploy.operations.streaming import fail, last_lines, stream
from claude_local.deploy.workstation import PROJECT
from claude_local.docker import commands as docker
from claude_local.hardware.cuda import IN_DEBIAN, IN_WHEELS, TOOLKITS, WHEELS_ARCHITECTURE
from claude_local.image.base import REPOSITORY as BASE_REPOSITORY
from claude_local.image.base import Base
from claude_local.image.plan import LABEL, UNCHECKED, Image, superseded
from claude_local.paths import Paths

BASE_SCRIPT = (PROJECT / "files" / "image" / "base-image.sh").read_text()


def _exists(docker_client: str, name: str) -> bool:
    there = bool(known.ask(DockerImage, client=docker_client, reference=name))
    if not there:
        known.forget(DockerImage)
    return there


def missing(image: Image, **root: Any) -> bool:
    """Whether the image must be built. For ``_if``. ``root``: the global arguments that docker is used with."""
    docker_client = known.ask(DockerClient, **root)["client"] or DEFAULT_CLIENT
    return not known.ask(DockerImage, client=docker_client, reference=image.tag, **root)


@operation()
def base(
    bases: Sequence[Base],
    needed_by: Sequence[str],
    distro: str,
    codename: str,
    scratch: str,
    lock_timeout: int = 300,
    variant: str = "cpu",
    packages_follow: bool = False,
) -> Generator[Any]:
    """Get the images that ours are built from: from the registry, else by a debootstrap from the host's own mirror.

    + bases: the images to get
    + needed_by: tags of the images that are built from them; nothing is done while all of these exist
    + distro: ``debian`` or ``ubuntu``, for debootstrap
    + codename: the host's release, such as ``bookworm``
    + scratch: folder for debootstrap on a file system with 1 GB free; removed afterwards
    + lock_timeout: seconds to wait for another apt or dpkg (debootstrap is installed only when it is needed)
    + variant: of the image that is built from them
    + packages_follow: packages can take the place of what cannot be pulled (``cuda_packages``)

    Example::

        image.base(
            name="Get the base image", bases=[ws.own_base], needed_by=[ws.image.tag], distro="debian",
            codename="bookworm", scratch="/tmp/base", _sudo=True,
        )
    """
    docker_client = client()
    look(*(("image", tag) for tag in needed_by))
    if all(_exists(docker_client, tag) for tag in needed_by):
        host.noop(f"{', '.join(needed_by)} exists")
        return
    missing = [each for each in bases if not _exists(docker_client, each.name)]
    if not missing:
        host.noop(f"{', '.join(each.name for each in bases)} exists")
        return
    for each in missing:
        # A registry that does not answer (status 3) is no failure yet: debootstrap is the second source.
        yield stream(StringCommand(_base_script(docker_client, "pull", each.name, each.pull), "|| test $? -eq 3"))
        if _exists(docker_client, each.name):
            continue
        if each.bootstrap:
            yield from _bootstrap(docker_client, each, distro, codename, scratch, lock_timeout)
        elif packages_follow:
            return
        else:
            yield fail(_pull_advice(each, variant))
            return


def _base_script(docker_client: str, verb: str, *arguments: str) -> StringCommand:
    return shell.join(["sh", "-c", BASE_SCRIPT, "base-image.sh", verb, docker_client, *arguments])


def _bootstrap(
    docker_client: str, image: Base, distro: str, codename: str, scratch: str, lock_timeout: int
) -> Generator[Any]:
    keyring = {"debian": "debian-archive-keyring", "ubuntu": "ubuntu-keyring"}.get(distro)
    needed: dict[str, str | None] = {"debootstrap": "debootstrap", **({keyring: None} if keyring else {})}
    yield from packages.install._inner(packages=needed, lock_timeout=lock_timeout)
    yield stream(
        _base_script(docker_client, "bootstrap", image.name, distro, image.codename, scratch, codename),
        failure=last_lines(
            f"there is no base image: {image.pull} could not be pulled, and debootstrap could not make one",
            6,
            "Set image_base to an image that this machine can pull, or load one: docker load < image.tar",
        ),
    )


def _pull_advice(image: Base, variant: str) -> str:
    """What to do about an image that only a registry has. Its name is ours unless image_base gives it."""
    ours = image.name.startswith(f"{BASE_REPOSITORY}:") or image.pull in {each.devel for each in TOOLKITS}
    problem = f"{image.pull} could not be pulled (the lines above say why)"
    first = (
        f"{problem}. Run again, on a faster line if this one is slow: docker keeps nothing of a pull that breaks off"
        if ours
        else f"image_base: {problem}; correct the name, or set image_base to 'auto'"
    )
    tag = "" if image.name == image.pull else f", docker tag {image.pull} {image.name}"
    packages = (
        f". Packages can take its place on {WHEELS_ARCHITECTURE}: NVIDIA's on PyPI for GPUs of compute capability "
        f"{min(IN_WHEELS.architectures) / 10} or newer with driver {IN_WHEELS.least_driver} or newer; on Debian, "
        f"its own for GPUs up to {max(IN_DEBIAN.architectures) / 10}"
    )
    return (
        f"{first}. Without a registry, bring the image here: docker pull and docker save {image.pull} on a machine "
        f"that has one, docker load here{tag}"
        + ("" if variant == "cpu" else "; or do without the GPU: image_variant = 'cpu'")
        + (packages if variant == "cuda" else "")
    )


def _to_build(image: Image, docker_client: str) -> Image:
    """The image, or ``image.from_packages`` if no registry had the image that compiles it."""
    if image.from_packages and not all(_exists(docker_client, each.name) for each in image.bases):
        return image.from_packages
    return image


@operation()
def cuda_packages(
    image: Image, paths: Paths, distro: str, codename: str, scratch: str, lock_timeout: int = 300
) -> Generator[Any]:
    """If no registry has the CUDA compiler, get what an image with CUDA from packages needs.

    That is the base image, and NVIDIA's packages in the build context. Debian's packages are fetched by the build.

    + image: the planned image; nothing is done while it, or all the images that it is built from, exist
    + paths: the workstation's paths
    + distro, codename, scratch, lock_timeout: as for ``base``

    Example::

        image.cuda_packages(
            name="Get CUDA", image=ws.image, paths=ws.paths, distro="debian", codename="bookworm",
            scratch="/tmp/base", _sudo=True,
        )
    """
    docker_client = client()
    if _exists(docker_client, image.tag):
        host.noop(f"{image.tag} exists")
        return
    built = _to_build(image, docker_client)
    if built is not image.from_packages:
        host.noop(f"{', '.join(each.name for each in image.bases)} has the CUDA compiler")
        return
    yield from base._inner(
        bases=built.bases, needed_by=[image.tag], distro=distro, codename=codename, scratch=scratch,
        lock_timeout=lock_timeout, variant="cuda",
    )  # fmt: skip
    if not built.needs_wheels:
        return
    folder = join(paths.image_context, "cuda")
    yield stream(
        shell.join([paths.python, "-I", "-m", "claude_local.image.cuda_wheels", folder]),
        failure=last_lines(
            "the CUDA compiler came neither from a registry nor from the package index",
            4,
            "Run again when the network is back; image_variant = 'cpu' does without the GPU.",
        ),
        as_user=True,
    )


@operation()
def source(image: Image, paths: Paths) -> Generator[Any]:
    """Download the pinned llama.cpp sources into the build context, verified by the hash of their tree.

    + image: the planned image; nothing is done while it exists
    + paths: the workstation's paths

    The sources are the user's, also where docker needs ``_sudo``.

    Example::

        image.source(name="Download llama.cpp", image=ws.image, paths=ws.paths, _sudo=True)
    """
    folder = join(paths.image_context, "llama.cpp")
    if _exists(client(), image.tag):
        host.noop(f"{image.tag} exists")
        return
    if host.get_fact(LlamaSource, python=paths.python, build=image.build.number, folder=folder, _sudo=False):
        host.noop(f"{image.build.name} is in {folder}")
        return
    yield stream(
        shell.join([paths.python, "-I", "-m", "claude_local.image.source", str(image.build.number), folder]),
        failure=last_lines(
            "the sources of llama.cpp could not be downloaded",
            4,
            "Run again when the network is back; complete downloads are kept.",
        ),
        as_user=True,
    )


@operation()
def build(image: Image, paths: Paths, gpu_argv: Sequence[str] = ()) -> Generator[Any]:
    """Build the image with BuildKit, check its build number and that it finds the GPUs, then give it its tag.

    + image: the planned image
    + paths: the workstation's paths; the context is ``paths.image_context``, with the Dockerfile in it
    + gpu_argv: arguments of ``docker run`` that give a container the GPUs (``ws.gpu_argv``)

    Instead of pyinfra's ``docker.build``, which shows nothing for the minutes that it takes.

    Example::

        image.build(name="Build the image", image=ws.image, paths=ws.paths, gpu_argv=ws.gpu_argv, _sudo=True)
    """
    docker_client = client()
    if _exists(docker_client, image.tag):
        host.noop(f"{image.tag} exists")
        return
    image = _to_build(image, docker_client)
    unchecked = f"{image.tag}{UNCHECKED}"
    build_argv = docker.build(
        docker_client, paths.image_context, unchecked, image.arguments, {LABEL: image.tag}, image.target
    )
    yield stream(
        # -B: root leaves no bytecode in the user's copy of the runtime.
        shell.join([paths.python, "-I", "-B", "-m", "claude_local.image.build_progress", "--", *build_argv]),
        failure=(
            "the image could not be built; the compiler's last lines are above. "
            "Run again: compiled files are cached. If memory ran out, lower image_jobs."
        ),
    )
    if gpu_argv:
        yield _check_devices(docker_client, unchecked, image.variant, gpu_argv)
    yield stream(
        StringCommand(
            shell.join(docker.version_of(docker_client, unchecked)), "2>&1 | grep -w", QuoteString(image.version), "&&",
            shell.join(docker.tag(docker_client, unchecked, image.tag)), "&&",
            shell.join(docker.remove_images(docker_client, [unchecked])), ">/dev/null",
        ),
        failure=last_lines(f"the built image does not report {image.build.name}", 4),
    )  # fmt: skip


def _check_devices(docker_client: str, tag: str, variant: str, gpu_argv: Sequence[str]) -> Any:
    """The command that fails when llama-server lists no GPU (it names them CUDA0, Vulkan0 ...)."""
    return stream(
        StringCommand(
            "devices=$(", shell.join(docker.devices_of(docker_client, tag, gpu_argv)), ");",
            "printf '%s\\n' \"$devices\"; printf '%s\\n' \"$devices\" | grep -Eq",
            QuoteString(r"^ *(CUDA|Vulkan)[0-9]+:"),
        ),
        failure=last_lines(
            f"the image is built, but finds no GPU in its container (variant {variant})",
            6,
            "llama-local hardware shows the GPUs and their drivers; image_variant = 'cpu' does without.",
        ),
    )  # fmt: skip


@operation()
def prune(image: Image, keep: bool = False) -> Generator[Any]:
    """Remove our llama-server images that no container uses, except the planned one.

    + image: the planned image, which the server runs on by now
    + keep: remove nothing

    Base images and BuildKit's cache stay. Docker keeps an image that a container begins to use meanwhile, without an
    error. (pyinfra's ``docker.prune`` would remove other people's images.)

    Example::

        image.prune(name="Remove superseded images", image=ws.image, _sudo=True)
    """
    docker_client = client()
    images: dict[str, bool] = host.get_fact(ServerImages, client=docker_client)
    old = [] if keep else superseded(images, image.tag)
    if not old:
        host.noop("image_keep_old is set" if keep else "no image is superseded")
        return
    remove = shell.join(docker.remove_images(docker_client, old))
    yield stream(StringCommand(remove, "|| echo 'The next run tries again to remove the rest.'"))
