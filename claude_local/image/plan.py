"""The image to build on this machine, and its tag. Pure.

The tag holds a hash of everything that goes into the image: the Dockerfile's instructions, llama.cpp, our patches, the
server's web page, CMake's options, the base image and, for ``native``, the processor. An image with the planned tag
needs no build, and a change of any input makes another tag.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from claude_local.hardware.cuda import IN_WHEELS, WHEELS, WHEELS_ARCHITECTURE, Cuda
from claude_local.image import cmake
from claude_local.image.base import Base
from claude_local.image.builds import LlamaBuild, llama_build
from claude_local.image.dockerfile import CUDA_DEBIAN, CUDA_WHEELS, TARGETS, VULKAN_SDK, instructions

REPOSITORY = "claude-local/llama-server"
# The label on each of our images; its value is the tag.
LABEL = "claude-local.image"
# A built image gets its tag only after its build number was checked; until then the tag has this suffix.
UNCHECKED = "-unchecked"


@dataclass(frozen=True)
class Image:
    """An image to build: its tag and the arguments of ``docker build``.

    ``base`` is the image that it runs on, ``devel`` the image that compiles it where that is another one, ``target``
    the stage of the Dockerfile (None: the last one). ``from_packages`` is the same image on another base, compiled
    with CUDA from packages; it is built if no registry has ``bases``.
    """

    tag: str
    base: Base
    build: LlamaBuild
    variant: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    devel: Base | None = None
    target: str | None = None
    from_packages: Image | None = None

    @property
    def bases(self) -> tuple[Base, ...]:
        """All images that the build needs."""
        return (self.base,) if self.devel is None else (self.base, self.devel)

    @property
    def needs_wheels(self) -> bool:
        """Whether it is compiled with NVIDIA's packages on PyPI."""
        return self.arguments.get("BASE") == CUDA_WHEELS

    @property
    def version(self) -> str:
        """The number that ``llama-server --version`` must print."""
        return str(self.build.number)


def kind(variant: str, cpu: str) -> str:
    """The middle part of a tag says what the image is for: ``cuda``, ``vulkan``, ``cpu`` or ``cpu-all``."""
    return variant if variant != "cpu" or cpu == "native" else f"{variant}-{cpu}"


def is_kind(tag: str, kind: str) -> bool:
    """Whether a tag (without the repository) is that of a checked image of this kind, of any build."""
    return re.fullmatch(rf"b\d+-{re.escape(kind)}-[0-9a-f]+", tag) is not None


def superseded(images: Mapping[str, bool], current: str) -> list[str]:
    """Our images that may be removed, sorted. ``images`` maps a tag to whether a container uses the image.

    The server runs on ``current``, which stays. Its unchecked name goes.
    """
    return sorted(
        tag for tag, used in images.items() if tag != current and (not used or tag == f"{current}{UNCHECKED}")
    )


def plan(
    *,
    dockerfile: str,
    patches: str,
    web_ui: bytes,
    build_number: int,
    variant: str,
    cpu: str,
    base: Base,
    arch: str,
    cpu_flags: Iterable[str],
    jobs: int = 0,
    cuda: Cuda | None = None,
    packages_base: Base | None = None,
) -> Image:
    """The image for these settings on this machine.

    * ``dockerfile``, ``patches``: the text of the Dockerfile, and of our patches of llama.cpp
    * ``web_ui``: the archive of the server's web page
    * ``variant``, ``cuda``: the variant for this machine, and the CUDA of that variant
    * ``cpu``: the setting image_cpu
    * ``arch``: the output of ``uname -m``
    * ``cpu_flags``: the flags of /proc/cpuinfo; they count for ``native``, and always for a GPU's image on ARM
    * ``jobs``: how many compilers run at a time (0: one a core); not part of the tag
    * ``packages_base``: the base on which an image with CUDA from packages is compiled and runs; None: there is none

    Raises ImageError for a build that is not pinned.
    """
    build = llama_build(build_number)
    cpu_flags = frozenset(cpu_flags)
    devel = Base(name=cuda.toolkit.devel, pull=cuda.toolkit.devel, bootstrap=False) if cuda else None
    arguments = {
        "BASE": base.name,
        "CMAKE_FLAGS": " ".join(cmake.options(variant, cpu, arch, cpu_flags, cuda)),
        "BUILD_NUMBER": str(build.number),
        "BUILD_COMMIT": build.name,
    }
    if variant != "cpu":
        arguments |= {"BASE": devel.name if devel else VULKAN_SDK, "RUNTIME_BASE": base.name}
    used_instructions = instructions(dockerfile, TARGETS[variant], arguments)
    compiled_for = cmake.instruction_sets(cpu_flags) if variant == "cpu" and cpu == "native" else []
    inputs = {
        "arguments": arguments,
        "arch": arch,
        "base": [base.name, base.pull, base.bootstrap],
        "cpu": compiled_for,
        "dockerfile": hashlib.sha256(used_instructions.encode()).hexdigest(),
        "patches": hashlib.sha256(patches.encode()).hexdigest(),
        "tree": build.tree_sha256,
        "web_ui": hashlib.sha256(web_ui).hexdigest(),
    }
    packages_arguments = {}
    if cuda and cuda.packages and packages_base and arch == WHEELS_ARCHITECTURE:
        wheels = cuda.packages == IN_WHEELS
        stage = CUDA_WHEELS if wheels else CUDA_DEBIAN
        packages_arguments = {**arguments, "BASE": stage, "RUNTIME_BASE": packages_base.name}
        used_instructions = instructions(dockerfile, TARGETS[variant], packages_arguments)
        used = hashlib.sha256(used_instructions.encode()).hexdigest()
        inputs["packages"] = [WHEELS if wheels else cuda.packages.version, packages_arguments, used]
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]
    image = Image(
        tag=f"{REPOSITORY}:{build.name}-{kind(variant, cpu)}-{digest}",
        base=base,
        build=build,
        variant=variant,
        arguments={**arguments, "JOBS": str(jobs)},
        devel=devel,
        target=None if variant == "cpu" else TARGETS[variant],
    )
    if not packages_arguments or packages_base is None:
        return image
    arguments = {**packages_arguments, "JOBS": str(jobs)}
    return replace(image, from_packages=replace(image, base=packages_base, devel=None, arguments=arguments))
