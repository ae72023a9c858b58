"""A checkout of this project: what a deploy from it would install. Reads its files and runs none of them."""

from __future__ import annotations

import ast
import hashlib
import re
from pathlib import Path
from typing import Any

from claude_local.image.dockerfile import TARGETS, VULKAN_SDK, instructions
from claude_local.models import profiles
from claude_local.models.profiles import ProfilesError

# The settings of group_data/all.py that name a version.
VERSIONS = ("image_llama_build", "claude_version")


class CheckoutError(Exception):
    """A directory that is no checkout, or of a version that this one cannot read. The message says what is missing."""


def describe(project: Path) -> dict[str, Any]:
    """The project's version, the settings in VERSIONS as the project has them, ``files``: profile id -> what
    identifies its model files, ``images``: variant -> a hash of what llama-server's image is built from, and ``data``:
    file that a deploy installs -> its hash. Raises CheckoutError."""
    try:
        version = re.search(r'^version = "(.+)"', (project / "pyproject.toml").read_text(), re.MULTILINE)
        settings = _literals((project / "group_data" / "all.py").read_text())
        known = profiles.parse((project / "models.conf").read_text())
        return {
            "project": version[1] if version else "?",
            **{name: settings[name] for name in VERSIONS},
            "files": {name: [file.sha256 or file.name for file in each.files] for name, each in known.items()},
            "images": _images(project / "files" / "image"),
            "data": _data(project),
        }
    except OSError as error:
        raise CheckoutError(f"{project} is no checkout of claude-local: {error.filename} cannot be read") from None
    except (KeyError, SyntaxError, ProfilesError) as error:
        raise CheckoutError(f"{project} is of a version that this llama-local cannot read: {error}") from None


def _literals(text: str) -> dict[str, Any]:
    """The values of a Python file that only assigns literals."""
    values = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = ast.literal_eval(node.value)
    return values


def _images(folder: Path) -> dict[str, str]:
    """For each variant, a hash of its part of the Dockerfile, of the patches and of the server's web page."""
    dockerfile = (folder / "Dockerfile").read_text()
    paths = [*sorted(folder.glob("patches/*.patch")), folder / "web-ui.tar.xz"]
    rest = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)
    bases = {"vulkan": {"BASE": VULKAN_SDK}}
    parts = {variant: instructions(dockerfile, stage, bases.get(variant, {})) for variant, stage in TARGETS.items()}
    return {variant: hashlib.sha256(part.encode() + rest).hexdigest() for variant, part in parts.items()}


def _data(project: Path) -> dict[str, str]:
    """The hashes of the files in files/ and templates/, without those of llama-server's image."""
    image = project / "files" / "image"
    paths = [path for folder in ("files", "templates") for path in (project / folder).rglob("*") if path.is_file()]
    kept = [path for path in sorted(paths) if image not in path.parents]
    return {str(path.relative_to(project)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def different_files(one: Path, other: Path) -> list[str]:
    """The programs that differ in two copies of this package, without the half that stays on the controller."""
    copies = [{str(path.relative_to(each)): path.read_bytes() for path in _programs(each)} for each in (one, other)]
    names = sorted(copies[0].keys() | copies[1].keys())
    return [name for name in names if copies[0].get(name) != copies[1].get(name)]


def _programs(package: Path) -> list[Path]:
    return [
        path
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.relative_to(package).parts[0] != "deploy"
    ]
