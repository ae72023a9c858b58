"""Refuses a workspace that no session may write, and guards what programs outside obey in the others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from os.path import basename, dirname, isdir, islink, join

from claude_local.fence import policy
from claude_local.fence.files import realpath
from claude_local.fence.git_guard import guard_git_dir, guard_named, guard_within
from claude_local.fence.plan import covers
from claude_local.fence.scan import scan
from claude_local.fence.survey import Places, Survey


class WorkspaceRefused(Exception):
    """A directory that no session may write as a whole; the message says why, ``fix`` what to do instead."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.fix = fix


def check_workspace(path: str, places: Places, survey: Survey) -> None:
    """Raises WorkspaceRefused when a session must not have ``path`` to write."""
    go = "cd into the project's own directory and start again"
    if path == "/":
        raise WorkspaceRefused("the workspace would be / : everything on this machine could be written", go)
    if covers(path, places.home):
        what = "your home directory" if path == places.home else f"{path}, which holds your home directory"
        raise WorkspaceRefused(f"the workspace would be {what}: its start-up files run outside the fence", go)
    if path in policy.EMPTIED:
        raise WorkspaceRefused(f"the workspace would be {path}: other programs' sockets and files are in it", go)
    for system in policy.SYSTEM_DIRECTORIES:
        if covers(policy.REMOVABLE, path) and path.count("/") > policy.REMOVABLE.count("/") + 1:
            break
        if covers(path, system) or (covers(system, path) and not covers(places.home, path)):
            raise WorkspaceRefused(f"the workspace {path} is part of the system ({system})", go)
    for own in places.own:
        if covers(path, own) or covers(own, path):
            raise WorkspaceRefused(f"the workspace {path} holds or belongs to claude-local's own files ({own})", go)
    for secret in [*survey.fence.emptied, *survey.fence.blanked, *survey.fence.scratch]:
        if covers(path, secret) or covers(secret, path):
            raise WorkspaceRefused(
                f"the workspace {path} holds or lies in {secret}, which sessions must not see",
                go + f", or show it with the setting fence_visible=[{json.dumps(secret)}]",
            )


def guard_workspace(survey: Survey, workspace: str, stubs: Iterable[str] = (), home: str = "") -> None:
    """Guard what runs later outside: read-only where it is there, a stub where it is not. ``stubs``: paths at which an
    empty thing is another session's stub. ``home``: whose configurations of git's count in the repositories, too."""
    fence = survey.fence
    survey.stubs |= set(stubs)
    if workspace not in fence.writable:
        fence.writable.append(workspace)
    trees = list(_worktrees(workspace))
    if trees or isdir(join(workspace, ".claude", "worktrees")):
        fence.reopened.append(join(workspace, ".claude", "worktrees"))
    tops = [workspace, *trees]
    cut: list[str] = []
    named, repositories = scan(workspace, cut=cut, more=trees)
    if workspace in cut:
        survey.remarks.append(
            f"{workspace} holds more than {policy.SCAN_LIMIT} files: editors' and shells' settings further down are not guarded, "
            "and repositories there are only compared at the end"
        )
    # Whatever the limit left out.
    always = [join(top, name) for top in tops for name in sorted(policy.GUARDED)]
    named = list(dict.fromkeys([*named, *(path for path in always if os.path.lexists(path))]))
    own = join(workspace, ".git")
    nested = [git_dir for git_dir in repositories if git_dir != own]
    unguarded = set(nested[policy.REPOSITORIES :])
    if unguarded:
        survey.remarks.append(
            f"{workspace} holds {len(nested)} repositories; {len(unguarded)} of them are not guarded, only compared at the "
            "end: until then git there may run what a session leaves in them. Start in one of its directories"
        )
        survey.unguarded |= unguarded
    for git_dir in repositories:
        survey.repositories.add(git_dir)
        if git_dir != own and git_dir not in unguarded:
            survey.pin_parents(join(git_dir, "HEAD"), workspace)
            guard_git_dir(survey, git_dir, policy.GIT_GUARDED_NESTED)
            top = dirname(git_dir) if basename(git_dir) == ".git" else git_dir
            guard_named(survey, top, [join(git_dir, "config"), join(git_dir, "config.worktree")], home)
            guard_within(survey, git_dir, home)
    for path in named:
        if basename(path) == ".git":
            survey.repositories.add(path)
        if survey.is_stub(path):
            continue
        if islink(path):
            survey.guard_way(path)
        fence.guarded.append(realpath(path))
        survey.pin_parents(path, workspace)
    for names, into in ((policy.STUB_DIRECTORIES, fence.stub_directories), (policy.STUB_FILES, fence.stub_files)):
        for path in (join(top, name) for top in tops for name in names):
            if not os.path.lexists(path) or survey.is_stub(path):
                into.append(path)


def _worktrees(workspace: str) -> Iterator[str]:
    """The worktrees that Claude Code has made in a workspace: its ``--worktree`` starts in them later."""
    top = join(workspace, ".claude", "worktrees")
    if not islink(top) and not islink(dirname(top)):
        with suppress(OSError):
            yield from (path for name in sorted(os.listdir(top)) if isdir(path := join(top, name)) and not islink(path))
