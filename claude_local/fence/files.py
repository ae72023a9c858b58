"""Reads files and follows paths that a stranger may have made: nothing here waits, fails or reads without end."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from os.path import dirname, isabs, islink, join

# A configuration or link file of git that is larger than this (bytes) is none.
SMALL = 1 << 20

# Links that Linux follows on the way to a file.
LINKS = 40


def realpath(path: str) -> str:
    """As that of os.path. A NUL ends a path, as it does for git; and a chain of links that is too long for Python is too long
    for the system: it leads nowhere."""
    path = path.partition("\0")[0]
    try:
        return os.path.realpath(path)
    except RecursionError:
        return os.path.abspath(path)


def bytes_of(path: str, flags: int = 0, limit: int = SMALL) -> bytes:
    """The beginning of a file, ``limit`` bytes; empty when it is no plain file that can be read (a pipe would keep us
    waiting). ``flags``: more of them to open it with."""
    with suppress(OSError):
        # A NUL ends a path, for git too.
        path = path.partition("\0")[0]
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | flags)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                # One read of a file in /proc gives a page of it, and of some none at all.
                with open(descriptor, "rb", closefd=False) as file:
                    return file.read(limit) or b""
        finally:
            os.close(descriptor)
    return b""


def text_of(path: str, flags: int = 0) -> str:
    """As ``bytes_of``, as a text in which paths are what they are for the system, whatever their letters."""
    return os.fsdecode(bytes_of(path, flags))


def whole_text(name: str, directory: int) -> str | None:
    """The text of the file ``name`` in an opened directory; empty where there is none. None: git would read something
    there that cannot be judged, a link, a device, more than SMALL bytes, or what only other people may read."""
    try:
        descriptor = os.open(
            name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW, dir_fd=directory
        )
    except FileNotFoundError:
        return ""
    except OSError:
        return None
    try:
        with open(descriptor, "rb", closefd=False) as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and len(read := file.read(SMALL + 1)) <= SMALL:
                return os.fsdecode(read)
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return None


def resolved(path: str, base: str) -> str:
    """What a path that git reads somewhere leads to: relative ones start at ``base``."""
    return realpath(path if isabs(path) else join(base, path))


def expanded(value: str, home: str) -> str:
    """A path of a configuration's, with ``home`` in the place of its tilde."""
    return join(home, value[2:]) if value.startswith("~/") else value


def links_on(path: str) -> Iterator[str]:
    """The links that the system follows on the way to ``path``, each without links before it."""
    at, rest, followed = "/", path.split("/")[::-1], 0
    while rest:
        name = rest.pop()
        step = join(at, name) if name not in ("", ".", "..") else dirname(at) if name == ".." else at
        if followed < LINKS and name not in ("", ".", "..") and islink(step):
            yield step
            followed += 1
            target = os.readlink(step)
            at = "/" if isabs(target) else at
            rest += target.split("/")[::-1]
        else:
            at = step
