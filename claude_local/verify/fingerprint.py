"""What is in a directory tree, as digests: to show that a program changed nothing there."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

# Bytes that are read in all; files beyond it are known by size and time only (a big ~/.claude must not cost minutes).
BUDGET = 512 * 1024 * 1024


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def fingerprint(*roots: Path, budget: int = BUDGET) -> dict[str, str]:
    """Path -> what is there, for every file, link and directory in ``roots``; a root that is absent has no entry."""
    found: dict[str, str] = {}
    left = budget
    for root in roots:
        pending = [root]
        while pending:
            path = pending.pop()
            try:
                info = path.lstat()
                if stat.S_ISLNK(info.st_mode):
                    found[str(path)] = "link to " + os.readlink(path)
                elif stat.S_ISDIR(info.st_mode):
                    found[str(path)] = "directory"
                    pending.extend(Path(entry.path) for entry in os.scandir(path))
                elif not stat.S_ISREG(info.st_mode):
                    found[str(path)] = "special file"
                elif info.st_size > left:
                    found[str(path)] = f"{info.st_size} bytes of {info.st_mtime_ns}"
                else:
                    left -= info.st_size
                    found[str(path)] = _digest(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                found[str(path)] = f"unreadable ({error.strerror})"
    return found


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What changed between two fingerprints: ``+ path`` new, ``- path`` gone, ``~ path`` changed."""
    new = [f"+ {path}" for path in sorted(after.keys() - before.keys())]
    gone = [f"- {path}" for path in sorted(before.keys() - after.keys())]
    changed = [f"~ {path}" for path in sorted(before.keys() & after.keys()) if before[path] != after[path]]
    return changed + gone + new
