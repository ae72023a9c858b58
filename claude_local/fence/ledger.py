"""Records which sessions run in a workspace and where their stubs are, so that the last one can remove them."""

from __future__ import annotations

import fcntl
import os
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from claude_local.fence.stubs import remove_stubs

# Seconds to wait for a lock at most, and between two tries.
LOCK_TIMEOUT, LOCK_INTERVAL = 3.0, 0.01
# Seconds within which a running session beats, and what it wrote reaches the disk.
LAG = 15.0
# A record is the path of a stub, or one of these marks with the name of a session (when it began, in seconds since the
# epoch): it began; it ended; and, with a blank and a path, what it did not make (a git directory, a file of
# policy.FORBIDDEN_FILES), a workspace of it.
_BEGAN, _ENDED, _KNOWN, _WORKSPACE = b"@", b"-", b"+", b"="


@dataclass(frozen=True)
class Interrupted:
    """Sessions that were killed, so that nobody has looked at what they left. ``began``, ``ended``: seconds since the
    epoch. ``known``: git directories and files of policy.FORBIDDEN_FILES that existed before the first of them.
    ``workspaces``: those of all of them."""

    began: float
    ended: float
    known: frozenset[str]
    workspaces: tuple[str, ...]


class Ledger:
    """The file of one workspace in ``directory``. A session holds a shared lock on it while it runs.

    The next session removes the stubs of one that was killed, but not those of a session that runs: sessions in
    different workspaces can share a repository, or a directory that was added to both. ``directory`` is locked from
    the look at the others to ``record``, and while stubs are removed. In the file, records end with a NUL.
    """

    def __init__(self, directory: str, workspace: str) -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._lock_directory()
        # Where two workspaces share a name by chance, their stubs are removed together, nothing worse.
        path = os.fsencode(workspace)
        self._name = f"{zlib.crc32(path):08x}{zlib.adler32(path):08x}"
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._name, flags, 0o600, dir_fd=self._directory)
        self._session = b""
        self.interrupted: Interrupted | None = None
        if _lock(self._file):
            self.interrupted = self._find_interrupted()
            self._remove_stubs()
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def _lock_directory(self) -> None:
        """Wait until no other session looks at the ledgers, but not for one that was stopped (SIGSTOP)."""
        for _ in range(int(LOCK_TIMEOUT / LOCK_INTERVAL)):
            if _lock(self._directory):
                return
            time.sleep(LOCK_INTERVAL)

    def recorded(self) -> list[str]:
        """The stubs of the sessions that run, in this workspace and in others."""
        return [*_stubs(self._file), *self._stubs_elsewhere()]

    def _stubs_elsewhere(self) -> list[str]:
        """The stubs of the sessions that run in other workspaces."""
        stubs = []
        for name in os.listdir(self._directory):
            if name == self._name:
                continue
            with suppress(OSError):
                file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
                try:
                    if not _lock(file):
                        stubs += _stubs(file)
                finally:
                    os.close(file)
        return stubs

    def _find_interrupted(self) -> Interrupted | None:
        """The sessions in the file that have not ended. None of them runs any more."""
        records = _records(self._file)
        names = _not_ended(records)
        if not names:
            return None

        def paths(mark: bytes, name: bytes) -> list[str]:
            begin = mark + name + b" "
            return [os.fsdecode(each.removeprefix(begin)) for each in records if each.startswith(begin)]

        # A repository that the first session did not know may be its own, even where a later one knew it.
        first = min(names, key=float)
        workspaces = dict.fromkeys(path for name in names for path in paths(_WORKSPACE, name))
        ended = os.fstat(self._file).st_mtime + LAG
        return Interrupted(float(first), ended, frozenset(paths(_KNOWN, first)), tuple(workspaces))

    def record(self, stubs: Iterable[str], known: Iterable[str] = (), workspaces: Iterable[str] = ()) -> None:
        """Record a session that begins now, and the stubs that it is about to make. ``known``: see ``know``."""
        recorded = set(_stubs(self._file))
        self._session = b"%.6f" % time.time()
        self._write([_BEGAN + self._session, *(os.fsencode(path) for path in stubs if path not in recorded)])
        self._write(b"%s%s %s" % (_WORKSPACE, self._session, os.fsencode(path)) for path in workspaces)
        self.know(known)
        fcntl.flock(self._directory, fcntl.LOCK_UN)

    def know(self, git_dirs: Iterable[str]) -> None:
        """Record git directories that this session did not make."""
        self._write(b"%s%s %s" % (_KNOWN, self._session, os.fsencode(path)) for path in git_dirs)

    def beat(self) -> None:
        """Record that the session runs; to be called within LAG seconds again."""
        with suppress(OSError):
            os.utime(self._file)

    def close(self) -> None:
        """Record that the session has ended, and remove the stubs that no other session needs. The records of a session
        that was killed meanwhile stay for the next one."""
        self._lock_directory()
        if self._session:
            self._write([_ENDED + self._session])
        if _lock(self._file):
            records = _records(self._file)
            killed = _not_ended(records)
            self._remove_stubs()
            self._write(each for each in records if each[:1] in (_BEGAN, _KNOWN, _WORKSPACE)
                        and each[1:].split(b" ", 1)[0] in killed)  # fmt: skip
        os.close(self._file)
        os.close(self._directory)

    def _write(self, records: Iterable[bytes]) -> None:
        os.write(self._file, b"".join(each + b"\0" for each in records))

    def _remove_stubs(self) -> None:
        remove_stubs(set(_stubs(self._file)).difference(self._stubs_elsewhere()))
        os.ftruncate(self._file, 0)


def _lock(file: int) -> bool:
    """Lock an open file or directory exclusively, if nobody else has it locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _records(file: int) -> list[bytes]:
    return os.pread(file, os.fstat(file).st_size, 0).split(b"\0")


def _not_ended(records: list[bytes]) -> list[bytes]:
    """The names of the sessions that have not ended."""
    ended = {each[1:] for each in records if each.startswith(_ENDED)}
    began = [each[1:] for each in records if each.startswith(_BEGAN) and each[1:].replace(b".", b"", 1).isdigit()]
    return [each for each in began if each not in ended]


def _stubs(file: int) -> list[str]:
    return [os.fsdecode(each) for each in _records(file) if each.startswith(b"/")]
