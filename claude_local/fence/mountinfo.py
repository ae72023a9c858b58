"""Reads /proc/PID/mountinfo (proc_pid_mountinfo(5)). Pure: text in, mounts out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from claude_local.fence.plan import covers

_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One mount. ``source``: the device's number and the path in it that is mounted. ``point``: where."""

    mount_id: str
    parent_id: str
    source: tuple[str, str]
    point: str
    writable: bool
    fs_type: str


def parse(text: str) -> list[Mount]:
    """The mounts in the text of a mountinfo file."""
    mounts = []
    for line in text.split("\n"):
        fields = line.split(" ")
        if len(fields) > 6 and "-" in fields[6:]:
            mounts.append(
                Mount(
                    mount_id=fields[0], parent_id=fields[1], source=(fields[2], _unescaped(fields[3])),
                    point=_unescaped(fields[4]), writable="rw" in fields[5].split(","),
                    fs_type=fields[fields.index("-", 6) + 1],
                )
            )  # fmt: skip
    return mounts


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)


class MountTree:
    """The mounts of one namespace, to find the one that a path lies in."""

    def __init__(self, mounts: Sequence[Mount]) -> None:
        self._children: dict[str, list[Mount]] = {}
        ids = {mount.mount_id for mount in mounts}
        self.root = next((each for each in mounts if each.point == "/" and each.parent_id not in ids), None)
        for mount in mounts:
            if mount.mount_id != mount.parent_id:
                self._children.setdefault(mount.parent_id, []).append(mount)

    def mount_of(self, path: str) -> Mount | None:
        """The mount that ``path`` lies in."""
        mount = self.root
        while mount is not None:
            inner = [each for each in self._children.get(mount.mount_id, ()) if covers(each.point, path)]
            if not inner:
                return mount
            mount = min(inner, key=lambda each: len(each.point))
        return None

    def source_of(self, path: str) -> tuple[str, str] | None:
        """The device's number and the path in it that ``path`` shows."""
        mount = self.mount_of(path)
        if mount is None:
            return None
        device, root = mount.source
        rest = path[len(mount.point.rstrip("/")) :]
        return device, (root.rstrip("/") + rest).rstrip("/") or "/"
