"""Makes and removes stubs: empty files and directories at paths that a session must not fill."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from os.path import dirname, join, lexists, relpath

from claude_local.fence import git_config
from claude_local.fence.files import read_bytes, read_text, realpath, resolve
from claude_local.fence.git_index import MAX_SIZE


def make_stubs(files: Iterable[str]) -> None:
    """Make an empty file at each path that does not exist. bubblewrap would make it read-only, and outside the fence
    the user may want to write it."""
    for path in files:
        with suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def remove_stubs(paths: Iterable[str]) -> None:
    """Remove the empty files and directories among ``paths``. What holds something stays, and what git tracks, and
    what lies behind a symlink."""
    indexes: dict[str, bytes] = {}
    # A directory comes after what is in it.
    for path in sorted(paths, reverse=True):
        with suppress(OSError):
            if realpath(dirname(path)) != dirname(path):
                continue
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                os.rmdir(path)
            elif stat.S_ISREG(status.st_mode) and status.st_size == 0 and not _is_tracked(path, indexes):
                os.unlink(path)


def _is_tracked(path: str, indexes: dict[str, bytes]) -> bool:
    """Whether ``path`` is in the index of its repository. ``indexes``: those that were read before, by working tree.

    The index is searched, not parsed: before a path stand its length and, in version 4, one or two bytes more
    (gitformat-index(5)). Version 4 may shorten paths, so a tracked file may be missed. An index of more than MAX_SIZE
    is not searched: it counts as tracking everything.
    """
    top = dirname(path)
    while top != "/" and not lexists(join(top, ".git")):
        top = dirname(top)
    if top not in indexes:
        link = join(top, ".git")
        target = git_config.gitfile_target(read_text(link))
        git_dir = link if target is None else resolve(target, top)
        indexes[top] = read_bytes(join(git_dir, "index"), limit=MAX_SIZE + 1)
    index, name = indexes[top], os.fsencode(relpath(path, top))
    if len(index) > MAX_SIZE:
        return True
    at = index.find(name + b"\0")
    while at >= 0:
        if any(int.from_bytes(index[at - back : at - back + 2], "big") & 0xFFF == len(name) for back in (2, 3, 4)):
            return True
        at = index.find(name + b"\0", at + 1)
    return False
