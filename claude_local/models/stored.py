"""Which model files are on the workstation's disk, whose they are and who uses them; and deleting those that nobody does.

What is ours is what models.json calls ``placed`` and what has not changed since: a file that somebody put in its place is
theirs. In use is what the last placement gave to a profile, what one that did not reach its end would give to one, and
what the server's presets name.
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
    """It cannot be known what is in use; the message says why."""


@dataclass(frozen=True)
class Stored:
    """One file. ``size`` counts bytes on the disk, 0 when it is missing.

    ``state``: ``verified`` (unchanged since its sha256, or without one its header, was checked), ``changed``, ``missing``,
    ``unknown`` (never looked at) or ``unfinished`` (a download that was begun). ``placed``: whether this program put it
    there. ``used_by``: ids of profiles; ``presets`` where only the server's presets name it, ``being placed`` where only
    a run that did not reach its end does.
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
    """Every file that is known or lies in model_dir. ``free``: bytes free on the disk of model_dir, None without one."""

    model_dir: str
    free: int | None
    files: tuple[Stored, ...] = field(default_factory=tuple)

    @property
    def orphaned(self) -> list[Stored]:
        return [file for file in self.files if file.orphaned]

    @property
    def unfinished(self) -> list[Stored]:
        return [file for file in self.files if file.state == "unfinished" and file.placed]


def in_presets(text: str, roots: Sequence[str]) -> set[str]:
    """The files on the workstation that presets.ini names, with the further parts of split models.

    ``roots``: model_dir and the search directories, in the order in which the container has them. Raises StoredError.
    """
    parser = configparser.RawConfigParser(
        delimiters=("=",), strict=False, default_section="\n", comment_prefixes=(";",)
    )
    try:
        parser.read_string("[ ]\n" + text)
    except configparser.Error as error:
        raise StoredError(str(error).splitlines()[0]) from None
    mounts = [(MODELS, roots[0])] if roots else []
    mounts += [(f"{EXTRA_MODELS}/{index}", root) for index, root in enumerate(roots[1:])]
    found = set()
    for section in parser.sections():
        for key in ("model", "mmproj"):
            path = parser.get(section, key, fallback="")
            for mount, root in mounts:
                if path.startswith(mount + "/"):
                    found.update(_parts(os.path.join(root, path[len(mount) + 1 :])))
    return found


def _parts(path: str) -> list[str]:
    match = SPLIT.fullmatch(path)
    if match is None:
        return [path]
    return [f"{match['stem']}-{number:05}-of-{match['count']}.gguf" for number in range(1, int(match["count"]) + 1)]


def _below(path: str, roots: Sequence[str]) -> bool:
    real = os.path.realpath(path)
    return any(real.startswith(os.path.realpath(root).rstrip("/") + "/") for root in roots)


def inventory(placements_path: str, presets_path: str) -> Inventory:
    """What is there now. Raises StoredError when models.json or presets.ini cannot be used."""
    if not os.path.exists(placements_path):
        raise StoredError(f"{placements_path} is not there: nothing was placed yet")
    index = Index.load(placements_path)
    if not index.roots:
        raise StoredError(
            f"{placements_path} does not say where the models are: it is damaged, or of an earlier version"
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
    for path in index.wanted:
        if path in index.files or path in lying:
            users.setdefault(path, ["being placed"])
    # A search directory around model_dir does not make the files in model_dir the user's, but all others.
    around = [root for root in search_dirs if _below(os.path.join(model_dir, "file"), [root])]
    apart = [root for root in search_dirs if root not in around]

    def theirs(path: str) -> bool:
        return _below(path, apart) or (_below(path, around) and not _below(path, [model_dir]))

    files = []
    for path in sorted({*index.files, *users, *lying}):
        files.append(_stored(path, index, users.get(path, []), theirs(path)))
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


def _stored(path: str, index: Index, users: list[str], theirs: bool) -> Stored:
    size = _size(path)
    known = path in index.files
    if size is None:
        state = "missing"
    elif not known:
        state = "unknown"
    else:
        state = "verified" if index.unchanged(path) else "changed"
    ours = index.placed(path) and state in ("verified", "missing")
    # A file whose directory became a search directory is the user's now, whoever put it there.
    orphaned = ours and state == "verified" and not users and not theirs
    return Stored(path, size or 0, state, ours, tuple(users), index.files.get(path, {}).get("sha256"), orphaned)


def delete(files: Sequence[Stored], placements_path: str) -> list[str]:
    """Delete orphaned files and unfinished downloads, and forget them; one line for each that could not be deleted.

    The caller holds the locks (:mod:`claude_local.models.run_lock`) since before it took the inventory. They keep no
    user from putting a file there while the question waits for an answer, so each is looked at once more.
    """
    index = Index.load(placements_path)
    problems = []
    for file in files:
        if not (file.orphaned or (file.state == "unfinished" and file.placed)):
            raise ValueError(f"{file.path} is not ours to delete")
        if file.orphaned and os.path.lexists(file.path) and not index.unchanged(file.path):
            problems.append(f"{file.path}: it has changed meanwhile")
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
