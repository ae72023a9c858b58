"""Walks through a workspace and lists the files that programs outside obey, and the git repositories."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from os.path import basename, join

from claude_local.fence import policy

# A directory with these names is a repository for git, whatever its own name is (is_git_directory in its setup.c).
SHAPE = frozenset({"HEAD", "objects", "refs", "commondir"})


@dataclass
class Scan:
    """What a workspace holds. ``guarded``: files and directories with guarded names, and ``.git`` files below the
    top. ``repositories``: ``.git`` directories and bare repositories. ``incomplete``: the workspace where it holds
    more than the limit, and directories that could not be read although git may get through them."""

    guarded: list[str] = field(default_factory=list)
    repositories: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)


def scan(
    workspace: str,
    *,
    levels: int = policy.SCAN_DEPTH,
    limit: int = policy.SCAN_LIMIT,
    skip: Collection[str] = policy.NOT_SCANNED,
    guarded: Collection[str] = policy.GUARDED,
    worktrees: Sequence[str] = (),
    is_over: Callable[[], bool] = lambda: False,
) -> Scan:
    """Walk through ``workspace`` and its ``worktrees``, level by level and without following symlinks.

    ``levels``: directories below the top. ``limit``: directory entries in all. ``skip``: names of directories that
    are not entered. ``guarded``: names that are listed and not entered. ``is_over``: says when to stop early.
    """
    result, level = Scan(), [workspace, *worktrees]
    for _ in range(levels + 1):
        below: list[str] = []
        for directory in level:
            if is_over():
                result.incomplete.append(workspace)
                return result
            entries = _read(directory, limit + 1, result)
            for entry, is_directory in entries[:limit]:
                if entry.name in guarded or f"{basename(directory)}/{entry.name}" in guarded:
                    result.guarded.append(entry.path)
                elif is_directory:
                    if entry.name == ".git":
                        result.repositories.append(entry.path)
                    if entry.name not in skip:
                        below.append(entry.path)
                elif entry.name == ".git" and directory != workspace:
                    # The file of a submodule or a worktree: git goes where it points.
                    result.guarded.append(entry.path)
            if len(entries) > limit:
                result.incomplete.append(workspace)
                return result
            limit -= len(entries)
            if basename(directory) != ".git" and _is_shape({entry.name for entry, _ in entries}):
                result.repositories.append(directory)
        level = below
    return result


def _read(directory: str, count: int, result: Scan) -> list[tuple[os.DirEntry[str], bool]]:
    """The first ``count`` entries of ``directory``, and whether each is a directory itself. A directory that cannot be
    read is noted as incomplete, unless the user who runs this may not read it and does not own it."""
    entries = []
    try:
        with os.scandir(directory) as names:
            for entry in islice(names, count):
                entries.append((entry, entry.is_dir(follow_symlinks=False)))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        # The path is too long, too many files are open ...
        if not isinstance(error, PermissionError) or _is_own(directory):
            result.incomplete.append(directory)
    return entries


def _is_own(path: str) -> bool:
    with suppress(OSError):
        return os.lstat(path).st_uid == os.getuid()
    return False


def _is_shape(names: Collection[str]) -> bool:
    return "HEAD" in names and ("commondir" in names or ("objects" in names and "refs" in names))


def is_bare_repository(directory: str) -> bool:
    """Whether git would take ``directory`` itself for a repository."""
    return _is_shape({name for name in SHAPE if os.path.lexists(join(directory, name))})
