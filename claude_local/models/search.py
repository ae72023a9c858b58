"""Where the files of a plan lie on the workstation's disks. Reads directories and stamps, never a file's content."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from claude_local.models.index import Index
from claude_local.models.placement_plan import FileGroup, PlacementPlan, PlannedFile

# How deep and how far a search directory is walked for a file's name.
SEARCH_DEPTH = 6
SEARCH_ENTRIES = 50_000


def visible(path: str, roots: Sequence[str]) -> str | None:
    """The path without links by which the server sees a file, below one of ``roots``; None when it cannot see it.

    The server's container mounts these directories, so a link that leaves them is broken there.
    """
    real = os.path.realpath(path)
    for root in roots:
        base = os.path.realpath(root)
        if real.startswith(base.rstrip("/") + "/"):
            return os.path.join(root, os.path.relpath(real, base))
    return None


def visible_link(path: str, roots: Sequence[str]) -> str | None:
    """The path of a link that also works in the server's container; None when it would be broken there.

    A link works there when it is relative and stays below one of ``roots``. In the hub's own cache the parts of a model
    are such links (snapshots/COMMIT/NAME -> ../../blobs/SHA256), and llama-server finds the parts by their names.
    """
    try:
        link = os.readlink(path)
    except OSError:
        return None
    folder = os.path.realpath(os.path.dirname(path))
    for root in roots:
        base = os.path.realpath(root)
        inside = os.path.relpath(folder, base)
        goal = os.path.normpath(os.path.join(inside, link))
        # A link that leaves the root keeps its "..", which no real path has.
        if not os.path.isabs(link) and os.path.join(base, goal) == os.path.realpath(path):
            return os.path.normpath(os.path.join(root, inside, os.path.basename(path)))
    return None


def file_status(path: str) -> os.stat_result | None:
    """The status of a regular file; None when there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


@dataclass(frozen=True)
class Candidate:
    """What is known of one place where a file may be.

    ``state``: ok, unverified, changed, size, link, corrupt or missing. ``detail`` says why, for people. ``size`` is in
    bytes.
    """

    path: str
    state: str
    detail: str = ""
    size: int | None = None


def look(path: str, file: PlannedFile, plan: PlacementPlan, index: Index, *, same_name: bool) -> Candidate:
    """The state of the file at ``path``. ``same_name``: the server needs it under its own name."""
    status = file_status(path)
    if status is None:
        return Candidate(path, "missing", "not there")
    size = status.st_size
    goal = os.path.realpath(path)
    shown = visible(path, plan.roots)
    if shown is None:
        return Candidate(path, "link", f"a link to {goal}; name {os.path.dirname(goal)} in model_search_dirs")
    if same_name and os.path.basename(shown) != os.path.basename(file.name):
        shown = visible_link(path, plan.roots)
        if shown is None:
            return Candidate(
                path, "link", f"a link to {goal}: the server needs each part of a model under its own name"
            )
    if file.size is not None and size != file.size:
        problem = "truncated" if size < file.size else "too long"
        return Candidate(shown, "size", f"{problem}: {size} bytes instead of {file.size}", size)
    if index.stamped(shown, status, file.sha256):
        return Candidate(shown, "ok", size=size)
    entry = index.files.get(shown)
    if entry is not None and entry.get("sha256") == file.sha256:
        return Candidate(shown, "changed", "changed since its sha256 was checked", size)
    return Candidate(shown, "unverified", "its sha256 was never checked", size)


def look_in(directory: str, group: FileGroup, plan: PlacementPlan, index: Index) -> list[Candidate]:
    """The state of each file of the group in one directory."""
    paths = [os.path.join(directory, os.path.basename(file.name)) for file in group.files]
    if len(group.files) == 1 and file_status(paths[0]) is None:
        # A lone file may have been hashed there under another name.
        sha256 = group.files[0].sha256
        for path, entry in index.files.items():
            if sha256 is not None and entry.get("sha256") == sha256 and os.path.dirname(path) == directory:
                paths = [path]
                break
    several = len(group.files) > 1
    return [look(path, file, plan, index, same_name=several) for path, file in zip(paths, group.files, strict=True)]


def directories(group: FileGroup, plan: PlacementPlan, index: Index, *, walk: bool) -> Iterator[str]:
    """Where the files of a group may lie together, the likely places first. ``walk``: search the search directories."""
    done = set()
    for directory in map(os.path.normpath, _likely(group.files[0], plan, index, walk=walk)):
        if directory not in done:
            done.add(directory)
            yield directory


def _likely(first: PlannedFile, plan: PlacementPlan, index: Index, *, walk: bool) -> Iterator[str]:
    name = os.path.basename(first.name)
    yield os.path.dirname(plan.target(first))
    yield plan.model_dir
    # A copy: the caller stamps files while it goes through the places.
    for path, entry in list(index.files.items()):
        known = first.sha256 is not None or os.path.basename(path) == name
        if known and entry.get("sha256") == first.sha256:
            yield os.path.dirname(path)
    for root in plan.search_dirs:
        if not os.path.isabs(first.name):
            yield os.path.dirname(os.path.join(root, first.name))
        yield root
    if walk:
        for root in plan.search_dirs:
            yield from _walk(root, name)


def _walk(root: str, name: str) -> Iterator[str]:
    """The directories below ``root`` that hold a file called ``name``, within SEARCH_DEPTH and SEARCH_ENTRIES."""
    entries = 0
    for directory, folders, names in os.walk(root):
        entries += len(folders) + len(names)
        depth = os.path.relpath(directory, root).count(os.sep) + 1
        if depth >= SEARCH_DEPTH or entries > SEARCH_ENTRIES:
            folders.clear()
        folders.sort()
        if name in names:
            yield directory


def survey(group: FileGroup, plan: PlacementPlan, index: Index) -> list[Candidate]:
    """The best place for a group: one where all files are ok, else one that has some, else the target's directory."""
    best: list[Candidate] | None = None
    for directory in directories(group, plan, index, walk=False):
        candidates = look_in(directory, group, plan, index)
        if all(each.state == "ok" for each in candidates):
            return candidates
        nothing_yet = best is None or all(each.state == "missing" for each in best)
        if best is None or (nothing_yet and any(each.state != "missing" for each in candidates)):
            best = candidates
    return best or []
