"""One run at a time: whoever places or deletes models holds these locks.

There are two. models.json has one user, model_dir may have several (a shared disk); a deploy takes both, so two with
different directories do not overwrite each other's notes either. The kernel lets go of a lock when its process ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator

from claude_local.models.progress import say

NAME = ".placing.lock"
# Seconds to wait for another run, and between two looks and two lines.
LOCK_TIMEOUT = 60.0
LOOK = 0.5
SAY = 15.0
# What open says where nothing can be written, and what flock says on a file system without locks (EBADF: NFS, for a
# descriptor that can only read).
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})


class Locked(Exception):
    """Another run holds a lock; the message says which process, and what to do."""


def make_directory(path: str) -> None:
    """Make a directory that the server's user can read, whatever the umask."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        os.mkdir(directory)
        os.chmod(directory, 0o755)


def _open(path: str) -> int:
    """The lock's file, made where it is missing; of another user's one a descriptor that can only read."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except PermissionError:
        if not os.path.exists(path):
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _take(descriptor: int, folder: str, timeout: float) -> None:
    """Wait for the lock. Raises Locked."""
    until = time.monotonic() + timeout
    told = -SAY
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "?"
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            say(f"{folder} is on a file system without locks: see to it that nobody else places models into it now")
            return
        now = time.monotonic()
        if now >= until:
            raise Locked(
                f"another run (process {owner}) is placing or deleting models in {folder}: wait for it, or stop it; "
                "nothing was changed"
            )
        if now - told >= SAY:
            say(f"waiting for another run (process {owner}) that is placing or deleting models in {folder}")
            told = now
        time.sleep(min(LOOK, max(until - now, 0.0)))
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)


@contextlib.contextmanager
def locked(model_dir: str, placements_path: str, timeout: float | None = None) -> Iterator[str]:
    """Hold both locks; yields why nothing can be written to ``model_dir``, empty when it can.

    ``timeout``: seconds to wait, LOCK_TIMEOUT without one. Raises Locked, OSError. In a directory that is read-only there
    is no lock to take, and nothing to protect.
    """
    seconds = LOCK_TIMEOUT if timeout is None else timeout
    state = os.path.dirname(placements_path)
    with contextlib.ExitStack() as held:
        os.makedirs(state, exist_ok=True)
        read_only = ""
        for folder in dict.fromkeys((state, model_dir)):
            try:
                make_directory(folder)
                descriptor = _open(os.path.join(folder, NAME))
            except OSError as error:
                if folder != model_dir or error.errno not in READ_ONLY:
                    raise
                read_only = error.strerror or str(error)
                continue
            held.callback(os.close, descriptor)
            _take(descriptor, folder, seconds)
            if folder == model_dir and not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
                read_only = "no permission"
        yield read_only
