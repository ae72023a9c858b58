"""The claude-local sessions of this user that run now.

Each session keeps a record in a directory and holds a lock on it (fcntl, a write lock) until its process ends, however
that happens. The kernel knows the lock in every container and process namespace, so a record that nobody holds is one
of a session that has ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from os.path import join

# Bytes of the longest record: one that is longer is not ours.
SIZE = 65536


@dataclass(frozen=True)
class RunningSession:
    """``process``: its first process. ``workspace``: the directory it was started in. ``profile``: of its --model,
    empty for the active one. ``since``: when it began, in seconds since the epoch."""

    process: int
    workspace: str
    profile: str
    since: float


def running_sessions(directory: str) -> list[RunningSession]:
    """The sessions with a record in ``directory`` (Paths.sessions) that use the installed server, by workspace. A
    process does not see its own."""
    found = []
    for name in _records(directory):
        with suppress(OSError, ValueError, LookupError, TypeError, RecursionError), open(join(directory, name)) as file:
            if not _ended(file.fileno()):
                raw = json.loads(file.read(SIZE))
                kept = (int(raw["process"]), str(raw["workspace"]), str(raw["profile"]), float(raw["since"]))
                found.append(RunningSession(*kept))
    return sorted(found, key=lambda session: (session.workspace, session.since))


def record_session(directory: str, workspace: str, profile: str) -> int | None:
    """Record that this process is a session. Returns the open file, which must stay open until its end, also over an
    exec, and which no session may inherit; None where the record cannot be written, which must keep nobody from
    working."""
    session = RunningSession(os.getpid(), workspace, profile, time.time())
    path = join(directory, f"{session.process}.json")
    with suppress(OSError):
        os.makedirs(directory, mode=0o755, exist_ok=True)
        _remove_ended(directory)
        file = os.open(path + ".new", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(file, json.dumps(asdict(session)).encode())
        os.replace(path + ".new", path)
        return file
    return None


def _remove_ended(directory: str) -> None:
    """Remove the records of sessions that have ended."""
    for name in _records(directory):
        with suppress(OSError), open(join(directory, name)) as file:
            if _ended(file.fileno()):
                os.unlink(join(directory, name))


def _records(directory: str) -> list[str]:
    with suppress(OSError):
        return [name for name in os.listdir(directory) if name.endswith(".json")]
    return []


def _ended(file: int) -> bool:
    """Whether nobody holds the record any more."""
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def shortened(path: str, home: str) -> str:
    """``path`` with ``~`` for the home directory."""
    return "~" + path[len(home) :] if path == home or path.startswith(home + "/") else path
