"""Watches a running session's workspace for what no mount can keep away: git directories that come about.

A session may make a repository (``git init`` is everyday work), and git takes some files at their word wherever they
appear. What would run outside the fence is renamed as soon as it is seen, and the user is told at the end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from os.path import isdir, isfile, islink, join

from claude_local.fence import repository
from claude_local.runtime.fence.observe import repository_shape, scan, text_of

# Appended to the name of what was put out of action.
BLOCKED = ".claude-local-blocked"
# Seconds between two looks: about forty lstat calls each.
PAUSE = 0.25


class Watch:
    """Looks every PAUSE seconds, and more thoroughly in ``stop``. ``unwanted``: path -> what it would do, none of which
    is there now. ``workspaces`` are looked at for repositories that come about; ``known`` are those that were there."""

    def __init__(self, workspaces: Sequence[str], unwanted: dict[str, str], known: Iterable[str] = ()) -> None:
        self.unwanted = dict(unwanted)
        self.workspaces, self.known = list(workspaces), set(known)
        self.bare = [each for each in workspaces if not repository_shape(each)]
        self.fresh = [each for each in workspaces if not os.path.lexists(join(each, ".git"))]
        self.blocked: list[tuple[str, str]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _look_on(self) -> None:
        while not self._done.wait(PAUSE):
            self.look()

    def stop(self) -> list[tuple[str, str]]:
        """Each path that was renamed, and what it would have done."""
        self._done.set()
        self._thread.join(timeout=5)
        self.look()
        for workspace in self.workspaces:
            for git_dir in scan(workspace)[1]:
                if git_dir not in self.known:
                    self._look_at_fresh(git_dir)
        return self.blocked

    def look(self) -> None:
        for path, what in self.unwanted.items():
            self._block(path, what)
        for workspace in self.bare:
            if repository_shape(workspace):
                self._block(join(workspace, "HEAD"), "git would take the workspace for a repository with its own hooks")
        for workspace in self.fresh:
            self._look_at_fresh(join(workspace, ".git"))

    def _look_at_fresh(self, link: str) -> None:
        if isfile(link) or islink(link):
            self._block(link, "it points git to a repository that this session chose")
        elif isdir(link):
            if any(repository.named_files(text_of(join(link, "config")))) or any(
                repository.named_directories(text_of(join(link, "config")))
            ):
                self._block(join(link, "config"), "the new repository's configuration runs programs")
            self._block(join(link, "commondir"), "it would give the new repository another configuration")
            with suppress(OSError):
                for name in os.listdir(join(link, "hooks")):
                    if not name.endswith((".sample", BLOCKED)):
                        self._block(join(link, "hooks", name), "git would run it as a hook of the new repository")

    def _block(self, path: str, what: str) -> None:
        if not os.path.lexists(path):
            return
        free = next(f"{path}{BLOCKED}{number or ''}" for number in range(1000)
                    if not os.path.lexists(f"{path}{BLOCKED}{number or ''}"))  # fmt: skip
        with suppress(OSError):
            os.rename(path, free)
            self.blocked.append((path, what))
