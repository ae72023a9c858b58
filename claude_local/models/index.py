"""models.json: which files were hashed, which of them claude-local placed, and where each profile's files are."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_local.models.placement_plan import PlannedFile

# The extended attribute of a file that claude-local placed. The inode number alone does not tell it from a file that
# somebody put in its place: ext4 gives a new file the number of the one that was just deleted.
MARK = "user.claude-local.placed"


def is_marked(path: str) -> bool:
    """Whether the file has the mark. False also where the file system keeps no extended attributes."""
    try:
        return bool(os.getxattr(path, MARK, follow_symlinks=False))
    except OSError:
        return False


@dataclass
class Index:
    """The content of models.json.

    ``files``: the stamp of each file that was hashed. ``profiles``: the files of each profile after the last complete
    run. ``roots``: the directories it used, model_dir first. ``needed``: the files of a run that has not finished.
    """

    path: str
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    roots: list[str] = field(default_factory=list)
    needed: list[str] = field(default_factory=list)

    @staticmethod
    def load(path: str) -> Index:
        """Read models.json. A missing or damaged one gives an empty index; the files are hashed again then."""
        try:
            raw = json.loads(Path(path).read_text(encoding="utf-8"))
            files = {str(k): dict(v) for k, v in raw["files"].items()}
            profiles = {str(k): dict(v) for k, v in raw["profiles"].items()}
            roots = [str(root) for root in raw.get("roots", ())]
            needed = [str(path) for path in raw.get("wanted", ())]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Index(path)
        return Index(path, files, profiles, roots, needed)

    def content(self) -> dict[str, Any]:
        """What models.json holds."""
        return {"files": self.files, "profiles": self.profiles, "roots": self.roots, "wanted": self.needed}

    def save(self) -> None:
        """Write models.json in one step. Raises OSError."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        temporary = f"{self.path}.{os.getpid()}.new"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(self.content(), file, indent=1)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except BaseException as error:
            Path(temporary).unlink(missing_ok=True)
            if isinstance(error, OSError):
                error.filename = error.filename or self.path
            raise

    def stamped(self, path: str, status: os.stat_result, sha256: str | None) -> bool:
        """Whether the file was checked against ``sha256`` and has not changed since."""
        entry = self.files.get(path)
        return (
            entry is not None
            and entry.get("sha256") == sha256
            and entry.get("size") == status.st_size
            and entry.get("mtime_ns") == status.st_mtime_ns
            and entry.get("inode") == status.st_ino
        )

    def stamp(
        self, path: str, status: os.stat_result, file: PlannedFile, *, placed: bool, marked: bool = False
    ) -> None:
        """Record that ``path`` was checked to be ``file``. ``marked``: it has the extended attribute MARK."""
        self.files[path] = {
            "sha256": file.sha256,
            "source": file.hub,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "inode": status.st_ino,
            "placed": placed,
            "marked": marked,
        }

    def unchanged(self, path: str) -> bool:
        """Whether the file exists and is still the one that was checked. A link in the place of our file is not."""
        try:
            status = os.lstat(path) if self.placed(path) else os.stat(path)
        except OSError:
            return False
        entry = self.files.get(path, {})
        return stat.S_ISREG(status.st_mode) and self.stamped(path, status, entry.get("sha256"))

    def identity(self, file: PlannedFile, *, unchanged: bool) -> tuple[str, int] | None:
        """The sha256 and size that the hub gave for the file in an earlier run, for the same line of SOURCES.

        ``unchanged``: only while the file that was downloaded then is still on the disk.
        """
        identity = None
        for path, entry in self.files.items():
            sha256, size = entry.get("sha256"), entry.get("size")
            if not isinstance(sha256, str) or not isinstance(size, int) or entry.get("source") != file.hub:
                continue
            if os.path.basename(path) == os.path.basename(file.name):
                identity = (sha256, size)
                if self.unchanged(path):
                    return identity
        return None if unchanged else identity

    def gone(self, profiles: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """The stamped files that do not exist and that none of ``profiles`` (records as in models.json) uses."""
        used = {path for record in profiles.values() for path in record.get("files", ())}
        return [path for path in self.files if path not in used and not os.path.lexists(path)]

    def placed(self, path: str) -> bool:
        """Whether claude-local put a file there. Another file may have its place by now: see :meth:`ours`."""
        return bool(self.files.get(path, {}).get("placed"))

    def ours(self, path: str) -> bool:
        """Whether the file is the one that claude-local put there, whatever happened to its content.

        A file that somebody put in its place has another inode or no mark. A link is never ours.
        """
        try:
            status = os.lstat(path)
        except OSError:
            return False
        entry = self.files.get(path, {})
        same = stat.S_ISREG(status.st_mode) and status.st_ino == entry.get("inode")
        return same and self.placed(path) and (not entry.get("marked") or is_marked(path))
