"""Checks what a session wrote into a repository, and puts out of action what git would run outside the fence."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cached_property
from os.path import basename, dirname, islink, join

from claude_local.fence import git_config
from claude_local.fence.files import read_whole_text, realpath, resolve
from claude_local.fence.plan import covers
from claude_local.fence.quarantine import SUFFIX, Quarantine, open_directory
from claude_local.fence.snapshot import Snapshot, state_of, template_hooks

NOTHING = Snapshot()
# Bytes that a session may add to a configuration; that many take 0.1 s to read. git's own have less than a thousand.
CONFIG_SIZE = 64 << 10


class RepositoryCheck:
    """``workspaces``: where working trees may lie. ``known``: git directories that existed before the session; theirs
    may too. ``writable``: every directory that the session may write."""

    def __init__(
        self, quarantine: Quarantine, workspaces: Sequence[str], known: Collection[str], writable: Sequence[str]
    ) -> None:
        self.quarantine = quarantine
        self.workspaces, self.known, self.writable = workspaces, known, writable

    def check_new_hooks(self, top: str, below: str) -> None:
        """Put out of action the hooks of the repository ``below`` in ``top``, which the session made. They are what is
        quickly found and surely run."""
        with suppress(OSError), open_directory(top, below) as directory:
            self._check_hooks(directory, top, below)

    def check_new(self, top: str, below: str) -> None:
        """Check the ``.git`` or bare repository ``below`` in ``top``, which the session made."""
        path = join(top, below)
        try:
            kind = os.lstat(path).st_mode
        except OSError:
            return
        if not stat.S_ISDIR(kind):
            self.quarantine.block_path(top, below, "it points git to a repository that the session chose")
            return
        try:
            with open_directory(top, below) as directory:
                self.check_config(directory, path, "config")
                self.check_config(directory, path, "config.worktree")
                self.check_commondir(directory, path)
                self._check_hooks(directory, top, below)
        except PermissionError:
            self.quarantine.block_path(top, below, "git may read it, but claude-local cannot")
        except OSError:
            # It was removed meanwhile.
            return

    def check_existing(self, git_dir: str, snapshot: Snapshot) -> bool:
        """Compare a repository that no mount guards with its snapshot, and put the former texts back. False where the
        directory cannot be read."""
        is_readable = True
        try:
            with open_directory("/", git_dir) as directory:
                for name in ("config", "config.worktree"):
                    # A symlink of the user's, or a file that is too long to judge, may stay while it is the same.
                    if not snapshot.is_unchanged(git_dir, name):
                        self.check_config(directory, git_dir, name, snapshot.text(name), put_back=True)
                if (read_whole_text("commondir", directory) or "") != snapshot.text("commondir"):
                    reason = "it gives the repository other hooks and settings"
                    self.quarantine.block(directory, git_dir, "commondir", reason, snapshot.text("commondir"))
                self._check_hooks(directory, "/", git_dir, snapshot)
        except PermissionError:
            is_readable = False
        except OSError:
            if islink(git_dir):
                self.quarantine.block_path("/", git_dir, "it replaces a repository")
            return True
        for path in snapshot.changed_files(git_dir, self.workspaces):
            self.quarantine.report(path)
        return is_readable

    def check_config(
        self, directory: int, git_dir: str, name: str, former: str = "", *, put_back: bool = False
    ) -> None:
        """Check the configuration ``name`` in the open ``git_dir`` for entries that a session must not write, those
        in the ``former`` text aside. ``put_back``: write the former text back."""
        text = read_whole_text(name, directory, len(former.encode(errors="surrogateescape")) + CONFIG_SIZE)
        if text is None:
            reason = "git would obey it, and it is not a regular file that claude-local can read, or very long"
        else:
            allowed = self._unsafe_entries(git_dir, former)
            unsafe = [each for each in self._unsafe_entries(git_dir, text) if each not in allowed]
            if not unsafe:
                return
            reason = f"a session must not set {unsafe[0][:100]} in a repository"
        self.quarantine.block(directory, git_dir, name, reason, former if put_back else "")

    def _unsafe_entries(self, git_dir: str, text: str) -> list[str]:
        unsafe = git_config.unsafe_entries(text)
        return unsafe + [
            f"core.worktree={each}" for each in git_config.working_trees(text) if not self._may_hold(git_dir, each)
        ]

    def _may_hold(self, git_dir: str, working_tree: str) -> bool:
        """Whether the working tree that a repository names lies in a workspace: a checkout overwrites what is there."""
        tops = [*self.workspaces, *(dirname(each) for each in self.known if basename(each) == ".git")]
        return not working_tree.startswith("~") and any(covers(top, resolve(working_tree, git_dir)) for top in tops)

    def check_commondir(self, directory: int, git_dir: str) -> None:
        """Allow a ``commondir`` only as ``git worktree add`` writes it: it names the repository that holds
        ``git_dir``."""
        common = read_whole_text("commondir", directory)
        parent = dirname(git_dir)
        if not common or basename(parent) != "worktrees" or (
            resolve(git_config.path_in(common), git_dir) != realpath(dirname(parent))
        ):  # fmt: skip
            reason = "it would give the repository other hooks and settings"
            self.quarantine.block(directory, git_dir, "commondir", reason)

    def _check_hooks(self, directory: int, top: str, below: str, snapshot: Snapshot = NOTHING) -> None:
        """Put out of action the hooks in the open git directory that are neither in the snapshot nor in git's
        templates."""
        path = join(top, below)
        try:
            if stat.S_ISLNK(os.lstat("hooks", dir_fd=directory).st_mode):
                # The files behind the user's own symlink are compared by path.
                if os.readlink("hooks", dir_fd=directory) != snapshot.hooks_link:
                    self.quarantine.block(directory, path, "hooks", "it leads git to other hooks")
                return
            with open_directory(top, join(below, "hooks")) as hooks:
                for name in os.listdir(hooks):
                    if name.endswith(".sample") or SUFFIX in name:
                        continue
                    if name in snapshot.hooks and state_of(join(path, "hooks", name)) == snapshot.hooks[name]:
                        continue
                    if not self._is_template(name, hooks):
                        self.quarantine.block(hooks, join(path, "hooks"), name, "git would run it as a hook")
        except PermissionError:
            reason = "git may run the hooks in it, and claude-local cannot read them"
            self.quarantine.block(directory, path, "hooks", reason)
        except (FileNotFoundError, NotADirectoryError):
            return

    def _is_template(self, name: str, hooks: int) -> bool:
        """Whether the hook ``name`` in an open directory is one that git copied there."""
        # There can be very many: only those that may be one are read.
        same = [text for other, text in self._template_hooks if other == name]
        return bool(same) and read_whole_text(name, hooks) in same

    @cached_property
    def _template_hooks(self) -> set[tuple[str, str]]:
        return template_hooks(self.writable)
