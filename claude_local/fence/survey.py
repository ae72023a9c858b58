"""What the launcher learns about a home, its workspaces and their repositories before a session starts."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from os.path import dirname, exists, isdir, islink

from claude_local.fence.files import links_on, realpath
from claude_local.fence.plan import Fence, covers


@dataclass
class Places:
    """Where things are for one session, all without symbolic links: ``own`` are claude-local's own directories, which
    no workspace may hold; ``config_dir`` is Claude Code's; ``programs`` must stay visible wherever they are."""

    home: str
    config_dir: str
    own: list[str]
    programs: list[str]


@dataclass
class Survey:
    """A session's fence, what to watch because it cannot be mounted over, and remarks for the user."""

    fence: Fence = field(default_factory=Fence)
    # May appear and must not: path -> what it would do.
    unwanted: dict[str, str] = field(default_factory=dict)
    # The git directories that were there at the start, those of submodules and worktrees among them, and .git files.
    repositories: set[str] = field(default_factory=set)
    # Of these, those that are too many to be guarded.
    unguarded: set[str] = field(default_factory=set)
    # Empty things at these paths are leftovers of a fence, if they were not there before.
    leftovers: list[str] = field(default_factory=list)
    # Guarded names that are symbolic links, and where they lead.
    links: dict[str, str] = field(default_factory=dict)
    # Secrets that are not there yet; a login in another terminal brings them.
    late: list[str] = field(default_factory=list)
    # Sockets to be hidden that may be gone in a moment.
    passing: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    # Empty things at these paths are another session's stubs.
    stubs: set[str] = field(default_factory=set)
    # Configurations of git's that were read: path -> text.
    read: dict[str, str] = field(default_factory=dict)

    def is_stub(self, path: str) -> bool:
        """Whether there is an empty file or directory at ``path`` that another session's fence has made."""
        with suppress(OSError):
            if path not in self.stubs:
                return False
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                return status.st_size == 0
            return stat.S_ISDIR(status.st_mode) and not os.listdir(path)
        return False

    def is_writable(self, path: str) -> bool:
        """Whether the session may write at ``path``, guarded names left aside."""
        return any(covers(each, path) for each in [*self.fence.writable, *self.fence.pinned])

    def pin_parents(self, path: str, top: str | None = None) -> None:
        """Keep the session from renaming the directories between ``top`` and ``path``: a guarded file moves with its
        directory. Without ``top``: up to the nearest directory that the session cannot rename."""
        fence = self.fence
        if top is None:
            roots = (each for each in [*fence.writable, *fence.pinned] if covers(each, dirname(path)))
            top = max(roots, key=len, default="/")
        parent = dirname(path)
        # What was reopened comes after what was pinned, and what holds it is guarded.
        while covers(top, parent) and parent != top and parent not in fence.reopened:
            again = any(covers(each, parent) for each in fence.reopened)
            (fence.reopened if again else fence.pinned).append(parent)
            parent = dirname(parent)

    def guard_way(self, path: str) -> None:
        """Watch the links on the way to ``path``, because no mount can hold a link in its place, and keep the session from
        renaming the directories that they and their end lie in."""
        ends = [*links_on(path), realpath(path)]
        if len(ends) == 1:
            return
        for end in ends:
            if self.is_writable(dirname(end)):
                if islink(end):
                    self.links[end] = os.readlink(end)
                self.pin_parents(end)
        self.keep_away(ends[-1], f"{ends[0]} leads to it")

    def keep_away(self, path: str, what: str) -> None:
        """Keep the session from making ``path``, which does not exist; ``what`` it would do."""
        if (os.path.lexists(path) and not self.is_stub(path)) or not self.is_writable(path):
            return
        if isdir(dirname(path)):
            self.fence.stub_files.append(path)
            self.pin_parents(path)
        else:
            self.unwanted[path] = what

    def settle(self, roots: Sequence[str]) -> None:
        """Keep of a fence only what cannot open anything: ``roots`` are the directories that the session may write.

        A workspace is somebody else's text: a link in it, or a path in its configuration, may lead anywhere. What is mounted
        over itself must be where its name says, inside one of the roots; mounted outside, it would be shown or writable.
        """
        fence = self.fence

        def inside(path: str) -> bool:
            return any(covers(root, path) for root in roots)

        fence.pinned = [
            path for path in dict.fromkeys(fence.pinned) if isdir(path) and realpath(path) == path and inside(path)
        ]
        fence.guarded = [path for path in dict.fromkeys(map(realpath, fence.guarded))
                         if exists(path) and inside(path) and not any(covers(path, root) for root in roots)]  # fmt: skip
        fence.reopened = [
            path for path in dict.fromkeys(fence.reopened) if isdir(path) and realpath(path) == path and inside(path)
        ]

        def is_closed(path: str) -> bool:
            def nearest(places: Iterable[str]) -> int:
                return max((len(each) for each in places if covers(each, path)), default=0)

            return nearest(fence.guarded) > 0 and nearest(fence.guarded) >= nearest(fence.reopened)

        for name in ("stub_directories", "stub_files"):
            wanted = [path for path in getattr(fence, name)
                      if realpath(dirname(path)) == dirname(path) and isdir(dirname(path)) and inside(path)
                      and can_appear(dirname(path)) and not is_closed(path)]  # fmt: skip
            setattr(fence, name, list(dict.fromkeys(wanted)))
        # One of each name: bubblewrap stumbles over a second one.
        fence.stub_files = [path for path in fence.stub_files if path not in fence.stub_directories]


def can_appear(directory: str) -> bool:
    """Whether a session could make something in ``directory``; as root it has no power over other people's files."""
    try:
        status = os.stat(directory)
        if os.statvfs(directory).f_flag & os.ST_RDONLY:
            return False
    except OSError:
        return True
    if os.getuid() != 0:
        # One's own can be made writable first.
        return status.st_uid == os.getuid() or os.access(directory, os.W_OK)
    by_group = status.st_gid in {os.getgid(), *os.getgroups()} and bool(status.st_mode & stat.S_IWGRP)
    return status.st_uid == 0 or bool(status.st_mode & stat.S_IWOTH) or by_group
