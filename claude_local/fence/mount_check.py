"""Compares the mounts that a fence has with those that it was to have, before anything runs behind it.

Between the launcher's look and bubblewrap's mount, another session in the same workspace can put a link in the place of a
directory; bubblewrap follows it. What was mounted is a fact again: /proc/PID/mountinfo. Pure: text in, words out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from claude_local.fence.plan import Fence, covers

_ESCAPED = re.compile(r"\\([0-7]{3})")
# bubblewrap's own, fresh in each session.
_OWN = ("/dev", "/proc")
# Made by bubblewrap for a session of root, or bound where they exist.
_FURTHER = ("/etc/passwd", "/etc/group", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager")


@dataclass(frozen=True)
class Mount:
    """``shows``: the device's number and the directory or file in it; ``point``: where it is mounted."""

    number: str
    parent: str
    shows: tuple[str, str]
    point: str
    writable: bool
    kind: str


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)


def parse(text: str) -> list[Mount]:
    """The lines of a mountinfo file (proc_pid_mountinfo(5))."""
    found = []
    for line in text.split("\n"):
        words = line.split(" ")
        if len(words) > 6 and "-" in words[6:]:
            kind = words[words.index("-", 6) + 1]
            found.append(
                Mount(
                    number=words[0], parent=words[1], shows=(words[2], _plain(words[3])), point=_plain(words[4]),
                    writable="rw" in words[5].split(","), kind=kind,
                )
            )  # fmt: skip
    return found


class Tree:
    """The mounts of one namespace, to be walked like a path."""

    def __init__(self, mounts: Sequence[Mount]) -> None:
        self.below: dict[str, list[Mount]] = {}
        numbers = {mount.number for mount in mounts}
        self.top = next((each for each in mounts if each.point == "/" and each.parent not in numbers), None)
        for mount in mounts:
            if mount.number != mount.parent:
                self.below.setdefault(mount.parent, []).append(mount)

    def at(self, path: str) -> Mount | None:
        """The mount that ``path`` lies in."""
        here: Mount | None = self.top
        while here is not None:
            further = [each for each in self.below.get(here.number, ()) if covers(each.point, path)]
            if not further:
                return here
            here = min(further, key=lambda each: len(each.point))
        return None

    def shows(self, path: str) -> tuple[str, str] | None:
        """Device and place in it of what ``path`` shows."""
        mount = self.at(path)
        if mount is None:
            return None
        device, root = mount.shows
        rest = path[len(mount.point.rstrip("/")) :]
        return device, (root.rstrip("/") + rest).rstrip("/") or "/"


def difference(
    outside: str, inside: str, fence: Fence, passing: Sequence[str] = (), before: str | None = None
) -> str | None:
    """What is mounted in a session and should not be, as words for its user; None when all is as ``fence`` says.

    ``outside`` and ``inside``: the text of mountinfo of the launcher and of the first program behind the fence.
    ``passing``: what may be hidden besides, or be gone. ``before``: ``outside`` as it was before bubblewrap began, if that
    is known. bubblewrap makes read-only what it finds then (where it may not look, nobody may write); what is mounted a
    moment later appears in the session as it is.
    """
    there, here = parse(outside), parse(inside)
    tree, session = Tree(there), Tree(here)
    if tree.top is None:
        # In a chroot that is no mount: the session's own root is the same one.
        there = [*there, *(each for each in here if each is session.top)]
        tree = Tree(there)
    bound = [*fence.kept, *fence.shown, *{*fence.writable, *fence.pinned}, *set(fence.guarded), *fence.reopened,
             *fence.sockets, *_FURTHER]  # fmt: skip
    covered = [*fence.emptied, *fence.blanked, *fence.scratch, *fence.stub_directories, *fence.stub_files, *fence.fresh]
    covering, known = set(covered), {(each.shows, each.point) for each in there}
    earlier = known if before in (None, outside) else {(each.shows, each.point) for each in parse(before or "")}
    allowed = Counter(bound)
    allowed.update(covering.union(passing))
    # Hidden again in a writable place that brought it back.
    allowed.update(each for each in {*fence.emptied, *fence.blanked, *fence.scratch, *fence.shown}
                   if any(covers(place, each) for place in fence.writable))  # fmt: skip
    twice = Counter(each.point for each in there)
    null = tree.shows("/dev/null")
    open_ones = [*fence.writable, *fence.pinned, *fence.reopened]

    def own(mount: Mount) -> bool:
        return mount.kind == "tmpfs" or mount.shows == null

    for point, count in Counter(each.point for each in here).items():
        if any(covers(each, point) for each in _OWN):
            continue
        copies = twice[point] and twice[point] * (1 + sum(covers(each, point) for each in bound))
        if count > copies + allowed[point]:
            return f"something is mounted at {point}"
    for mount in here:
        place = (mount.shows, mount.point)
        if any(covers(each, mount.point) for each in _OWN) or place in (earlier if mount.writable else known):
            continue
        if mount.point in _FURTHER[:2] or ((mount.point in covering or mount.point in passing) and own(mount)):
            if mount.writable and mount.point not in {*fence.fresh, *fence.scratch}:
                return f"{mount.point} can be written"
        elif mount.shows != tree.shows(mount.point):
            return f"{mount.point} shows something else"
        elif mount.writable and not any(covers(each, mount.point) for each in open_ones):
            return f"{mount.point} can be written"
    for path in covering.difference(bound):
        seen = session.at(path)
        if seen is None or seen.point != path or not own(seen):
            return f"{path} can be seen"
    for path in fence.guarded:
        seen = session.at(path)
        if seen is None or seen.point != path:
            return f"{path} is not guarded"
    return None
