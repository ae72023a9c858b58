"""Finds the Unix sockets that a session must not reach, and hides them."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from os.path import dirname, isabs, isdir, join

from claude_local.fence import policy
from claude_local.fence.files import expand_home, read_text, realpath
from claude_local.fence.plan import covers
from claude_local.fence.survey import Survey


def control_directories(home: str) -> list[str]:
    """The directories of ssh's control sockets (ControlPath in ``~/.ssh/config`` and the files that it includes).
    Whoever reaches such a socket uses a connection that is logged in. A directory that holds anything else is left
    out."""
    texts = [read_text(join(home, ".ssh", "config"))]
    for keyword, value in _ssh_options(texts[0]):
        if keyword == "include":
            texts += [read_text(path) for pattern in value.split() for path in _included_files(pattern, home)]
    directories = []
    for keyword, value in (option for text in texts for option in _ssh_options(text)):
        path = expand_home(value.strip('"').replace("%d", home).replace("${HOME}", home), home)
        # Up to the part that differs from connection to connection.
        directory = dirname(path.partition("%")[0].partition("$")[0])
        if keyword == "controlpath" and isdir(directory) and all(is_socket for _, is_socket in _entries(directory)):
            directories.append(directory)
    return list(dict.fromkeys(directories))


def _ssh_options(text: str) -> Iterator[tuple[str, str]]:
    """Keyword, in lower case, and value of each line of an ssh_config(5)."""
    for line in text.splitlines():
        parts = line.strip().replace("=", " ", 1).split(None, 1)
        if len(parts) == 2:
            yield parts[0].lower(), parts[1].strip()


def _included_files(pattern: str, home: str) -> list[str]:
    """The files that an Include of ssh's names; a relative one starts in ``~/.ssh``."""
    pattern = pattern.strip('"')
    if pattern.startswith("~"):
        pattern = glob.escape(home) + pattern[1:]
    return sorted(glob.glob(join(glob.escape(home), ".ssh", pattern)))


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
