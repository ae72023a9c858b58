"""Makes and removes stubs: empty files and directories at paths that a session must not fill."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from os.path import dirname

from claude_local.fence.files import realpath


def make_stubs(files: Iterable[str]) -> None:
    """Make an empty file at each path that does not exist. bubblewrap would make it read-only, and outside the fence
    the user may want to write it."""
    for path in files:
        with suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def remove_stubs(paths: Iterable[str]) -> None:
    """Remove the empty files and directories among ``paths``. What holds something stays, and what lies behind a
    symlink."""
    # A directory comes after what is in it.
    for path in sorted(paths, reverse=True):
        with suppress(OSError):
            if realpath(dirname(path)) != dirname(path):
                continue
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                os.rmdir(path)
            elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
                os.unlink(path)
