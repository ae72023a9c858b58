"""List the model files on the workstation's disk with their owners and users, and delete those that nobody uses.

A file is ours when models.json calls it ``placed`` and it has not changed since. It is in use when the last placement
gave it to a profile, when a placement that did not finish needs it, or when the server's presets name it.
"""

from __future__ import annotations

import configparser
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_local.models.index import Index
from claude_local.models.part import NOTE, remove_notes
from claude_local.models.profiles import SPLIT
from claude_local.server.presets import EXTRA_MODELS, MODELS

PART = ".part"


class StoredError(Exception):
    """What is in use cannot be known. The message says why."""


@dataclass(frozen=True)
class Stored:
    """One file. ``size``: bytes on the disk, 0 when it is missing.

    ``state``: ``verified`` (unchanged since its sha256 was checked, or its header when it has none), ``changed``,
    ``missing``, ``unknown`` (never checked) or ``unfinished`` (the part of a download). ``placed``: claude-local put it
    there. ``used_by``: ids of profiles; ``presets`` when only the server's presets name it, ``being placed`` when only
    a run that did not finish needs it. ``orphaned``: ours, and nobody uses it.
    """

    path: str
    size: int
    state: str
    placed: bool
    used_by: tuple[str, ...]
    sha256: str | None
    orphaned: bool

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "used_by": list(self.used_by)}


@dataclass(frozen=True)
class Inventory:
    """Every file in models.json and in model_dir. ``free``: free bytes on that disk, None when it is missing."""

    model_dir: str
    free: int | None
    files: tuple[Stored, ...] = field(default_factory=tuple)

    @property
    def orphaned(self) -> list[Stored]:
        """The files that claude-local placed and nobody uses."""
        return [file for file in self.files if file.orphaned]

    @property
    def unfinished(self) -> list[Stored]:
        """The parts of downloads that claude-local began."""
        return [file for file in self.files if file.state == "unfinished" and file.placed]


def sections(text: str) -> dict[str, dict[str, str]]:
    """The sections of presets.ini: name -> key -> value. Raises StoredError."""
    parser = configparser.RawConfigParser(
        delimiters=("=",), strict=False, default_section="\n", comment_prefixes=(";",)
    )
    try:
        parser.read_string("[ ]\n" + text)
    except configparser.Error as error:
        raise StoredError(str(error).splitlines()[0]) from None
    return {name: dict(parser[name]) for name in parser.sections()}


def in_presets(text: str, roots: Sequence[str]) -> set[str]:
    """The files on the workstation that presets.ini names, with the further parts of split models.

    ``roots``: model_dir and the search directories, in the order in which the container has them. Raises StoredError.
    """
    mounts = [(MODELS, roots[0])] if roots else []
    mounts += [(f"{EXTRA_MODELS}/{index}", root) for index, root in enumerate(roots[1:])]
    paths: set[str] = set()
    for section in sections(text).values():
        for key in ("model", "mmproj"):
            path = section.get(key, "")
            for mount, root in mounts:
                if path.startswith(mount + "/"):
                    paths.update(_parts(os.path.join(root, path[len(mount) + 1 :])))
    return paths


def _parts(path: str) -> list[str]:
    match = SPLIT.fullmatch(path)
    if match is None:
        return [path]
    return [f"{match['stem']}-{number:05}-of-{match['count']}.gguf" for number in range(1, int(match["count"]) + 1)]


def _below(path: str, roots: Sequence[str]) -> bool:
    real = os.path.realpath(path)
    return any(real.startswith(os.path.realpath(root).rstrip("/") + "/") for root in roots)


def inventory(placements_path: str, presets_path: str) -> Inventory:
    """All files as they are now. Raises StoredError when models.json or presets.ini cannot be read."""
    if not os.path.exists(placements_path):
        raise StoredError(f"{placements_path} does not exist: nothing was placed yet")
    index = Index.load(placements_path)
    if not index.roots:
        raise StoredError(
            f"{placements_path} does not name the models' directories: it is damaged, or of an earlier version"
        )
    try:
        presets = in_presets(Path(presets_path).read_text(encoding="utf-8"), index.roots)
    except FileNotFoundError:
        presets = set()
    except (OSError, UnicodeDecodeError, StoredError) as error:
        raise StoredError(f"{presets_path} cannot be read: {error}") from None
    users: dict[str, list[str]] = {path: ["presets"] for path in presets}
    for name, record in index.profiles.items():
        for path in record.get("files", ()):
            users[path] = [user for user in users.get(path, []) if user != "presets"] + [name]
    model_dir, *search_dirs = index.roots
    lying, parts = _lying(model_dir)
    for path in index.needed:
        if path in index.files or path in lying:
            users.setdefault(path, ["being placed"])
    # A search directory around model_dir makes all files below it the user's, except those in model_dir.
    around = [root for root in search_dirs if _below(os.path.join(model_dir, "file"), [root])]
    apart = [root for root in search_dirs if root not in around]

    def users_own(path: str) -> bool:
        return _below(path, apart) or (_below(path, around) and not _below(path, [model_dir]))

    files = []
    stamped = set(index.files).difference(index.gone(index.profiles))
    for path in sorted({*stamped, *users, *lying}):
        files.append(_stored(path, index, users.get(path, []), users_own(path)))
    for path in parts:
        size = _size(path) or 0
        files.append(Stored(path, size, "unfinished", os.path.exists(path + NOTE), (), None, orphaned=False))
    free = shutil.disk_usage(model_dir).free if os.path.isdir(model_dir) else None
    return Inventory(model_dir, free, tuple(files))


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _lying(model_dir: str) -> tuple[list[str], list[str]]:
    """The GGUF files and the unfinished downloads below model_dir."""
    models, parts = [], []
    for folder, _, names in os.walk(model_dir):
        for name in sorted(names):
            if name.endswith(".gguf"):
                models.append(os.path.join(folder, name))
            elif name.endswith(".gguf" + PART):
                parts.append(os.path.join(folder, name))
    return models, parts


def _stored(path: str, index: Index, users: list[str], users_own: bool) -> Stored:
    size = _size(path)
    known = path in index.files
    if size is None:
        state = "missing"
    elif not known:
        state = "unknown"
    else:
        state = "verified" if index.unchanged(path) else "changed"
    ours = index.placed(path) and state in ("verified", "missing")
    # A file in a search directory is the user's, whoever put it there.
    orphaned = ours and state == "verified" and not users and not users_own
    return Stored(path, size or 0, state, ours, tuple(users), index.files.get(path, {}).get("sha256"), orphaned)


def delete(files: Sequence[Stored], placements_path: str) -> list[str]:
    """Delete orphaned files and unfinished downloads, and forget them. One line for each that could not be deleted.

    The caller has held the locks (:mod:`claude_local.models.run_lock`) since before it took the inventory. A user may
    still put a file there while the question waits for an answer, so each file is checked again.
    """
    index = Index.load(placements_path)
    problems = []
    for file in files:
        if not (file.orphaned or (file.state == "unfinished" and file.placed)):
            raise ValueError(f"{file.path} is not ours to delete")
        if file.orphaned and os.path.lexists(file.path) and not index.unchanged(file.path):
            problems.append(f"{file.path}: it changed meanwhile")
            continue
        try:
            os.unlink(file.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            problems.append(f"{file.path}: {error.strerror}")
            continue
        if file.state == "unfinished":
            remove_notes(file.path)
        index.files.pop(file.path, None)
        _remove_empty(os.path.dirname(file.path), index.roots[0])
    index.save()
    return problems


def _remove_empty(folder: str, model_dir: str) -> None:
    """Remove the folders below model_dir that the deleted file left empty."""
    while folder.startswith(model_dir.rstrip("/") + "/"):
        with suppress(OSError):
            os.rmdir(folder)
        if os.path.isdir(folder):
            return
        folder = os.path.dirname(folder)
