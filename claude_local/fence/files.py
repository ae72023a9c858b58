"""Reads files and resolves paths that a stranger may have made. Nothing here blocks, fails or reads without a limit."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from os.path import dirname, isabs, islink, join

# The most bytes that are read of a git configuration or link file. git reads more; a real one is never that large.
SMALL = 1 << 20
# The most symlinks that Linux follows on the way to a file (path_resolution(7)).
MAX_LINKS = 40
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def realpath(path: str) -> str:
    """``os.path.realpath``, except that a NUL ends the path, as it does for git, and that a chain of links which is too
    long for Python resolves to itself. Such a chain is too long for Linux too."""
    path = path.partition("\0")[0]
    try:
        return os.path.realpath(path)
    except RecursionError:
        return os.path.abspath(path)


def resolve(path: str, base: str) -> str:
    """The real path of ``path`` as git reads it: a relative one starts at ``base``."""
    return realpath(path if isabs(path) else join(base, path))


def expand_home(value: str, home: str) -> str:
    """``value`` with ``home`` in place of a leading ``~/``."""
    return join(home, value[2:]) if value.startswith("~/") else value


def read_bytes(path: str, flags: int = 0, limit: int = SMALL) -> bytes:
    """The first ``limit`` bytes of a regular file, or nothing where it cannot be read. ``flags``: further flags to
    open it with. A pipe or a device is not read, because that could block."""
    with suppress(OSError):
        descriptor = os.open(path.partition("\0")[0], _READ | flags)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                # A buffered read: a single read(2) returns at most one page of a file in /proc.
                with open(descriptor, "rb", closefd=False) as file:
                    return file.read(limit) or b""
        finally:
            os.close(descriptor)
    return b""


def read_text(path: str, flags: int = 0) -> str:
    """The text of a file, see ``read_bytes``. Bytes that are not UTF-8 stay as they are, so that paths in it can be
    used."""
    return os.fsdecode(read_bytes(path, flags))


def read_whole_text(name: str, directory: int, limit: int = SMALL) -> str | None:
    """The text of the file ``name`` in an open directory; empty where it does not exist. None where git would read
    something that we cannot judge: a symlink, a device, more than ``limit`` bytes, or a file that we may not read."""
    try:
        descriptor = os.open(name, _READ | os.O_NOFOLLOW, dir_fd=directory)
    except FileNotFoundError:
        return ""
    except OSError:
        return None
    try:
        with open(descriptor, "rb", closefd=False) as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and len(content := file.read(limit + 1)) <= limit:
                return os.fsdecode(content)
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return None


def is_empty_file(path: str) -> bool:
    """Whether ``path`` is a regular file of no bytes."""
    with suppress(OSError):
        status = os.lstat(path)
        return stat.S_ISREG(status.st_mode) and status.st_size == 0
    return False


def is_empty(path: str) -> bool:
    """Whether ``path`` is a regular file of no bytes, or a directory without entries."""
    if is_empty_file(path):
        return True
    with suppress(OSError):
        return not islink(path) and not os.listdir(path)
    return False


def symlinks_on(path: str) -> Iterator[str]:
    """The symlinks that Linux follows on the way to ``path``, each as a path without symlinks before it."""
    at, rest, followed = "/", path.split("/")[::-1], 0
    while rest:
        name = rest.pop()
        step = join(at, name) if name not in ("", ".", "..") else dirname(at) if name == ".." else at
        if followed < MAX_LINKS and name not in ("", ".", "..") and islink(step):
            yield step
            followed += 1
            target = os.readlink(step)
            at = "/" if isabs(target) else at
            rest += target.split("/")[::-1]
        else:
            at = step
