"""Remembers which empty things in a workspace are stubs of running sessions, so that the last one clears them away."""

from __future__ import annotations

import fcntl
import os
import stat
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from claude_local.fence import git_config
from claude_local.fence.files import read_bytes, read_text, realpath, resolve

# Seconds to wait for others at most, and between two tries.
WAIT, PAUSE = 3.0, 0.01
# At the beginning of what is no path of a stub: when a session began (seconds since the epoch), which is its name in the
# following; that it has ended; with a blank after the name, a git directory, a workspace.
_BEGAN, _ENDED, _KNOWN, _WORKSPACE = b"@", b"-", b"+", b"="
_OF_SESSIONS = (_BEGAN, _KNOWN, _WORKSPACE)
# Seconds within which a session that lives has said so, and what it made can still come to the disk.
LAG = 15.0
# Bytes of the largest index of git's that is looked into.
INDEX = 64 << 20


@dataclass(frozen=True)
class Interrupted:
    """Sessions that were killed, the power went: nobody has looked at what they left. ``began``, ``ended``: seconds since
    the epoch; ``known``: git directories that were there before the first of them; ``workspaces``: of all of them."""

    began: float
    ended: float
    known: frozenset[str]
    workspaces: tuple[str, ...]


class Ledger:
    """One workspace's file in ``directory``, held by a shared lock while a session runs in it.

    What a killed session left is cleared when the next one starts; while another one lives, its stubs stay: sessions in
    different workspaces meet in a repository that both are in, or in a directory added to both. The file holds paths
    of stubs with NUL bytes between them, and what begins with one of the marks above.
    ``directory`` itself is locked from the look at the others to ``record``, and while stubs are cleared away.
    """

    def __init__(self, directory: str, workspace: str) -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._among_others()
        # Two workspaces that share a file by chance clear their stubs away together, no more.
        path = os.fsencode(workspace)
        self._name = f"{zlib.crc32(path):08x}{zlib.adler32(path):08x}"
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._name, flags, 0o600, dir_fd=self._directory)
        self._session = b""
        self.interrupted: Interrupted | None = None
        if self._alone():
            self.interrupted = self._left()
            self._clear()
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def _among_others(self) -> None:
        """Be the only one that looks at the others; after WAIT all the same, because another one may be stopped."""
        for _ in range(int(WAIT / PAUSE)):
            with suppress(OSError):
                fcntl.flock(self._directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(PAUSE)

    def _alone(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def recorded(self) -> list[str]:
        """The stubs of the sessions that run, in this workspace and in others."""
        return [*_paths(self._file), *self._of_others()]

    def _of_others(self) -> list[str]:
        """The stubs of the sessions that run in other workspaces."""
        found = []
        for name in os.listdir(self._directory):
            if name == self._name:
                continue
            with suppress(OSError):
                file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    found += _paths(file)
                finally:
                    os.close(file)
        return found

    def _left(self) -> Interrupted | None:
        """What the file says of sessions that are not there any more, and have not come to their end."""
        words = _words(self._file)
        names = _not_ended(words)
        if not names:
            return None

        def said(mark: bytes, name: bytes) -> list[str]:
            begin = mark + name + b" "
            return [os.fsdecode(each.removeprefix(begin)) for each in words if each.startswith(begin)]

        # What the first one did not know may be its own, even where a later one knew it.
        first = min(names, key=float)
        workspaces = dict.fromkeys(path for name in names for path in said(_WORKSPACE, name))
        ended = os.fstat(self._file).st_mtime + LAG
        return Interrupted(float(first), ended, frozenset(said(_KNOWN, first)), tuple(workspaces))

    def record(self, paths: Iterable[str], known: Iterable[str] = (), workspaces: Iterable[str] = ()) -> None:
        """Write down what is about to be made, and in which ``workspaces``; ``known``: see ``know``."""
        stubs = set(_paths(self._file))
        self._session = b"%.6f" % time.time()
        self._write([_BEGAN + self._session, *(os.fsencode(path) for path in paths if path not in stubs)])
        self._write(b"%s%s %s" % (_WORKSPACE, self._session, os.fsencode(path)) for path in workspaces)
        self.know(known)
        fcntl.flock(self._directory, fcntl.LOCK_UN)

    def know(self, git_dirs: Iterable[str]) -> None:
        """Write down which git directories are no session's."""
        self._write(b"%s%s %s" % (_KNOWN, self._session, os.fsencode(path)) for path in git_dirs)

    def beat(self) -> None:
        """Say that the session lives; to be repeated within LAG."""
        with suppress(OSError):
            os.utime(self._file)

    def _write(self, words: Iterable[bytes]) -> None:
        os.write(self._file, b"".join(each + b"\0" for each in words))

    def _clear(self) -> None:
        needed = set(self._of_others())
        indexes: dict[str, bytes] = {}
        for path in sorted(set(_paths(self._file)) - needed, reverse=True):
            remove_if_empty(path, indexes)
        os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Clear the stubs away, but for those that another session still needs. What a session was that was killed beside
        this one is left to the next one."""
        self._among_others()
        if self._session:
            self._write([_ENDED + self._session])
        if self._alone():
            words = _words(self._file)
            left = _not_ended(words)
            self._clear()
            self._write(each for each in words if each[:1] in _OF_SESSIONS and each[1:].split(b" ", 1)[0] in left)
        os.close(self._file)
        os.close(self._directory)


def _words(file: int) -> list[bytes]:
    """What an opened ledger's file holds."""
    return os.pread(file, os.fstat(file).st_size, 0).split(b"\0")


def _not_ended(words: list[bytes]) -> list[bytes]:
    """The names of the sessions that have not said that they have ended."""
    ended = {each[1:] for each in words if each.startswith(_ENDED)}
    began = [each[1:] for each in words if each.startswith(_BEGAN) and each[1:].replace(b".", b"", 1).isdigit()]
    return [each for each in began if each not in ended]


def _paths(file: int) -> list[str]:
    """The stubs in an opened ledger's file."""
    return [os.fsdecode(each) for each in _words(file) if each.startswith(b"/")]


def make_stubs(files: Iterable[str]) -> None:
    """Make empty files where nothing is: bubblewrap would make them so that their owner cannot write them either, and outside
    the fence they are the user's."""
    for path in files:
        with suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _is_tracked(path: str, indexes: dict[str, bytes]) -> bool:
    """Whether git may know the file: its name stands in the index of the repository that it lies in. ``indexes``: those that
    were read already, by the repository's top. In front of a name is its length, with nothing, a flag or a number between
    them (gitformat-index(5)); version 4 may shorten names, and a file that it knows may be missed. Of an index that is too
    large to be read it is not known."""
    top = os.path.dirname(path)
    while top != "/" and not os.path.lexists(os.path.join(top, ".git")):
        top = os.path.dirname(top)
    if top not in indexes:
        link = os.path.join(top, ".git")
        target = git_config.gitfile_target(read_text(link))
        git_dir = link if target is None else resolve(target, top)
        indexes[top] = read_bytes(os.path.join(git_dir, "index"), limit=INDEX + 1)
    index, name = indexes[top], os.fsencode(os.path.relpath(path, top))
    if len(index) > INDEX:
        return True
    at = index.find(name + b"\0")
    while at >= 0:
        if any(int.from_bytes(index[at - back : at - back + 2], "big") & 0xFFF == len(name) for back in (2, 3, 4)):
            return True
        at = index.find(name + b"\0", at + 1)
    return False


def remove_if_empty(path: str, indexes: dict[str, bytes] | None = None) -> None:
    """Remove an empty file or an empty directory; anything else stays, and so does what lies behind a link, and what its
    user has put under git's control. ``indexes``: see _is_tracked."""
    if realpath(os.path.dirname(path)) != os.path.dirname(path):
        return
    with suppress(OSError):
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(path)
        elif (
            stat.S_ISREG(status.st_mode)
            and status.st_size == 0
            and not _is_tracked(path, {} if indexes is None else indexes)
        ):
            os.unlink(path)
