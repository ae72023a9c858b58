"""models.lock, beside models.conf: the sha256 that the hub gave for files without SHA256 in models.conf. Pure.

The hub gives a file's sha256 and size at its first download. They are written here, and every later machine must get
the same. Keep the file under version control with models.conf.
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
    """One file. ``source``: the hub line of models.conf it came from. ``size`` is in bytes."""

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
    """Parse a lock. Raises LockError: a damaged lock must not count as no lock, which would trust the hub again."""
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


def merge(lock: Lock, entries: Iterable[LockEntry], file: str = NAME) -> Lock:
    """The lock with more entries. Raises LockError when one of them differs from the lock's."""
    result = dict(lock)
    problems = []
    for entry in entries:
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


def fill_in(profiles: Mapping[str, Profile], lock: Lock) -> dict[str, Profile]:
    """The profiles with the sha256 and size of unpinned files from the lock, as far as it has them."""
    result = {}
    for name, profile in profiles.items():
        files = []
        for file in profile.files:
            known = _locked(lock, file.hub, file.name) if file.sha256 is None else None
            files.append(replace(file, sha256=known.sha256, size=known.size) if known is not None else file)
        result[name] = replace(profile, files=tuple(files))
    return result


def placed_entries(profiles: Iterable[Profile], placements: Mapping[str, Any]) -> list[LockEntry]:
    """The entries for unpinned files in a machine's models.json: their stamps, written when they were hashed.

    A stamp counts only for the line of SOURCES that models.conf has now. Another revision is another file.
    """
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
