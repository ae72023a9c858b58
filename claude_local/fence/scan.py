"""Walks through a workspace and lists the files that programs obey, and the git repositories."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from os.path import basename, join

from claude_local.fence import policy

# What git takes for a repository wherever it meets it, whatever the directory's name is.
_SHAPE = frozenset({"HEAD", "objects", "refs", "commondir"})


def _is_shape(names: Collection[str]) -> bool:
    return "HEAD" in names and ("commondir" in names or ("objects" in names and "refs" in names))


def repository_shape(directory: str) -> bool:
    """Whether git would take ``directory`` itself for a bare git_config."""
    return _is_shape({name for name in _SHAPE if os.path.lexists(join(directory, name))})


def _is_own(path: str) -> bool:
    with suppress(OSError):
        return os.lstat(path).st_uid == os.getuid()
    return False


def scan(
    workspace: str,
    levels: int = policy.SCAN_DEPTH,
    limit: int = policy.SCAN_LIMIT,
    skip: Collection[str] = policy.NOT_SCANNED,
    cut: list[str] | None = None,
    guarded: Collection[str] = policy.GUARDED,
    more: Sequence[str] = (),
) -> tuple[list[str], list[str]]:
    """Guarded files and directories in ``workspace`` (``.git`` files below it among them), and its repositories: ``.git``
    directories, and directories that have the shape of one. A bounded number of levels and of entries, without the
    directories called as ``skip`` says.
    ``guarded``: names that count, and that are not looked into. ``more``: directories that are as good as workspaces.
    ``cut`` gets the workspace when there was more than ``limit``, and directories that cannot be read, of ours or for
    another reason than that we may not: git can still go through them."""
    level, seen = [workspace, *more], 0
    named: list[str] = []
    repositories: list[str] = []
    for depth in range(levels + 1):
        below = []
        for directory in level:
            shape = set()
            try:
                with os.scandir(directory) as names:
                    for entry in names:
                        seen += 1
                        if entry.name in _SHAPE:
                            shape.add(entry.name)
                        if seen > limit:
                            if cut is not None:
                                cut.append(workspace)
                            return named, repositories
                        if entry.name in guarded or f"{basename(directory)}/{entry.name}" in guarded:
                            named.append(entry.path)
                        elif not entry.is_dir(follow_symlinks=False):
                            # A submodule's or a worktree's: git goes where it points.
                            if entry.name == ".git" and directory != workspace:
                                named.append(entry.path)
                        else:
                            if entry.name == ".git":
                                repositories.append(entry.path)
                            if depth < levels and entry.name not in skip:
                                below.append(entry.path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                # Too long a path, too many open files ...
                if cut is not None and (not isinstance(error, PermissionError) or _is_own(directory)):
                    cut.append(directory)
            if basename(directory) != ".git" and _is_shape(shape):
                repositories.append(directory)
        level = below
    return named, repositories
