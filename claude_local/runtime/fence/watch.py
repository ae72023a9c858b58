"""Watches a running session's workspaces for what no mount can keep away: git directories that come about.

A session may make a repository (``git init`` is everyday work), and git takes some files at their word wherever they
appear. What would run outside the fence is renamed as soon as it is seen, and the user is told at the end.

This runs outside the fence and works on names that a session chooses: every directory is opened without following
links, and every rename happens inside an opened directory.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from os.path import basename, dirname, join, realpath, relpath

from claude_local.fence import repository
from claude_local.fence.plan import covers
from claude_local.runtime.fence.observe import (
    find_repository,
    modules,
    repository_shape,
    scan,
    text_of,
    whole_text,
    worktree_entries,
)

# Appended to the name of what was put out of action.
BLOCKED = ".claude-local-blocked"
# Seconds between two looks: about forty calls of lstat each.
PAUSE = 0.25
# How many levels and entries of a workspace are looked at in the end (1.4 s a million): git looks into submodules
# wherever they are.
LEVELS, LIMIT = 64, 2_000_000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def opened(top: str, below: str) -> Iterator[int]:
    """A descriptor of the directory ``below`` in ``top``, reached without any link. Raises OSError."""
    descriptor = os.open(top, _DIRECTORY)
    try:
        for name in below.split("/"):
            if name not in ("", "."):
                inner = os.open(name, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


class Watch:
    """Looks every PAUSE seconds, and more thoroughly in ``stop``. ``unwanted``: path -> what it would do, none of which
    is there now. ``links``: guarded names that are symbolic links, and where they lead. ``workspaces`` are looked at for
    repositories that come about; ``known`` are those that were there."""

    def __init__(
        self, workspaces: Sequence[str], unwanted: dict[str, str], links: dict[str, str], known: Iterable[str] = ()
    ) -> None:
        self.workspaces, self.known = list(workspaces), set(known)
        self.unwanted, self.links = dict(unwanted), dict(links)
        self.bare = [each for each in workspaces if not repository_shape(each)]
        self.fresh = [each for each in workspaces if not os.path.lexists(join(each, ".git"))]
        # Known git directories that have no second configuration.
        self.single = {each for each in self.known if not os.path.lexists(join(each, "config.worktree"))}
        self.blocked: list[tuple[str, str, str]] = []
        # Workspaces with more in them than can be looked at, and directories that this session closed to reading.
        self.unseen: list[str] = []
        # The session cannot set this time on what it makes; a file system's clock may lag by a tick.
        self.began = time.time() - 0.02
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._survey = threading.Thread(target=self._look_around, daemon=True)

    def start(self) -> None:
        self._survey.start()
        self._thread.start()

    def _look_around(self) -> None:
        """Repositories of the user's that lie deeper than the fence goes: they are no session's."""
        for workspace in self.workspaces:
            named, repositories = scan(workspace, LEVELS, LIMIT, (), guarded=())
            for path in [*repositories, *(each for each in named if basename(each) == ".git")]:
                if path not in self.known and not self._is_new(path):
                    for each in [path, *modules(path), *worktree_entries(path)]:
                        self._knows(each)

    def _knows(self, git_dir: str) -> None:
        if not self._is_new(git_dir):
            self.known.add(git_dir)
            if not os.path.lexists(join(git_dir, "config.worktree")):
                self.single.add(git_dir)

    def _is_new(self, path: str) -> bool:
        """Whether something at ``path`` was made, renamed or changed since the session began."""
        with suppress(OSError):
            return os.lstat(path).st_ctime >= self.began
        return True

    def _look_on(self) -> None:
        while not self._done.wait(PAUSE):
            self.look()

    def stop(self) -> list[tuple[str, str, str]]:
        """What was renamed: the path, what it would have done, the path that it has now."""
        self._done.set()
        self._thread.join(timeout=5)
        self._survey.join(timeout=30)
        self.look()
        for workspace in self.workspaces:
            cut: list[str] = []
            named, repositories = scan(workspace, LEVELS, LIMIT, (), cut, guarded=())
            self.unseen += [path for path in dict.fromkeys(cut) if path == workspace or self._is_new(path)]
            for git_dir in repositories:
                if git_dir not in self.known:
                    self._look_at_fresh(workspace, relpath(git_dir, workspace))
            for link in named:
                if basename(link) == ".git" and link not in self.known:
                    self._look_at_link(workspace, link, {*self.known, *repositories})
            for git_dir in {*self.known, *repositories}:
                self._look_within(git_dir)
        return self.blocked

    def _look_within(self, git_dir: str) -> None:
        """What this session made in a repository, new or not, for git to take as a submodule's or a worktree's."""
        cut: list[str] = []
        for module in modules(git_dir, cut):
            if module not in self.known:
                self._look_at_fresh("/", module.lstrip("/"))
        self.unseen += [path for path in cut if path not in self.unseen]
        mine = [entry for entry in worktree_entries(git_dir) if entry not in self.known or entry in self.single]
        if git_dir in self.single:
            mine.append(git_dir)
        # git copies it into a new worktree.
        usual = repository.unusual(text_of(join(git_dir, "config.worktree"))) if git_dir not in self.single else []
        for entry in mine:
            with suppress(OSError), opened("/", entry.lstrip("/")) as directory:
                self._look_at_config(directory, entry, "config.worktree", usual)

    def _look_at_link(self, workspace: str, link: str, repositories: set[str]) -> None:
        """A ``.git`` file that this session made: fine for a worktree or a submodule of a repository that is looked at."""
        repo = None if os.path.islink(link) else find_repository(dirname(link))[0]
        if repo is not None and repo.link == link:
            if repo.git_dir in self.known:
                # A worktree or submodule that was there, checked out again.
                return
            if repo.common_dir != repo.git_dir and repo.common_dir in repositories:
                return
            if any(covers(join(each, "modules"), repo.git_dir) for each in repositories):
                # _look_within sees to it.
                return
        self._look_at_fresh(workspace, relpath(link, workspace))

    def look(self) -> None:
        for path, what in self.unwanted.items():
            if os.path.lexists(path):
                self._block_in("/", dirname(path).lstrip("/"), basename(path), what)
        for path, target in self.links.items():
            with suppress(OSError):
                if not os.path.islink(path) or os.readlink(path) != target:
                    what = "it takes the place of a guarded link"
                    self._block_in("/", dirname(path).lstrip("/"), basename(path), what)
        for workspace in self.bare:
            if repository_shape(workspace):
                what = "git would take the workspace for a repository with its own hooks"
                self._block_in(workspace, "", "HEAD", what)
        for workspace in self.fresh:
            self._look_at_fresh(workspace, ".git")

    def _look_at_fresh(self, top: str, below: str) -> None:
        """A repository that this session made: what would run in it outside the fence."""
        path = join(top, below)
        try:
            kind = os.lstat(path).st_mode
        except OSError:
            return
        if not stat.S_ISDIR(kind):
            self._block_in(
                top, dirname(below), basename(below), "it points git to a repository that this session chose"
            )
            return
        try:
            with opened(top, below) as directory:
                self._look_at_config(directory, path, "config")
                self._look_at_config(directory, path, "config.worktree")
                if not self._is_worktrees_entry(path, whole_text("commondir", directory)):
                    self._block(directory, path, "commondir", "it would give the new repository another configuration")
                self._look_at_hooks(directory, top, below)
        except PermissionError:
            self._block_in(top, dirname(below), basename(below), "git may read it, and nobody may look at it")
        except OSError:
            # It went while it was looked at.
            return

    def _look_at_config(self, directory: int, path: str, name: str, usual: Iterable[str] = ()) -> None:
        """One of the two configurations of a new repository, which lies at ``path`` and is opened. ``usual``: unusual
        entries that are the user's."""
        text = whole_text(name, directory)
        if text is None:
            self._block(directory, path, name, "git would obey it, and it is no plain file that can be looked at")
            return
        unusual = [each for each in repository.unusual(text) if each not in usual]
        unusual += [f"core.worktree={value}" for section, _, key, value in repository.entries(text)
                    if (section, key) == ("core", "worktree") and not self._is_ours(path, value)]  # fmt: skip
        if unusual:
            what = f"a new repository's configuration must not say {unusual[0][:100]}"
            self._block(directory, path, name, what)

    @staticmethod
    def _is_worktrees_entry(git_dir: str, common: str | None) -> bool:
        """Whether ``git_dir`` is what ``git worktree add`` makes in a repository, by what its ``commondir`` says."""
        parent = dirname(git_dir)
        return bool(common) and basename(parent) == "worktrees" and (
            realpath(join(git_dir, str(common).strip())) == realpath(dirname(parent))
        )  # fmt: skip

    def _is_ours(self, git_dir: str, value: str) -> bool:
        """Whether a working tree that a new repository names lies where it may: a checkout overwrites what is there."""
        tops = [*self.workspaces, *(dirname(each) for each in self.known if basename(each) == ".git")]
        return not value.startswith("~") and any(covers(top, realpath(join(git_dir, value))) for top in tops)

    def _look_at_hooks(self, directory: int, top: str, below: str) -> None:
        path = join(top, below)
        try:
            if stat.S_ISLNK(os.lstat("hooks", dir_fd=directory).st_mode):
                self._block(directory, path, "hooks", "git would run hooks from where it leads")
                return
            with opened(top, join(below, "hooks")) as hooks:
                for name in os.listdir(hooks):
                    if not name.endswith((".sample", BLOCKED)):
                        what = "git would run it as a hook of the new repository"
                        self._block(hooks, join(path, "hooks"), name, what)
        except PermissionError:
            self._block(directory, path, "hooks", "git would run hooks in it, and nobody may look at them")
        except (FileNotFoundError, NotADirectoryError):
            return

    def _block_in(self, top: str, below: str, name: str, what: str) -> None:
        with suppress(OSError), opened(top, below) as directory:
            self._block(directory, join(top, below).rstrip("/"), name, what)

    def _block(self, directory: int, path: str, name: str, what: str) -> None:
        """Rename ``name`` in an opened directory; ``path`` is that directory's, for the report."""
        names = set(os.listdir(directory))
        if name not in names:
            return
        new = next(each for number in range(len(names) + 1) if (each := f"{name}{BLOCKED}{number or ''}") not in names)
        with suppress(OSError):
            os.rename(name, new, src_dir_fd=directory, dst_dir_fd=directory)
            self.blocked.append((join(path, name), what, join(path, new)))
