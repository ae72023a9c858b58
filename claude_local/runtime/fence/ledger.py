"""Remembers which empty things in a workspace are stubs of running sessions, so that the last one clears them away."""

from __future__ import annotations

import fcntl
import os
import stat
import zlib
from collections.abc import Iterable
from contextlib import suppress


class Ledger:
    """One workspace's file in ``directory``, held by a shared lock while a session runs in it.

    What a killed session left is cleared when the next one starts; while another one lives, its stubs stay. The file
    holds paths with NUL bytes between them.
    """

    def __init__(self, directory: str, workspace: str) -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        # Two workspaces that share a file by chance clear their stubs away together, no more.
        path = os.fsencode(workspace)
        name = f"{zlib.crc32(path):08x}{zlib.adler32(path):08x}"
        self._file = os.open(os.path.join(directory, name), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._alone():
            self._clear()
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def _alone(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def recorded(self) -> list[str]:
        """The stubs of the sessions that run in this workspace."""
        size = os.fstat(self._file).st_size
        return [os.fsdecode(each) for each in os.pread(self._file, size, 0).split(b"\0") if each]

    def record(self, paths: Iterable[str]) -> None:
        """Write down what is about to be made."""
        known = set(self.recorded())
        os.write(self._file, b"".join(os.fsencode(path) + b"\0" for path in paths if path not in known))

    def _clear(self) -> None:
        for path in sorted(self.recorded(), reverse=True):
            remove_if_empty(path)
        os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Clear the stubs away, unless another session still needs them."""
        if self._alone():
            self._clear()
        os.close(self._file)


def remove_if_empty(path: str) -> None:
    """Remove an empty file or an empty directory; anything else stays, and so does what lies behind a link."""
    if os.path.realpath(os.path.dirname(path)) != os.path.dirname(path):
        return
    with suppress(OSError):
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(path)
        elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
            os.unlink(path)
