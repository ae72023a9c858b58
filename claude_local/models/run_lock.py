"""One run at a time: whoever places or deletes models holds these locks.

There are two. models.json belongs to one user; model_dir may belong to several (a shared disk). The kernel releases a
lock when its process ends.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from claude_local.models.placement_plan import PlacementError
from claude_local.models.progress import say
from claude_local.paths import LOCK

# Seconds to wait for another run.
LOCK_TIMEOUT = 60.0
# What the kernel answers where nothing can be written, and on a file system without locks (NFS without a lock daemon).
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP})


class AnotherRun(PlacementError):
    """Another run holds a lock. The message names its process and says what to do."""


def make_directory(path: str) -> None:
    """Make a directory that the server's user can read, whatever the umask. Raises OSError."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        os.mkdir(directory)
        os.chmod(directory, 0o755)


def _acquire(folder: str, timeout: float) -> FileLock:
    """Take the lock of one folder; wait ``timeout`` seconds. Raises AnotherRun, OSError."""
    path = Path(folder, LOCK)
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"waiting for another run (process {_owner(path)}) that is placing or deleting models in {folder}")
            lock.acquire(timeout=timeout, poll_interval=0.2)
        with suppress(OSError):
            path.write_text(f"{os.getpid()}\n", encoding="ascii")
    except Timeout:
        raise AnotherRun(
            f"another run (process {_owner(path)}) is placing or deleting models in {folder}: wait for it, or stop it; "
            "nothing was changed"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        say(f"{folder} is on a file system without locks: make sure that nobody else places models into it now")
    return lock


def _owner(path: Path) -> str:
    """The process that wrote its number into the lock file."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip() or "?"
    except OSError:
        return "?"


@contextmanager
def run_lock(model_dir: str, placements_path: str, timeout: float | None = None) -> Iterator[str]:
    """Hold both locks. Yields why ``model_dir`` cannot be written to; an empty string when it can.

    ``timeout``: seconds to wait for another run, LOCK_TIMEOUT by default. A read-only directory has no lock and needs
    none. Raises AnotherRun, OSError.
    """
    seconds = LOCK_TIMEOUT if timeout is None else timeout
    state = os.path.dirname(placements_path)
    os.makedirs(state, exist_ok=True)
    read_only = ""
    with ExitStack() as held:
        for folder in dict.fromkeys((state, model_dir)):
            try:
                make_directory(folder)
                held.callback(_acquire(folder, seconds).release)
            except OSError as error:
                if folder != model_dir or error.errno not in READ_ONLY:
                    raise
                read_only = error.strerror or str(error)
        if not read_only and not os.access(model_dir, os.W_OK | os.X_OK, effective_ids=True):
            read_only = "no permission"
        yield read_only
