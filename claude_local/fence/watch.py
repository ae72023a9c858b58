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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from os.path import basename, dirname, join, relpath

from claude_local.fence import git_config
from claude_local.fence.files import realpath, resolved, text_of, whole_text
from claude_local.fence.git_repository import find_repository, modules, worktree_entries
from claude_local.fence.ledger import Ledger
from claude_local.fence.plan import covers, outermost
from claude_local.fence.scan import repository_shape, scan
from claude_local.fence.snapshot import (
    Before,
    before,
    differences,
    has_hooks,
    hidden_files,
    hook_managers,
    state,
    template_hooks,
)

# Appended to the name of what was put out of action.
BLOCKED = ".claude-local-blocked"
# Seconds between two looks: about forty calls of lstat each.
PAUSE = 0.25
# Looks between two signs of life.
LIFE_SIGN = 20
# How many levels and entries of a workspace are looked at in the end (1.4 s a million): git looks into submodules
# wherever they are. No path has more levels.
LEVELS, LIMIT = 4096, 2_000_000
# Seconds that the look at what was there may still take when the session has ended.
SURVEY = 30.0
NOTHING = Before()
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
    repositories that come about; ``known`` are those that were there, and ``unguarded`` those of them that no mount
    guards. ``ledger`` gets word of what is known besides, and that the session lives. ``elsewhere``: what a session may
    write besides, and could lead git to from a workspace."""

    def __init__(
        self, workspaces: Sequence[str], unwanted: dict[str, str], links: dict[str, str], known: Iterable[str] = (),
        unguarded: Iterable[str] = (), ledger: Ledger | None = None, elsewhere: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self.workspaces, self.known = list(workspaces), set(known)
        self.places = outermost([*workspaces, *elsewhere])
        self.unwanted, self.links = dict(unwanted), dict(links)
        self.bare = [each for each in workspaces if not repository_shape(each)]
        self.fresh = [each for each in workspaces if not os.path.lexists(join(each, ".git"))]
        # Known git directories that have no second configuration.
        self.single = {each for each in self.known if not os.path.lexists(join(each, "config.worktree"))}
        self.unguarded, self.ledger = set(unguarded), ledger
        # What is known and not guarded, as it was; .git files by what is in them.
        self.before: dict[str, Before] = {}
        self.links_before: dict[str, str] = {}
        self.doubtful: set[str] = set()
        # Files that git runs or obeys in such a repository, which are different now.
        self.changed: list[str] = []
        # Tracked files that git keeps out of status and diff, by git directory; and what this session added to them.
        self.hidden_before: dict[str, set[str]] = {}
        self.hidden: dict[str, list[str]] = {}
        # What installed hooks read, and lists of files that git leaves out, as they were.
        self.managed = {path: text for each in workspaces for path, text in hook_managers(each).items()}
        self.managed |= {path: text_of(path) for each in self.known for path in [join(each, "info", "exclude")]}
        # Only what changed between two times counts, see ``look_back``.
        self.window: tuple[float, float] | None = None
        self.blocked: list[tuple[str, str, str]] = []
        # Workspaces with more in them than can be looked at, and directories that this session closed to reading.
        self.unseen: list[str] = []
        # The session cannot set this time on what it makes; a file system's clock may lag by a tick.
        self.began = time.time() - 0.02
        # Hooks that git copies into each new repository.
        self._templates: set[tuple[str, str]] | None = None
        self._done = threading.Event()
        self._failed: list[Exception] = []
        self._thread = threading.Thread(target=self._noting, args=(self._look_on,), daemon=True)
        self._survey = threading.Thread(target=self._noting, args=(self._look_around,), daemon=True)

    def start(self) -> None:
        self._survey.start()
        self._thread.start()

    def _noting(self, look: Callable[[], None]) -> None:
        """``look``, and what stops it: the terminal is Claude Code's, so that is told at the end."""
        try:
            look()
        except Exception as error:
            self._failed.append(error)

    def _look_around(self) -> None:
        """Repositories of the user's that no mount guards: those that lie deeper than the fence goes, for instance."""
        guarded = self.known - self.unguarded
        for place in self.places:
            named, repositories = scan(place, LEVELS, LIMIT, (), guarded=())
            for link in named:
                if basename(link) == ".git" and link not in guarded and not self._is_new(link):
                    self.known.add(link)
                    self.links_before[link] = text_of(link, os.O_NOFOLLOW)
            for path in repositories:
                if path not in guarded and self._knows(path):
                    for each in [*modules(path), *worktree_entries(path)]:
                        self._knows(each)
        if self.ledger is not None:
            self.ledger.know(self.known - guarded)
        self.hidden_before = {each: hidden_files(each) for each in sorted(self.known)}
        lists = [join(each, "info", "exclude") for each in self.known]
        self.managed |= {path: text_of(path) for path in lists if path not in self.managed and not self._is_new(path)}

    def _knows(self, git_dir: str) -> bool:
        """Note what a git directory says, if it was there when the session began. git itself changes the directory all the
        time: where only its files are old, another one may have come here under its name, and that is told."""
        if git_dir not in self.unguarded and self._is_new(git_dir):
            if self._is_new(join(git_dir, "config")) and self._is_new(join(git_dir, "commondir")):
                return False
            self.doubtful.add(git_dir)
        self.before[git_dir] = before(git_dir, self.workspaces, self.began)
        self.known.add(git_dir)
        return True

    def _is_new(self, path: str) -> bool:
        """Whether something at ``path`` was made, renamed or changed since the session began."""
        with suppress(OSError):
            return os.lstat(path).st_ctime >= self.began
        return True

    def _look_on(self) -> None:
        looks = 0
        while not self._done.wait(PAUSE):
            self.look()
            looks += 1
            if self.ledger is not None and looks % LIFE_SIGN == 0:
                self.ledger.beat()

    def stop(self) -> list[tuple[str, str, str]]:
        """What was renamed: the path, what it would have done, the path that it has now. Raises what has stopped a look
        before."""
        self._done.set()
        self._thread.join(timeout=5)
        self._survey.join(timeout=SURVEY)
        if self._survey.is_alive():
            self.unseen += self.places
        self.look_through()
        self.changed += [join(each, "config") for each in sorted(self.doubtful)
                         if has_hooks(each) or git_config.unusual(text_of(join(each, "config")))]  # fmt: skip
        for git_dir, names in self.hidden_before.items():
            path = join(git_dir, "info", "exclude")
            if (now := text_of(path)) != self.managed.get(path, "") and now:
                self.changed.append(path)
            if new := sorted(hidden_files(git_dir) - names):
                self.hidden[git_dir] = new
        for workspace in self.workspaces:
            repo = find_repository(workspace)[0]
            if repo is not None and has_hooks(repo.common_dir):
                self.changed += [
                    path for path, text in hook_managers(workspace).items() if text != self.managed.get(path)
                ]
        if self._failed:
            raise self._failed[0]
        return self.blocked

    def look_back(self, began: float, ended: float) -> list[tuple[str, str, str]]:
        """Instead of ``start`` and ``stop``: for a session that ended without a last look. Only what last changed between
        these two times (seconds since the epoch) is put out of action: since then the user has worked here, too."""
        self.began, self.window = began, (began, ended)
        self.fresh = [each for each in self.workspaces if join(each, ".git") not in self.known]
        self.look_through()
        return self.blocked

    def look_through(self) -> None:
        """Look at everything in the workspaces."""
        self.look()
        for git_dir, said in list(self.before.items()):
            self._compare(git_dir, said)
        for place in self.places:
            cut: list[str] = []
            named, repositories = scan(place, LEVELS, LIMIT, (), cut, guarded=())
            self.unseen += [path for path in dict.fromkeys(cut) if path == place or self._is_new(path)]
            for link in named:
                if basename(link) == ".git" and (link not in self.known or self._is_turned(link)):
                    self._look_at_link(place, link, {*self.known, *repositories})
            # _look_within sees to these.
            entries = {entry for each in {*self.known, *repositories} for entry in worktree_entries(each)}
            for git_dir in repositories:
                if git_dir not in self.known and git_dir not in entries:
                    self._look_at_fresh(place, relpath(git_dir, place))
            for git_dir in {*self.known, *repositories}:
                self._look_within(git_dir)
        gone = {path for path, _, _ in self.blocked}
        self.unseen = [path for path in self.unseen if path not in gone]

    def _is_turned(self, link: str) -> bool:
        """Whether a ``.git`` that was there is a file now that points elsewhere."""
        then = self.links_before.get(link)
        return link in self.before if then is None else text_of(link, os.O_NOFOLLOW) != then

    def _compare(self, git_dir: str, said: Before) -> None:
        """What this session has changed in a repository that no mount guards."""
        try:
            with opened("/", git_dir.lstrip("/")) as directory:
                for name in ("config", "config.worktree"):
                    # What the user's own links lead to, and what is too long to be judged, stays while it is the same.
                    if (state(join(git_dir, name)), text_of(join(git_dir, name))) != said.state_of(name):
                        self._look_at_config(directory, git_dir, name, said.texts.get(name, ""), put_back=True)
                if (whole_text("commondir", directory) or "") != said.texts.get("commondir", ""):
                    what = "it gives the repository another configuration"
                    self._block(directory, git_dir, "commondir", what, said.texts.get("commondir", ""))
                self._look_at_hooks(directory, "/", git_dir.lstrip("/"), said)
        except PermissionError:
            self.unseen.append(git_dir)
        except OSError:
            if os.path.islink(git_dir):
                what = "it takes the place of a repository"
                self._block_in("/", dirname(git_dir).lstrip("/"), basename(git_dir), what)
            return
        self.changed += differences(git_dir, said, self.workspaces)

    def _look_within(self, git_dir: str) -> None:
        """What this session made in a repository, new or not, for git to take as a submodule's or a worktree's."""
        cut: list[str] = []
        seen = self.known.union(new for _, _, new in self.blocked)
        for module in modules(git_dir, cut):
            if module not in seen:
                self._look_at_fresh("/", module.lstrip("/"))
        self.unseen += [path for path in cut if path not in self.unseen]
        mine = [each for each in worktree_entries(git_dir) if each not in self.known or each in self.single]
        if git_dir in self.single:
            mine.append(git_dir)
        # git copies it into a new worktree.
        usual = text_of(join(git_dir, "config.worktree")) if git_dir not in self.single else ""
        for entry in mine:
            with suppress(OSError), opened("/", entry.lstrip("/")) as directory:
                self._look_at_config(directory, entry, "config.worktree", usual)
                if entry not in self.known and not self._is_worktrees_entry(entry, whole_text("commondir", directory)):
                    self._block(directory, entry, "commondir", "it would give a worktree another configuration")

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
            # Claude Code's own sandbox puts empty files in such places.
            if os.path.lexists(path) and not is_empty_file(path):
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

    def _look_at_config(self, directory: int, path: str, name: str, then: str = "", put_back: bool = False) -> None:
        """One of the two configurations of the repository at ``path``, which is opened: what is unusual in it, and was
        not in the text that it had ``then``. ``put_back``: it gets that text again."""
        text = whole_text(name, directory)
        if text is None:
            what = "git would obey it, and it is no plain file that can be looked at"
        else:
            usual = self._unusual(path, then)
            unusual = [each for each in self._unusual(path, text) if each not in usual]
            if not unusual:
                return
            what = f"a session must not make a repository's configuration say {unusual[0][:100]}"
        self._block(directory, path, name, what, then if put_back else "")

    def _unusual(self, git_dir: str, text: str) -> list[str]:
        """What a repository's configuration says and a session may not write there."""
        return git_config.unusual(text) + [
            f"core.worktree={value}" for section, _, key, value in git_config.entries(text)
            if (section, key) == ("core", "worktree") and not self._is_ours(git_dir, value)
        ]  # fmt: skip

    @staticmethod
    def _is_worktrees_entry(git_dir: str, common: str | None) -> bool:
        """Whether ``git_dir`` is what ``git worktree add`` makes in a repository, by what its ``commondir`` says."""
        parent = dirname(git_dir)
        return bool(common) and basename(parent) == "worktrees" and (
            resolved(git_config.only_path(str(common)), git_dir) == realpath(dirname(parent))
        )  # fmt: skip

    def _is_ours(self, git_dir: str, value: str) -> bool:
        """Whether a working tree that a new repository names lies where it may: a checkout overwrites what is there."""
        tops = [*self.workspaces, *(dirname(each) for each in self.known if basename(each) == ".git")]
        return not value.startswith("~") and any(covers(top, resolved(value, git_dir)) for top in tops)

    def _look_at_hooks(self, directory: int, top: str, below: str, then: Before = NOTHING) -> None:
        path = join(top, below)
        try:
            if stat.S_ISLNK(os.lstat("hooks", dir_fd=directory).st_mode):
                if os.readlink("hooks", dir_fd=directory) == then.texts.get("hooks"):
                    # What it leads to is compared by name.
                    return
                self._block(directory, path, "hooks", "git would run hooks from where it leads")
                return
            with opened(top, join(below, "hooks")) as hooks:
                for name in os.listdir(hooks):
                    if name.endswith(".sample") or BLOCKED in name:
                        continue
                    if name in then.hooks and state(join(path, "hooks", name)) == then.hooks[name]:
                        continue
                    if (name, whole_text(name, hooks)) not in self._template_hooks():
                        self._block(hooks, join(path, "hooks"), name, "git would run it as a hook")
        except PermissionError:
            self._block(directory, path, "hooks", "git would run hooks in it, and nobody may look at them")
        except (FileNotFoundError, NotADirectoryError):
            return

    def _template_hooks(self) -> set[tuple[str, str]]:
        if self._templates is None:
            self._templates = template_hooks(self.places)
        return self._templates

    def _block_in(self, top: str, below: str, name: str, what: str) -> None:
        path = join(top, below).rstrip("/")
        try:
            with opened(top, below) as directory:
                self._block(directory, path, name, what)
        except FileNotFoundError:
            return
        except OSError:
            # Behind a link, for instance: nothing is touched there.
            self._tell(join(path, name))

    def _tell(self, path: str) -> None:
        if path not in self.changed:
            self.changed.append(path)

    def _block(self, directory: int, path: str, name: str, what: str, then: str = "") -> None:
        """Rename ``name`` in an opened directory; ``path`` is that directory's, for the report. ``then``: the text that it
        gets again."""
        try:
            status = os.lstat(name, dir_fd=directory)
            if self.window and not self.window[0] <= status.st_ctime <= self.window[1]:
                return
            new = _put_aside(directory, name)
        except FileNotFoundError:
            return
        except OSError:
            self._tell(join(path, name))
            return
        if then and not restore(directory, name, then, status.st_mode):
            what += ", and there was no room to put its text back"
        self.blocked.append((join(path, name), what, join(path, new)))


def _put_aside(directory: int, name: str) -> str:
    """Rename ``name`` in an opened directory; the name that it has then. Raises OSError."""
    # Whoever made it may have taken that right away first.
    if not (mode := os.fstat(directory).st_mode) & stat.S_IWUSR:
        os.fchmod(directory, stat.S_IMODE(mode) | stat.S_IRWXU)
    for ending in ("", *map(str, range(1, 10)), f".{time.time_ns()}"):
        try:
            os.lstat(new := f"{name}{BLOCKED}{ending}", dir_fd=directory)
        except FileNotFoundError:
            break
    os.rename(name, new, src_dir_fd=directory, dst_dir_fd=directory)
    return new


def is_empty_file(path: str) -> bool:
    with suppress(OSError):
        status = os.lstat(path)
        return stat.S_ISREG(status.st_mode) and status.st_size == 0
    return False


def restore(directory: int, name: str, text: str, mode: int) -> bool:
    """Give a file that was renamed its text again, for those who could read it. Whether that was done."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(name, flags, mode & 0o644, dir_fd=directory)
    except OSError:
        return False
    try:
        with open(descriptor, "wb") as file:
            file.write(os.fsencode(text))
        return True
    except OSError:
        with suppress(OSError):
            os.unlink(name, dir_fd=directory)
        return False
