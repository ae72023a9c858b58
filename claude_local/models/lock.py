"""models.lock, beside models.conf: what the hub said of files that models.conf has no SHA256 for. Pure.

At the first download of such a file the hub's own header says its sha256 and size; they are written down here, and every
later machine must get the same. The file is meant to be kept (and shared) with models.conf.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from posixpath import basename
from typing import Any

from claude_local.models.profile import Profile

NAME = "models.lock"
VERSION = 1


class LockError(ValueError):
    """models.lock cannot be used; ``problems`` has one line for each thing that is wrong."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class LockEntry:
    """One file: the hub line of models.conf that it came from, its name, its sha256 and size in bytes."""

    source: str
    name: str
    sha256: str
    size: int


Lock = dict[tuple[str, str], LockEntry]


def _entry(raw: Any) -> LockEntry | None:
    """A checked entry; None when it is none."""
    if not isinstance(raw, Mapping):
        return None
    source, name, sha256, size = (raw.get(key) for key in ("source", "name", "sha256", "size"))
    if not (isinstance(source, str) and isinstance(name, str) and isinstance(sha256, str) and isinstance(size, int)):
        return None
    if isinstance(size, bool) or size < 1 or not name or not source.startswith("hub "):
        return None
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        return None
    return LockEntry(source, name, sha256, size)


def read(text: str, file: str = NAME) -> Lock:
    """Parse a lock. Raises LockError: a damaged lock must not turn into "no lock", which would trust the hub anew."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise LockError([f"{file}: found no JSON ({error}), expected what a deploy wrote; restore it"]) from None
    if not isinstance(raw, dict) or raw.get("version") != VERSION or not isinstance(raw.get("files"), list):
        raise LockError(
            [f'{file}: expected {{"version": {VERSION}, "files": [...]}}, as a deploy writes it; restore it']
        )
    lock: Lock = {}
    problems = []
    for number, each in enumerate(raw["files"], 1):
        entry = _entry(each)
        if entry is None:
            problems.append(f"{file}: entry {number}: expected source (hub ...), name, sha256 and size, found {each!r}")
        elif lock.setdefault((entry.source, entry.name), entry) != entry:
            problems.append(f"{file}: entry {number}: {entry.name} of {entry.source} is there twice and differs")
    if problems:
        raise LockError(problems)
    return lock


def dump(lock: Lock) -> str:
    """The text of a lock, the same for the same content."""
    files = [
        {"source": each.source, "name": each.name, "sha256": each.sha256, "size": each.size}
        for _, each in sorted(lock.items())
    ]
    return json.dumps({"version": VERSION, "files": files}, indent=1) + "\n"


def merge(lock: Lock, found: Iterable[LockEntry], file: str = NAME) -> Lock:
    """The lock with what was found. Raises LockError when something is other than it was before."""
    result = dict(lock)
    problems = []
    for entry in found:
        known = result.setdefault((entry.source, entry.name), entry)
        if known != entry:
            problems.append(
                f"{file}: {entry.name} of {entry.source} was {known.sha256} ({known.size} bytes) and is now "
                f"{entry.sha256} ({entry.size} bytes): the hub gave two machines different files. If the new one is "
                f"right, take the entry out of {file} and delete the old one from the machines that have it"
            )
    if problems:
        raise LockError(problems)
    return result


def _locked(lock: Lock, source: str | None, name: str) -> LockEntry | None:
    return lock.get((source, basename(name))) if source is not None else None


def applied(profiles: Mapping[str, Profile], lock: Lock) -> dict[str, Profile]:
    """The profiles with sha256 and size of unpinned files from the lock, as far as it has them."""
    result = {}
    for name, profile in profiles.items():
        files = []
        for file in profile.files:
            known = _locked(lock, file.hub, file.name) if file.sha256 is None else None
            files.append(replace(file, sha256=known.sha256, size=known.size) if known is not None else file)
        result[name] = replace(profile, files=tuple(files))
    return result


def found(profiles: Iterable[Profile], placements: Mapping[str, Any]) -> list[LockEntry]:
    """What a machine's models.json says of files that are not pinned: their stamps, written when they were hashed. Only
    of those that came from the line of SOURCES that stands in models.conf now: an older revision is another file."""
    result = []
    stamps, records = placements.get("files") or {}, placements.get("profiles") or {}
    for profile in profiles:
        paths = (records.get(profile.id) or {}).get("files") or []
        if len(paths) != len(profile.files):
            continue
        for file, path in zip(profile.files, paths, strict=True):
            stamp = stamps.get(path) or {}
            if file in profile.unpinned and file.hub is not None and stamp.get("source") == file.hub:
                entry = _entry({**stamp, "name": basename(file.name)})
                result += [entry] if entry is not None else []
    return result
