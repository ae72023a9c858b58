"""Watches the workspaces of a running session for what no mount can keep away, above all new repositories.

A session may make a repository: ``git init`` is everyday work. But what git would run there outside the fence is
renamed, within a second or when the session has ended, and the launcher reports it at the end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from os.path import basename, dirname, isdir, islink, join, relpath

from claude_local.fence import git_config
from claude_local.fence.config_copies import ConfigCopies
from claude_local.fence.deadline import Deadline
from claude_local.fence.files import is_empty_file, read_text
from claude_local.fence.git_repository import find_repository, submodule_git_dirs, worktree_git_dirs
from claude_local.fence.ledger import Ledger
from claude_local.fence.plan import covers, outermost
from claude_local.fence.quarantine import Blocked, Quarantine, open_directory
from claude_local.fence.repository_check import RepositoryCheck
from claude_local.fence.scan import SHAPE, Scan, is_bare_repository, scan
from claude_local.fence.snapshot import Snapshot, has_hooks, hook_manager_configs, take_snapshot
from claude_local.fence.tracked_names import Tracked, new_names, read_tracked

# Seconds between two looks, each of them about forty calls of lstat.
INTERVAL = 0.25
# Looks between two signs of life in the ledger.
LOOKS_PER_BEAT = 20
# Levels and entries of a workspace in the last look (a million entries take 1.4 s). No path in Linux has more levels.
LEVELS, LIMIT = 4096, 2_000_000
# Seconds that the first look at the workspaces may still take when the session has ended.
SURVEY_TIMEOUT = 30.0


class Watch:
    """Call ``start`` when the session starts and ``stop`` when it has ended, or ``look_back`` for a session that was
    killed.

    ``forbidden``: paths that do not exist and must not appear, and what each would do. ``symlinks``: guarded symlinks
    and their targets. ``known``: git directories and ``.git`` files that exist; ``unguarded``: those of them that no
    mount guards. ``elsewhere``: what the session may write besides the workspaces.
    """

    def __init__(
        self, workspaces: Sequence[str], forbidden: dict[str, str], symlinks: dict[str, str], known: Iterable[str] = (),
        unguarded: Iterable[str] = (), ledger: Ledger | None = None, elsewhere: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self.workspaces, self.known, self.unguarded = list(workspaces), set(known), set(unguarded)
        self.writable = outermost([*workspaces, *elsewhere])
        self.forbidden, self.symlinks, self.ledger = dict(forbidden), dict(symlinks), ledger
        self.quarantine = Quarantine()
        self.check = RepositoryCheck(self.quarantine, self.workspaces, self.known, self.writable)
        # Tracked files that this session hid from git status, by git directory.
        self.hidden_files: dict[str, list[str]] = {}
        # Guarded names that came into git's index and refs: the places by path, by git directory.
        self.tracked: dict[str, dict[str, list[str]]] = {}
        # Workspaces that are too large to look through, and directories that the session closed to reading.
        self.unsearched: list[str] = []
        # What the last look did not reach before its deadline.
        self.deadline = Deadline()
        self.unchecked: list[str] = []
        # The session cannot set a ctime. The clock of a file system may lag by a tick.
        self.began = time.time() - 0.02
        # The session's copies of git configurations.
        self.copies: ConfigCopies | None = None

        self._not_bare = [each for each in workspaces if not is_bare_repository(each)]
        self._without_git = [each for each in workspaces if not os.path.lexists(join(each, ".git"))]
        self._without_worktree_config = {each for each in self.known if not os.path.lexists(_worktree_config(each))}
        # What existed at the start: unguarded repositories, .git files, and what hides files or configures hooks.
        self._snapshots: dict[str, Snapshot] = {}
        self._git_files: dict[str, str] = {}
        self._tracked: dict[str, Tracked] = {}
        self._excludes = {each: read_text(_exclude(each)) for each in self.known}
        # Repositories whose configuration is old and whose shape is new: a session may have completed what an earlier
        # one left in pieces.
        self._doubtful: set[str] = set()
        self._hook_configs = {path: text for each in workspaces for path, text in hook_manager_configs(each).items()}

        self._stopped = threading.Event()
        self._errors: list[Exception] = []
        self._looking = threading.Thread(target=self._keep_error, args=(self._look_repeatedly,), daemon=True)
        self._survey = threading.Thread(target=self._keep_error, args=(self._survey_workspaces,), daemon=True)

    @property
    def blocked(self) -> list[Blocked]:
        """The files that were renamed."""
        return self.quarantine.blocked

    @property
    def changed(self) -> list[str]:
        """Files that git runs or obeys and that are new or different, and were not renamed."""
        return self.quarantine.changed

    def start(self) -> None:
        """Look at what exists, and then every INTERVAL seconds at what appears."""
        self._survey.start()
        self._looking.start()

    def stop(self) -> list[Blocked]:
        """Look at everything once more, until the deadline; the files that were renamed. Raises the first error of an
        earlier look."""
        self.deadline.start()
        self._stopped.set()
        self._looking.join(timeout=5)
        for _ in range(int(SURVEY_TIMEOUT / INTERVAL)):
            if not self._survey.is_alive() or self.deadline.is_over():
                break
            self._survey.join(INTERVAL)
        if self._survey.is_alive():
            self.unsearched += self.writable
        self._look_through()
        self._report_doubtful()
        self._report_tracked()
        self._report_hook_configs()
        if self._errors:
            raise self._errors[0]
        return self.blocked

    def look_back(self, began: float, ended: float) -> list[Blocked]:
        """Look at what a session left that was killed, instead of ``start`` and ``stop``. Only what last changed
        between these times (seconds since the epoch) is renamed: the user has worked here since."""
        self.deadline.start()
        self.began, self.quarantine.window = began, (began, ended)
        self._without_git = [each for each in self.workspaces if join(each, ".git") not in self.known]
        self._look_through()
        return self.blocked

    def _keep_error(self, act: Callable[[], None]) -> None:
        """Run ``act``; an error is raised by ``stop``, because the terminal is Claude Code's until then."""
        try:
            act()
        except Exception as error:
            self._errors.append(error)

    def _is_new(self, path: str) -> bool:
        """Whether ``path`` was made, renamed or changed since the session began."""
        with suppress(OSError):
            return os.lstat(path).st_ctime >= self.began
        return True

    # --- when the session starts --------------------------------------------------------------------------------------

    def _survey_workspaces(self) -> None:
        """Take snapshots of the repositories that no mount guards, for instance because they lie too deep."""
        guarded = self.known - self.unguarded
        self._tracked = {git_dir: read_tracked(git_dir) for git_dir in filter(isdir, sorted(self.known))}
        for top in self.writable:
            content = _scan_all(top, self.deadline)
            for link in _git_files_in(content):
                if link not in guarded and not self._is_new(link):
                    self.known.add(link)
                    self._git_files[link] = read_text(link, os.O_NOFOLLOW)
            for git_dir in content.repositories:
                if git_dir not in guarded and self._remember(git_dir):
                    for each in [*submodule_git_dirs(git_dir), *worktree_git_dirs(git_dir)]:
                        self._remember(each)
        if self.ledger is not None:
            self.ledger.know(self.known - guarded)
        more = sorted(self.known - self._tracked.keys())
        self._tracked |= {git_dir: read_tracked(git_dir) for git_dir in filter(isdir, more)}
        for git_dir in self.known - self._excludes.keys():
            if not self._is_new(_exclude(git_dir)):
                self._excludes[git_dir] = read_text(_exclude(git_dir))

    def _remember(self, git_dir: str) -> bool:
        """Take a snapshot of a git directory. False where the session made it."""
        if git_dir not in self.unguarded and self._is_new(git_dir):
            # git itself changes the directory all the time, so its files decide.
            if self._is_new(join(git_dir, "config")) and self._is_new(join(git_dir, "commondir")):
                return False
            if any(os.path.lexists(each) and self._is_new(each) for each in (join(git_dir, name) for name in SHAPE)):
                self._doubtful.add(git_dir)
        self._snapshots[git_dir] = take_snapshot(git_dir, self.workspaces, self.began)
        self.known.add(git_dir)
        return True

    # --- while it runs ------------------------------------------------------------------------------------------------

    def _look_repeatedly(self) -> None:
        looks = 0
        while not self._stopped.wait(INTERVAL):
            self.look()
            looks += 1
            if self.ledger is not None and looks % LOOKS_PER_BEAT == 0:
                self.ledger.beat()

    def look(self) -> None:
        """Look at git's configurations, the paths that must not appear, the guarded symlinks, and the tops of the
        workspaces."""
        if self.copies is not None:
            self.copies.sync()
        for path, reason in self.forbidden.items():
            if os.path.lexists(path) and not is_empty_file(path):
                self.quarantine.block_path("/", path, reason)
        for path, target in self.symlinks.items():
            with suppress(OSError):
                if not islink(path) or os.readlink(path) != target:
                    self.quarantine.block_path("/", path, "it replaces a guarded symlink")
        for workspace in self._not_bare:
            if is_bare_repository(workspace):
                reason = "git would take the workspace for a repository with hooks of its own"
                self.quarantine.block_path(workspace, "HEAD", reason)
        for workspace in self._without_git:
            self.check.check_new(workspace, ".git")

    # --- when it has ended --------------------------------------------------------------------------------------------

    def _look_through(self) -> None:
        """Look at everything that the session could write: hooks first, because they take the least time."""
        self.look()
        contents = {top: self._scan_all(top) for top in self.writable}
        repositories = self.known.union(*(content.repositories for content in contents.values()))
        worktrees = {each for git_dir in repositories for each in worktree_git_dirs(git_dir)}
        new = {git_dir: top for top, content in contents.items() for git_dir in content.repositories
               if git_dir not in self.known and git_dir not in worktrees}  # fmt: skip
        links = {link: top for top, content in contents.items() for link in _git_files_in(content)
                 if link not in self.known or self._is_redirected(link)}  # fmt: skip

        def check_existing(git_dir: str) -> None:
            if not self.check.check_existing(git_dir, self._snapshots[git_dir]):
                self.unsearched.append(git_dir)

        def check_link(link: str) -> None:
            if not self._is_inside(link, repositories):
                self.check.check_new(links[link], relpath(link, links[link]))

        def check_inner(git_dir: str) -> None:
            self._check_submodules(git_dir)
            self._check_worktrees(git_dir)

        self._each(new, lambda git_dir: self.check.check_new_hooks(new[git_dir], relpath(git_dir, new[git_dir])))
        self._each(list(self._snapshots), check_existing)
        self._each(links, check_link)
        self._each(new, lambda git_dir: self.check.check_new(new[git_dir], relpath(git_dir, new[git_dir])))
        self._each(sorted(repositories), check_inner)
        renamed = {each.path for each in self.blocked}
        self.unsearched = [path for path in self.unsearched if path not in renamed]

    def _scan_all(self, top: str) -> Scan:
        """All of ``top``. Where that is not possible, ``unsearched`` or ``unchecked`` gets it."""
        content = _scan_all(top, self.deadline)
        if self.deadline.why:
            self.unchecked.append(top)
        else:
            self.unsearched += [path for path in dict.fromkeys(content.incomplete) if path == top or self._is_new(path)]
        return content

    def _each(self, paths: Iterable[str], check: Callable[[str], None]) -> None:
        """Check each path; after the deadline ``unchecked`` gets the others."""
        for path in paths:
            if self.deadline.is_over():
                self.unchecked.append(path)
            else:
                check(path)

    def _is_redirected(self, link: str) -> bool:
        """Whether a ``.git`` that existed is a file now that points elsewhere."""
        former = self._git_files.get(link)
        return link in self._snapshots if former is None else read_text(link, os.O_NOFOLLOW) != former

    def _is_inside(self, link: str, repositories: set[str]) -> bool:
        """Whether a ``.git`` file belongs to a worktree or a submodule of one of the ``repositories``."""
        repo = None if islink(link) else find_repository(dirname(link))[0]
        if repo is None or repo.link != link:
            return False
        is_worktree = repo.common_dir != repo.git_dir and repo.common_dir in repositories
        is_submodule = any(covers(join(each, "modules"), repo.git_dir) for each in repositories)
        return repo.git_dir in self.known or is_worktree or is_submodule

    def _check_submodules(self, git_dir: str) -> None:
        """Check what git would take for a submodule of a repository."""
        incomplete: list[str] = []
        checked = self.known.union(each.new_path for each in self.blocked)
        modules = (module for module in submodule_git_dirs(git_dir, incomplete) if module not in checked)
        self._each(modules, lambda module: self.check.check_new("/", module))
        self.unsearched += [path for path in incomplete if path not in self.unsearched]

    def _check_worktrees(self, git_dir: str) -> None:
        """Check the configurations of a repository's worktrees that are new."""
        without = self._without_worktree_config
        candidates = [each for each in worktree_git_dirs(git_dir) if each not in self.known or each in without]
        # git copies the repository's own one into a new worktree.
        usual = "" if git_dir in without else read_text(_worktree_config(git_dir))

        def check(each: str) -> None:
            with suppress(OSError), open_directory("/", each) as directory:
                self.check.check_config(directory, each, "config.worktree", usual)
                if each not in self.known:
                    self.check.check_commondir(directory, each)

        self._each([*candidates, *([git_dir] if git_dir in without else [])], check)

    def _report_doubtful(self) -> None:
        """Report the repositories that may be the session's and in which something would run."""
        for git_dir in sorted(self._doubtful):
            config = join(git_dir, "config")
            if has_hooks(git_dir) or git_config.unsafe_entries(read_text(config)):
                self.quarantine.report(config)

    def _report_tracked(self) -> None:
        """Report what came into the index or the refs under a guarded name, and the files that the session hid from
        git: by marks in the index, or by ``info/exclude``."""

        def look(git_dir: str) -> None:
            exclude = read_text(_exclude(git_dir))
            # git writes one into each new repository.
            if git_dir in self.known and exclude and exclude != self._excludes.get(git_dir, ""):
                self.quarantine.report(_exclude(git_dir))
            before, now = self._tracked.get(git_dir, Tracked(is_readable=False)), read_tracked(git_dir)
            if hidden := sorted(now.hidden - before.hidden):
                self.hidden_files[git_dir] = hidden
            if places := new_names(git_dir, before, now):
                self.tracked[git_dir] = places

        new = [join(each, ".git") for each in self._without_git]
        self._each(filter(isdir, [*self._tracked, *new]), look)

    def _report_hook_configs(self) -> None:
        """Report changes to what installed hooks read, where hooks are installed. Changing it is everyday work."""
        for workspace in self.workspaces:
            repo = find_repository(workspace)[0]
            if repo is not None and has_hooks(repo.common_dir):
                for path, text in hook_manager_configs(workspace).items():
                    if text != self._hook_configs.get(path):
                        self.quarantine.report(path)


def _worktree_config(git_dir: str) -> str:
    return join(git_dir, "config.worktree")


def _exclude(git_dir: str) -> str:
    return join(git_dir, "info", "exclude")


def _scan_all(top: str, deadline: Deadline) -> Scan:
    return scan(top, levels=LEVELS, limit=LIMIT, skip=(), guarded=(), is_over=deadline.is_over)


def _git_files_in(content: Scan) -> list[str]:
    return [path for path in content.guarded if basename(path) == ".git"]
