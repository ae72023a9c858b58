"""Write models.lock on the controlling machine, beside models.conf."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FunctionCommand, operation

from claude_local.deploy.facts.models import Placements
from claude_local.models import lock as models_lock
from claude_local.models.lock import LockEntry, LockError
from claude_local.models.profiles import Profile


def write(path: Path, found: Sequence[LockEntry]) -> int:
    """Add what was found to the lock at ``path``; how many entries are new. Several hosts may write at once.

    Raises LockError when a machine got something else than one before it, OSError when it cannot be written.
    """
    guard = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        before = models_lock.read(path.read_text(encoding="utf-8")) if path.exists() else {}
        after = models_lock.merge(before, found)
        if after != before:
            temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
            temporary.write_text(models_lock.dump(after), encoding="utf-8")
            os.replace(temporary, path)
    finally:
        os.close(guard)
    return len(after) - len(before)


@operation()
def locked(path: Path, profiles: Sequence[Profile], placements: str) -> Generator[Any]:
    """Have models.lock know every file that the hub named the sha256 of.

    + path: models.lock on this machine
    + profiles: those that are placed
    + placements: models.json on the workstation
    """
    if not any(profile.unpinned for profile in profiles):
        host.noop("every file's sha256 is known")
        return

    def run(state: Any, host: Any) -> bool:
        try:
            new = write(path, models_lock.found(profiles, host.get_fact(Placements, path=placements)))
        except LockError as error:
            host.log_styled("\n".join(error.problems), fg="red", log_func=logger.error)
            return False
        except OSError as error:
            # The models are in place all the same; the next machine just has nothing to compare with.
            host.log_styled(f"{path} cannot be written ({error.strerror})", fg="yellow", log_func=logger.warning)
            return True
        if new:
            host.log_styled(f"{path.name}: {new} new, keep it with models.conf", fg="green", log_func=logger.info)
        return True

    yield FunctionCommand(run, (), {})
