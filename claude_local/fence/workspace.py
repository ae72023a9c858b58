"""Refuses a workspace that no session may write, and guards what programs outside the fence obey in the others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from os.path import basename, dirname, isdir, islink, join

from claude_local.fence import policy
from claude_local.fence.files import realpath
from claude_local.fence.git_guard import guard_nested_repository
from claude_local.fence.plan import covers
from claude_local.fence.scan import scan
from claude_local.fence.survey import Places, Survey


class WorkspaceRefused(Exception):
    """No session may write this directory as a whole. The message says why; ``fix`` says what to do instead."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.fix = fix


def check_workspace(path: str, places: Places, survey: Survey) -> None:
    """Raise WorkspaceRefused when no session may write ``path``."""
    go = "cd into the project's own directory and start again"
    if path == "/":
        raise WorkspaceRefused("the workspace would be / : the session could write everything on this machine", go)
    if covers(path, places.home):
        what = "your home directory" if path == places.home else f"{path}, which holds your home directory"
        raise WorkspaceRefused(f"the workspace would be {what}: its start-up files run outside the fence", go)
    if path in policy.TMPFS:
        raise WorkspaceRefused(f"the workspace would be {path}: it holds other programs' sockets and files", go)
    if path in policy.SHARED_DIRECTORIES:
        raise WorkspaceRefused(f"the workspace would be {path}, with the programs or homes of others", go)
    for system in policy.SYSTEM_DIRECTORIES:
        if covers(policy.REMOVABLE, path) and path.count("/") > policy.REMOVABLE.count("/") + 1:
            break
        if covers(path, system) or (covers(system, path) and not covers(places.home, path)):
            raise WorkspaceRefused(f"the workspace {path} is part of the system ({system})", go)
    if closed := _closed_to_roots_session(path):
        why = f"a session of root runs without root's rights, and {closed} is closed without them"
        raise WorkspaceRefused(f"the workspace {path} cannot be used: {why}", "cd elsewhere")
    for own in places.own:
        if covers(path, own) or covers(own, path):
            raise WorkspaceRefused(f"the workspace {path} holds or belongs to claude-local's own files ({own})", go)
    in_home = [join(places.home, name) for name in policy.PROGRAMS_IN_HOME]
    for programs in [*in_home, *program_directories(os.environ)]:
        if covers(path, programs) and not _is_in_environment(programs, path, os.environ):
            what = "is" if path == programs else f"holds {programs},"
            raise WorkspaceRefused(
                f"the workspace {path} {what} a directory of programs: what a session leaves there runs outside the "
                "fence",
                go,
            )
    for secret in [*survey.fence.masked_directories, *survey.fence.masked_files, *survey.fence.private_tmpfs]:
        if covers(path, secret) or covers(secret, path):
            raise WorkspaceRefused(
                f"the workspace {path} holds or lies in {secret}, which sessions must not see",
                go + f", or show it with the setting fence_visible=[{json.dumps(secret)}]",
            )


def _closed_to_roots_session(path: str) -> str | None:
    """The directory at or above ``path`` that its mode closes to root itself; None when a session of root can work in
    ``path``. For other users the kernel has answered before."""
    if os.getuid() != 0:
        return None
    at, needed = path, 0o5
    while True:
        try:
            status = os.stat(at)
        except OSError:
            return None
        shift = 6 if status.st_uid == 0 else 3 if status.st_gid in (os.getgid(), *os.getgroups()) else 0
        if status.st_mode >> shift & needed != needed:
            return at
        if at == "/":
            return None
        at, needed = dirname(at), 0o1


def program_directories(env: Mapping[str, str]) -> list[str]:
    """The directories of programs on the user's PATH, without links."""
    paths = env.get("PATH", "").split(os.pathsep)
    return sorted({realpath(each) for each in paths if each.startswith("/")})


def _is_in_environment(programs: str, workspace: str, env: Mapping[str, str]) -> bool:
    """Whether a directory of programs belongs to the workspace's own environment: of Python, Conda, Node or direnv. To
    work there is usual, and docs/fence.md says that it is not guarded."""
    above = dirname(programs)
    if above != workspace and (
        basename(above) in (".venv", "venv", "node_modules")
        or any(os.path.lexists(join(above, name)) for name in ("pyvenv.cfg", "conda-meta"))
    ):
        return True
    # direnv writes it with a dash before the path.
    direnv = env.get("DIRENV_DIR", "").removeprefix("-")
    return bool(direnv) and covers(workspace, realpath(direnv)) and covers(realpath(direnv), programs)


def guard_workspace(survey: Survey, workspace: str, stubs: Iterable[str] = (), home: str = "") -> None:
    """Make ``workspace`` writable, except for what programs outside the fence obey later: existing files become
    read-only, missing ones become stubs. ``stubs``: paths of other sessions' stubs. ``home``: its git configuration
    counts too."""
    survey.stubs |= set(stubs)
    if workspace not in survey.fence.rw_bind:
        survey.fence.rw_bind.append(workspace)
    worktrees = _claude_worktrees(workspace)
    if worktrees or isdir(join(workspace, ".claude", "worktrees")):
        survey.fence.nested_rw_bind.append(join(workspace, ".claude", "worktrees"))
    tops = [workspace, *worktrees]
    content = scan(workspace, worktrees=worktrees)
    if workspace in content.incomplete:
        survey.remarks.append(
            f"{workspace} holds more than {policy.SCAN_LIMIT} files: deeper down, settings of editors and shells are "
            "not guarded, and repositories are only compared at the end"
        )
    _guard_repositories(survey, workspace, content.repositories, home)
    # At the top also those that the scan did not reach.
    top_level = [join(top, name) for top in tops for name in sorted(policy.GUARDED)]
    _guard_files(survey, workspace, [*content.guarded, *(path for path in top_level if os.path.lexists(path))])
    _keep_away(survey, tops)


def _claude_worktrees(workspace: str) -> list[str]:
    """The worktrees that ``claude --worktree`` has made in a workspace. Later sessions start in them."""
    top = join(workspace, ".claude", "worktrees")
    if not islink(top) and not islink(dirname(top)):
        with suppress(OSError):
            return [path for name in sorted(os.listdir(top)) if isdir(path := join(top, name)) and not islink(path)]
    return []


def _guard_repositories(survey: Survey, workspace: str, repositories: Sequence[str], home: str) -> None:
    """Guard the repositories in a workspace, up to policy.REPOSITORIES. The workspace's own one is guarded
    elsewhere."""
    survey.repositories |= set(repositories)
    nested = [git_dir for git_dir in repositories if git_dir != join(workspace, ".git")]
    for git_dir in nested[: policy.REPOSITORIES]:
        guard_nested_repository(survey, git_dir, workspace, home)
    if unguarded := nested[policy.REPOSITORIES :]:
        survey.unguarded |= set(unguarded)
        survey.remarks.append(
            f"{workspace} holds {len(nested)} repositories, and {len(unguarded)} of them are not guarded. They are "
            "compared when the session ends; until then git may run what the session writes there. Start in one of its "
            "directories"
        )


def _guard_files(survey: Survey, workspace: str, paths: Iterable[str]) -> None:
    """Make files and directories read-only, and keep the session from renaming the directories that they lie in."""
    for path in dict.fromkeys(paths):
        if basename(path) == ".git":
            survey.repositories.add(path)
        if survey.is_stub(path):
            continue
        if islink(path):
            survey.watch_symlinks(path)
        survey.fence.ro_bind.append(realpath(path))
        survey.self_bind_parents(path, workspace)


def _keep_away(survey: Survey, tops: Iterable[str]) -> None:
    """Keep missing files and directories from appearing at the top of the workspace and its worktrees."""
    for top in tops:
        paths = [join(top, name) for name in policy.STUB_DIRECTORIES]
        survey.fence.stub_directories += [path for path in paths if not os.path.lexists(path) or survey.is_stub(path)]
        files = forbidden_files(top)
        survey.forbidden |= {path: why for path, why in files.items() if not os.path.lexists(path)}
        survey.existing_files += [path for path in files if os.path.lexists(path)]


def forbidden_files(top: str) -> dict[str, str]:
    """The files that no session may make at the top of a workspace, and why."""
    return {join(top, name): "programs outside would obey it" for name in policy.FORBIDDEN_FILES}
