"""Finds the Unix sockets that a session must not reach, and hides them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from os.path import dirname, isabs, join

from claude_local.fence import policy
from claude_local.fence.files import realpath
from claude_local.fence.plan import covers
from claude_local.fence.survey import Survey


def bound_sockets(table: str) -> list[str]:
    """The paths of the bound sockets in ``table``, the text of /proc/net/unix. A relative path starts in the
    directory where its program was at the time."""
    rows = (line.split(None, 7) for line in table.splitlines()[1:])
    return list(dict.fromkeys(row[7] for row in rows if len(row) == 8 and not row[7].startswith("@")))


def _working_directories() -> set[str]:
    """The working directories of all processes that we may look at."""
    directories = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                directories.add(os.readlink(f"/proc/{name}/cwd"))
    return directories


def _entries(directory: str) -> Iterator[tuple[str, bool]]:
    """The path of each entry of ``directory``, and whether it may be a socket."""
    with suppress(OSError), os.scandir(directory) as entries:
        for each in entries:
            yield each.path, not (each.is_file(follow_symlinks=False) or each.is_dir(follow_symlinks=False)
                                  or each.is_symlink())  # fmt: skip


def mask_sockets(survey: Survey, table: str, writable: Iterable[str]) -> None:
    """Hide the bound sockets in ``table`` (/proc/net/unix) that lie in no masked and no ``writable`` directory. A
    read-only mount does not stop a connection to a socket in it.

    ssh binds a temporary name, links the socket to its real name and removes the first one. So where a name in the
    table does not exist, every socket in that directory is hidden.
    """
    covered = [*policy.TMPFS, *survey.fence.masked_directories, *survey.fence.private_tmpfs, *writable]
    names = bound_sockets(table)
    relative = [name for name in names if not isabs(name)]
    paths = [name for name in names if isabs(name)]
    paths += [join(each, name) for each in (_working_directories() if relative else ()) for name in relative]
    renamed_in = {dirname(path) for path in paths if isabs(path) and not os.path.lexists(path)}
    paths += [path for directory in renamed_in for path, is_socket in _entries(directory) if is_socket]
    sockets = []
    for path in dict.fromkeys(paths):
        with suppress(OSError):
            real = realpath(path)
            if stat.S_ISSOCK(os.lstat(real).st_mode) and not any(covers(each, real) for each in covered):
                sockets.append(real)
    survey.fence.masked_files = list(dict.fromkeys([*survey.fence.masked_files, *sockets]))
