"""What the launcher learns about a home, its workspaces and their repositories before a session starts."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os.path import dirname, exists, isdir, islink

from claude_local.fence.files import is_empty, realpath, symlinks_on
from claude_local.fence.plan import Fence, covers


@dataclass
class Places:
    """Where things are for one session, all without symlinks. ``own``: claude-local's own directories, which no
    workspace may hold. ``config_dir``: Claude Code's. ``programs``: stay visible wherever they are."""

    home: str
    config_dir: str
    own: list[str]
    programs: list[str]


@dataclass
class Survey:
    """A session's fence, what else to watch because no mount can guard it, and remarks for the user."""

    fence: Fence = field(default_factory=Fence)
    # Paths that do not exist and must not appear, and what each of them would do.
    forbidden: dict[str, str] = field(default_factory=dict)
    # Those of policy.FORBIDDEN_FILES that exist, and are guarded.
    existing_files: list[str] = field(default_factory=list)
    # Configurations of repositories that are read-only and of which the session may get a copy.
    git_configs: list[str] = field(default_factory=list)
    # Git directories and .git files that exist at the start, those of submodules and worktrees among them.
    repositories: set[str] = field(default_factory=set)
    # Those of them that are not guarded, because there are too many.
    unguarded: set[str] = field(default_factory=set)
    # Paths that do not exist and where Claude Code's own sandbox leaves empty files and directories behind.
    leftovers: list[str] = field(default_factory=list)
    # Guarded names that are symlinks, and their targets.
    symlinks: dict[str, str] = field(default_factory=dict)
    # Secrets that do not exist yet. A login in another terminal makes them.
    future_secrets: list[str] = field(default_factory=list)
    # Sockets to hide that may be gone in a moment.
    masked_sockets: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    # Where other sessions have stubs.
    stubs: set[str] = field(default_factory=set)
    # The texts of git configurations that were read, by path.
    config_texts: dict[str, str] = field(default_factory=dict)

    def is_stub(self, path: str) -> bool:
        """Whether ``path`` is a stub of another session: still empty."""
        return path in self.stubs and is_empty(path)

    def is_writable(self, path: str) -> bool:
        """Whether ``path`` lies where the session may write, guarded names aside."""
        return any(covers(each, path) for each in [*self.fence.rw_bind, *self.fence.self_bind])

    def self_bind_parents(self, path: str, top: str | None = None) -> None:
        """Keep the session from renaming the directories between ``top`` and ``path``, because a guarded file moves
        with its directory. Without ``top``: up to the nearest directory that the session cannot rename."""
        fence = self.fence
        if top is None:
            roots = (each for each in [*fence.rw_bind, *fence.self_bind] if covers(each, dirname(path)))
            top = max(roots, key=len, default="/")
        parent = dirname(path)
        # A nested_rw_bind is mounted after the self_binds and lies in an ro_bind: its parents are safe.
        while covers(top, parent) and parent != top and parent not in fence.nested_rw_bind:
            inside = any(covers(each, parent) for each in fence.nested_rw_bind)
            (fence.nested_rw_bind if inside else fence.self_bind).append(parent)
            parent = dirname(parent)

    def watch_symlinks(self, path: str) -> None:
        """Watch the symlinks on the way to ``path``, because no mount can hold a symlink in place, and keep the
        session from renaming the directories that hold them and their target."""
        ends = [*symlinks_on(path), realpath(path)]
        if len(ends) == 1:
            return
        for end in ends:
            if self.is_writable(dirname(end)):
                if islink(end):
                    self.symlinks[end] = os.readlink(end)
                self.self_bind_parents(end)
        self.forbid(ends[-1], f"{ends[0]} leads to it")

    def forbid(self, path: str, what: str) -> None:
        """Keep the session from making ``path``, if it does not exist. ``what``: what the path would do."""
        if (os.path.lexists(path) and not self.is_stub(path)) or not self.is_writable(path):
            return
        if isdir(dirname(path)):
            self.fence.stub_files.append(path)
            self.self_bind_parents(path)
        else:
            self.forbidden[path] = what

    def settle(self, roots: Sequence[str]) -> None:
        """Drop from the fence what could open something outside ``roots``, the directories that the session may write.

        A stranger may have made the workspace: a symlink in it, or a path in its git configuration, can lead
        anywhere, and bubblewrap would show it or make it writable. So each path must be its own real path, inside one
        of the roots.
        """
        fence = self.fence

        def is_inside(path: str) -> bool:
            return any(covers(root, path) for root in roots)

        def directories(paths: Iterable[str]) -> list[str]:
            unique = dict.fromkeys(paths)
            return [path for path in unique if isdir(path) and realpath(path) == path and is_inside(path)]

        def is_read_only(path: str) -> bool:
            guarded = [each for each in fence.ro_bind if covers(each, path)]
            nested = [each for each in fence.nested_rw_bind if covers(each, path)]
            return bool(guarded) and len(max(guarded, key=len)) >= len(max(nested, key=len, default=""))

        def stubs(paths: Iterable[str]) -> list[str]:
            parents = directories({dirname(path) for path in paths})
            return [path for path in dict.fromkeys(paths) if dirname(path) in parents and is_inside(path)
                    and _can_write(dirname(path)) and not is_read_only(path)]  # fmt: skip

        fence.self_bind = directories(fence.self_bind)
        fence.ro_bind = [
            path for path in dict.fromkeys(map(realpath, fence.ro_bind))
            if exists(path) and is_inside(path) and not any(covers(path, root) for root in roots)
        ]  # fmt: skip
        fence.nested_rw_bind = directories(fence.nested_rw_bind)
        fence.stub_directories = stubs(fence.stub_directories)
        # bubblewrap fails where a path is both.
        fence.stub_files = [path for path in stubs(fence.stub_files) if path not in fence.stub_directories]


def _can_write(directory: str) -> bool:
    """Whether the session could make a file in ``directory``. A session of root has no power over other users'
    files."""
    try:
        status = os.stat(directory)
        if os.statvfs(directory).f_flag & os.ST_RDONLY:
            return False
    except OSError:
        return True
    if os.getuid() != 0:
        # The owner can make a directory writable first.
        return status.st_uid == os.getuid() or os.access(directory, os.W_OK)
    by_group = status.st_gid in {os.getgid(), *os.getgroups()} and bool(status.st_mode & stat.S_IWGRP)
    return status.st_uid == 0 or bool(status.st_mode & stat.S_IWOTH) or by_group
