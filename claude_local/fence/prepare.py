"""Decides what a session sees and writes: its places, its workspaces and what the user's settings add."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from os.path import abspath, dirname, exists, isdir, isfile, islink, join

from claude_local.fence.config import FenceConfig
from claude_local.fence.credentials import hide, keep_programs, moved_secrets, secret_settings, tmpfs_directories
from claude_local.fence.files import read_text, realpath
from claude_local.fence.git_guard import guard_repository, guard_untrusted
from claude_local.fence.git_repository import find_repository
from claude_local.fence.options import Options, added_directories
from claude_local.fence.plan import Fence, covers
from claude_local.fence.sockets import mask_sockets
from claude_local.fence.survey import Places, Survey
from claude_local.fence.workspace import WorkspaceRefused, check_workspace, guard_workspace


def session_places(options: Options) -> Places:
    """The directories of one session, without symbolic links."""
    lib = realpath(dirname(dirname(dirname(abspath(__file__)))))
    programs = {
        realpath(options.command[0]),
        dirname(realpath(sys.executable)),
        realpath(dirname(sys.executable)),
        realpath(sys.prefix),
        realpath(sys.base_prefix),
        lib,
        realpath(join(lib, "claude_local")),
    }
    return Places(
        home=realpath(options.home),
        config_dir=realpath(options.config_dir),
        own=[realpath(each) for each in [*options.own, options.config_dir]],
        programs=sorted(programs),
    )


def requested_workspaces(options: Options, cwd: str) -> list[str]:
    """The directory that the session starts in, and those of ``--add-dir``."""
    added = (realpath(each) for each in added_directories(options.command[1:]) if isdir(each))
    return list(dict.fromkeys([cwd, *added]))


def survey_home(config: FenceConfig, places: Places, workspaces: Sequence[str]) -> Survey:
    """What a session must not see of the home directory and the system."""
    survey = Survey(fence=Fence(tmpfs=tmpfs_directories()))
    keep_programs(survey, places)
    hidden = [*config.hidden, *moved_secrets(os.environ, workspaces)]
    hidden += secret_settings(places.home, os.environ, workspaces)
    hide(survey, places, hidden, [*config.visible, *public_keys(config, places.home)])
    return survey


def writable_workspaces(survey: Survey, places: Places, workspaces: list[str], *, required: bool) -> list[str]:
    """The workspaces that a session may write. Raises WorkspaceRefused when one may not be written and all are
    ``required``: ``claude-local doctor`` works in the home directory, and writes nothing there."""
    writable = []
    for workspace in workspaces:
        try:
            check_workspace(workspace, places, survey)
            writable.append(workspace)
        except WorkspaceRefused:
            if required:
                raise
    return writable


def survey_workspaces(survey: Survey, workspaces: list[str], places: Places, stubs: list[str]) -> list[str]:
    """Guard the workspaces and their repositories. ``stubs``: paths of other sessions' stubs. Returns the git
    directories that a session may write, wherever they are."""
    git_dirs = []
    # All of them first: a link may lead from one to another.
    survey.fence.rw_bind += workspaces
    for workspace in workspaces:
        guard_workspace(survey, workspace, stubs, places.home)
        repo, remark = find_repository(workspace)
        if repo is None:
            guard_untrusted(survey, workspace)
        else:
            guard_repository(survey, repo, places)
            git_dirs += [repo.git_dir, repo.common_dir]
        if remark:
            survey.remarks.append(remark)
    return git_dirs


def add_config_dir(survey: Survey, places: Places) -> None:
    """Let a session write Claude Code's configuration directory, except what decides about the next session."""
    fence = survey.fence
    fence.rw_bind.append(places.config_dir)
    fence.ro_bind += [
        path for name in ("enforced.json", "bash-env.sh") if exists(path := join(places.config_dir, name))
    ]
    # A lock file that a session made would open a port to the next session.
    ide = join(places.config_dir, "ide")
    with suppress(OSError):
        os.makedirs(ide, mode=0o700, exist_ok=True)
    if isdir(ide):
        fence.ro_bind.append(ide)


def add_writable_paths(survey: Survey, config: FenceConfig, places: Places) -> None:
    """Let a session write the paths of ``fence_writable``, except those that hold what runs outside the fence."""
    for path in config.writable:
        real = realpath(path)
        inside = [each for each in [places.home, *places.own, *places.programs] if covers(real, each)]
        if not exists(path):
            survey.remarks.append(f"fence_writable names {path}, which does not exist")
        elif inside:
            survey.remarks.append(
                f"fence_writable names {path}, which stays read-only: {inside[0]} in it runs outside the fence"
            )
        else:
            survey.fence.rw_bind.append(real)


def close_sockets(survey: Survey, config: FenceConfig) -> None:
    """Close the Unix sockets that a session could see, except those of ``fence_sockets``."""
    fence = survey.fence
    files = list(fence.masked_files)
    mask_sockets(survey, read_text("/proc/net/unix"), fence.rw_bind)
    allowed = allowed_sockets(config, os.environ)
    # A socket may vanish at any moment, and bubblewrap fails on a missing path: remount.py covers these.
    survey.masked_sockets = [path for path in fence.masked_files[len(files) :] if path not in allowed]
    fence.masked_files = files
    # Newer versions of ssh-agent listen below ~/.ssh.
    masked = [*fence.masked_directories, *fence.private_tmpfs]
    fence.unmasked += [path for path in allowed if any(covers(each, path) for each in masked)]
    fence.sockets = [path for path in allowed if path not in fence.unmasked]


def allowed_sockets(config: FenceConfig, env: Mapping[str, str]) -> list[str]:
    """The existing sockets and files that ``fence_sockets`` lets through."""
    paths: list[str] = []
    runtime = env.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    if "ssh-agent" in config.sockets:
        paths.append(env.get("SSH_AUTH_SOCK", ""))
    if "gpg-agent" in config.sockets:
        paths.append(join(runtime, "gnupg"))
    if "display" in config.sockets:
        wayland = join(runtime, env.get("WAYLAND_DISPLAY") or "wayland-0")
        paths += ["/tmp/.X11-unix", env.get("XAUTHORITY", ""), wayland]
    return [path for path in paths if path and exists(path)]


def public_keys(config: FenceConfig, home: str) -> list[str]:
    """The files that the agents of ``fence_sockets`` need and that are no secrets: public keys and known hosts."""
    names = ["trustdb.gpg", "pubring.kbx", "pubring.gpg"] if "gpg-agent" in config.sockets else []
    paths = [join(home, ".gnupg", name) for name in names]
    if "ssh-agent" in config.sockets:
        with suppress(OSError):
            ssh = sorted(os.listdir(join(home, ".ssh")))
            paths += [join(home, ".ssh", name) for name in ssh if name == "known_hosts" or name.endswith(".pub")]
    return [path for path in paths if isfile(path)]


def make_worktree_directory(workspace: str) -> None:
    """Make ``.claude/worktrees``, in which ``claude --worktree`` makes a worktree. Never through a link."""
    with suppress(OSError):
        if not islink(join(workspace, ".claude")):
            os.makedirs(join(workspace, ".claude", "worktrees"), exist_ok=True)
