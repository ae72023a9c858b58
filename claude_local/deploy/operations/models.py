"""The model files on the workstation, and models.lock on the controlling machine."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FunctionCommand, Host, QuoteString, State, StringCommand, operation

from claude_local.deploy.facts.models import PlacementCheck, Placements, placement
from claude_local.deploy.operations import known
from claude_local.deploy.operations.streaming import fail, print_error, stream
from claude_local.models import lock as models_lock
from claude_local.models.lock import LockEntry, LockError
from claude_local.models.profile import Profile


def _failure(tail: list[str]) -> str:
    """The output from the last ``error:`` on, else the last lines."""
    starts = [index for index, line in enumerate(tail) if line.startswith("error:")]
    lines = tail[starts[-1] :] if starts else tail[-5:]
    return "The models could not be placed:\n  " + "\n  ".join(line.removeprefix("error: ") for line in lines)


@operation()
def place(python: str, plan: dict[str, Any]) -> Generator[Any]:
    """Download every file of the plan that is missing, and check each file's sha256 once.

    + python: the runtime's interpreter on the workstation (tasks/runtime.py makes it)
    + plan: the return value of ``placement_plan.plan_data``

    pyinfra's ``files.download`` hashes existing files on every run and shows no progress.

    Example::

        models.place(name="Place the models", python=ws.paths.python, plan=plan)
    """
    check = host.get_fact(PlacementCheck, python=python, plan=plan)
    if check is not None and check["ok"]:
        known.remember(Placements, check["placements"], path=plan["placements_path"])
        host.noop("the models are in place: " + ", ".join(profile["id"] for profile in plan["profiles"]))
        return
    known.forget(Placements)
    missing = "error: the runtime is missing; run tasks/runtime.py first"
    guard = StringCommand("test -x", QuoteString(python), "|| { echo", QuoteString(missing), "; exit 1; };")
    yield stream(StringCommand(guard, placement("place", python, plan)), failure=_failure)


def write_lock(path: Path, entries: Sequence[LockEntry]) -> int:
    """Add ``entries`` to the lock at ``path`` and return how many are new. Several hosts may write at once.

    Raises LockError when a machine got another file than one before it, OSError when the lock cannot be written.
    """
    guard = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        before = _read_lock(path)
        after = models_lock.merge(before, entries)
        if after != before:
            temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
            temporary.write_text(models_lock.dump(after), encoding="utf-8")
            os.replace(temporary, path)
    finally:
        os.close(guard)
    return len(after) - len(before)


def _read_lock(path: Path) -> models_lock.Lock:
    return models_lock.read(path.read_text(encoding="utf-8")) if path.exists() else {}


@operation()
def lock(path: Path, profiles: Sequence[Profile], placements: str) -> Generator[Any]:
    """Record in models.lock the sha256 that the hub named for files without one.

    + path: models.lock on the controlling machine
    + profiles: the placed profiles
    + placements: path of models.json on the workstation

    Example::

        models.lock(name="Update models.lock", path=Path("models.lock"), profiles=[], placements="/home/u/models.json")
    """
    placed: dict[str, Any] = known.ask(Placements, path=placements)
    entries = models_lock.placed_entries(profiles, placed)
    try:
        current = _read_lock(path)
        if models_lock.merge(current, entries) == current:
            host.noop(f"{path.name} knows every file")
            return
    except LockError as error:
        yield fail("\n".join(error.problems))
        return

    def run(state: State, host: Host) -> bool:
        try:
            new = write_lock(path, entries)
        except LockError as error:
            print_error(host, "\n".join(error.problems))
            return False
        except OSError as error:
            # The models are in place all the same; the next machine just has nothing to compare with.
            host.log_styled(f"{path} cannot be written ({error.strerror})", fg="yellow", log_func=logger.warning)
            return True
        if new:
            host.log_styled(f"{path.name}: {new} new, keep it with models.conf", fg="green", log_func=logger.info)
        return True

    yield FunctionCommand(run, (), {})
