"""Puts files out of action that git would run or obey, by renaming them.

The names come from a session, which may replace a directory by a symlink at any time. So every directory is opened
without following symlinks, and every rename happens inside an open directory."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os.path import join
from typing import NamedTuple

# Appended to the name of a file that was put out of action.
SUFFIX = ".claude-local-blocked"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Blocked(NamedTuple):
    """A file that was renamed: its path, what it would have done, and its path now."""

    path: str
    reason: str
    new_path: str


@contextmanager
def open_directory(top: str, below: str = "") -> Iterator[int]:
    """A descriptor of the directory ``below`` in ``top``, reached without following a symlink. Raises OSError."""
    descriptor = os.open(top, _DIRECTORY)
    try:
        for name in below.split("/"):
            if name not in ("", "."):
                inner = os.open(name, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


class Quarantine:
    """What one session left for git to run. ``blocked``: files that were renamed. ``changed``: paths that are only
    reported. ``window``: if set, only files that last changed between these two times (seconds since the epoch) are
    renamed."""

    def __init__(self) -> None:
        self.blocked: list[Blocked] = []
        self.changed: list[str] = []
        self.window: tuple[float, float] | None = None

    def report(self, path: str) -> None:
        """Add a path to ``changed``."""
        if path not in self.changed:
            self.changed.append(path)

    def block(self, directory: int, path: str, name: str, reason: str, restored_text: str = "") -> None:
        """Rename ``name`` in the open ``directory``, whose path is ``path``, and write ``restored_text`` in its place
        if it is not empty. What cannot be renamed is reported."""
        try:
            status = os.lstat(name, dir_fd=directory)
            if self.window and not self.window[0] <= status.st_ctime <= self.window[1]:
                return
            new = _rename(directory, name)
        except FileNotFoundError:
            return
        except OSError:
            self.report(join(path, name))
            return
        if restored_text and not _write(directory, name, restored_text, status.st_mode):
            reason += ", and its former text could not be written back"
        self.blocked.append(Blocked(join(path, name), reason, join(path, new)))

    def block_path(self, top: str, below: str, reason: str) -> None:
        """Rename the file ``below`` in ``top``. Nothing behind a symlink in ``top`` is touched; it is reported."""
        parent, _, name = below.rpartition("/")
        try:
            with open_directory(top, parent) as directory:
                self.block(directory, join(top, parent).rstrip("/"), name, reason)
        except FileNotFoundError:
            return
        except OSError:
            self.report(join(top, below))


def _rename(directory: int, name: str) -> str:
    """Rename ``name`` in an open directory; the new name. Raises OSError."""
    # The session may have made the directory read-only.
    if not (mode := os.fstat(directory).st_mode) & stat.S_IWUSR:
        os.fchmod(directory, stat.S_IMODE(mode) | stat.S_IRWXU)
    for ending in ("", *map(str, range(1, 10)), f".{time.time_ns()}"):
        try:
            os.lstat(new := f"{name}{SUFFIX}{ending}", dir_fd=directory)
        except FileNotFoundError:
            break
    os.rename(name, new, src_dir_fd=directory, dst_dir_fd=directory)
    return new


def _write(directory: int, name: str, text: str, mode: int) -> bool:
    """Make the file ``name`` with ``text``, readable for those who could read the former one. Whether that worked."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(name, flags, mode & 0o644, dir_fd=directory)
    except OSError:
        return False
    try:
        with open(descriptor, "wb") as file:
            file.write(os.fsencode(text))
        return True
    except OSError:
        with suppress(OSError):
            os.unlink(name, dir_fd=directory)
        return False
