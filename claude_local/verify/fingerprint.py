"""The digests of a directory tree: they show that a program changed nothing in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from claude_local.models.part import hash_file

# Bytes to read in all; files beyond it are compared by size and time only (a big ~/.claude must not cost minutes).
BUDGET = 512 * 1024 * 1024


def fingerprint(*roots: Path, budget: int = BUDGET) -> dict[str, str]:
    """Path -> its content as text, for every file, link and directory in ``roots``; a missing root has no entry."""
    entries: dict[str, str] = {}
    left = budget
    for root in roots:
        pending = [root]
        while pending:
            path = pending.pop()
            try:
                info = path.lstat()
                if stat.S_ISLNK(info.st_mode):
                    entries[str(path)] = "link to " + os.readlink(path)
                elif stat.S_ISDIR(info.st_mode):
                    entries[str(path)] = "directory"
                    pending.extend(Path(entry.path) for entry in os.scandir(path))
                elif not stat.S_ISREG(info.st_mode):
                    entries[str(path)] = "special file"
                elif info.st_size > left:
                    entries[str(path)] = f"{info.st_size} bytes of {info.st_mtime_ns}"
                else:
                    left -= info.st_size
                    entries[str(path)] = hash_file(str(path))
            except FileNotFoundError:
                continue
            except OSError as error:
                entries[str(path)] = f"unreadable ({error.strerror})"
    return entries


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What changed between two fingerprints: ``+ path`` new, ``- path`` gone, ``~ path`` changed."""
    new = [f"+ {path}" for path in sorted(after.keys() - before.keys())]
    gone = [f"- {path}" for path in sorted(before.keys() - after.keys())]
    changed = [f"~ {path}" for path in sorted(before.keys() & after.keys()) if before[path] != after[path]]
    return changed + gone + new
