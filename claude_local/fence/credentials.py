"""Hides logins, keys, tokens and histories: what a session must not see of the home directory and the system."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from os.path import basename, exists, isdir, islink, join

from claude_local.fence import policy
from claude_local.fence.files import read_bytes, realpath
from claude_local.fence.plan import covers, outermost
from claude_local.fence.secret_shapes import is_secret_file
from claude_local.fence.survey import Places, Survey


def hide(survey: Survey, places: Places, hidden: Sequence[str], visible: Sequence[str]) -> None:
    """Hide the paths of policy.py and ``hidden`` (fence_hidden), but not those in ``visible`` (fence_visible)."""
    fence = survey.fence
    unmasked = [realpath(path) for path in visible]
    in_home = set(_real_paths(places.home, policy.MASKED_IN_HOME))
    in_system = [path for path in policy.MASKED_IN_SYSTEM if os.access(path, os.R_OK)]
    for path in [*sorted(in_home), *map(realpath, [*in_system, *hidden])]:
        if any(covers(each, path) for each in unmasked) or _is_in_tmpfs(path, places.home):
            continue
        if isdir(path):
            if not any(covers(path, needed) for needed in [places.home, *places.programs]):
                fence.masked_directories.append(path)
        elif exists(path):
            fence.masked_files.append(path)
        elif path in in_home:
            survey.future_secrets.append(path)
    fence.unmasked += [
        path for path in unmasked if exists(path) and any(covers(each, path) for each in fence.masked_directories)
    ]
    _hide_other_claude(survey, places)


def _is_in_tmpfs(path: str, home: str) -> bool:
    """Whether ``path`` lies in a directory like /tmp that the session gets empty. A home directory in there stays
    visible."""
    return any(covers(root, path) and not (covers(root, home) and covers(home, path)) for root in policy.TMPFS)


def _hide_other_claude(survey: Survey, places: Places) -> None:
    """Give the session an empty ``~/.claude`` of its own, with the lock files of IDEs in it."""
    claude = realpath(join(places.home, ".claude"))
    if isdir(claude) and claude != places.config_dir:
        survey.fence.private_tmpfs.append(claude)
        if isdir(join(claude, "ide")):
            survey.fence.unmasked.append(join(claude, "ide"))


def _real_paths(top: str, names: Iterable[str]) -> Iterator[str]:
    """The real paths of names below ``top``. Each directory is resolved once: there are few directories and many
    names."""
    directories: dict[str, str] = {}
    for name in names:
        parent, _, last = join(top, name).rpartition("/")
        if parent not in directories:
            directories[parent] = realpath(parent)
        path = join(directories[parent], last)
        yield realpath(path) if islink(path) else path


def moved_secrets(env: Mapping[str, str], workspaces: Sequence[str]) -> list[str]:
    """The secrets that ``env`` says are kept elsewhere (policy.MOVED): files, and directories outside the system's.
    Nothing in a workspace: the session works there."""
    secrets = []
    for path in policy.moved(env):
        with suppress(OSError):
            mode, real = os.stat(path).st_mode, realpath(path)
            in_workspace = any(covers(each, real) for each in workspaces)
            holds_system = any(covers(real, each) for each in policy.SYSTEM_DIRECTORIES)
            if not in_workspace and (stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not holds_system)):
                secrets.append(path)
    return secrets


def secret_settings(home: str, env: Mapping[str, str], workspaces: Sequence[str]) -> list[str]:
    """The files of ``~/.config``, or of XDG_CONFIG_HOME, that look as if they hold a secret (secret_shapes.py). Nothing
    in a workspace: the session works there."""
    top = env.get("XDG_CONFIG_HOME") or join(home, ".config")
    return [
        path
        for path in _settings_files(top)
        if not any(covers(each, realpath(path)) for each in workspaces)
        and is_secret_file(basename(path), read_bytes(path, limit=policy.SETTINGS_SIZE).decode(errors="replace"))
    ]


def _settings_files(top: str) -> Iterator[str]:
    """The files in and below ``top`` that programs keep their settings in, without those that policy.py hides or keeps
    visible."""
    known = {join(top, name.removeprefix(".config/")) for name in policy.MASKED_IN_HOME}
    known |= {join(top, name) for name in policy.VISIBLE_SETTINGS}
    count = 0
    for directory, below, names in os.walk(top, followlinks=True):
        is_deepest = directory.removeprefix(top).count("/") >= policy.SETTINGS_DEPTH
        below[:] = [] if is_deepest else sorted(name for name in below if join(directory, name) not in known)
        for path in (join(directory, name) for name in names):
            count += 1
            if count > policy.SETTINGS_LIMIT:
                return
            if path not in known:
                yield path


def tmpfs_directories() -> list[str]:
    """The real paths of policy.TMPFS. On some machines ``/var/tmp`` is a link to ``/tmp``, and bubblewrap cannot
    mount on a link."""
    return outermost(realpath(path) for path in policy.TMPFS)


def keep_programs(survey: Survey, places: Places) -> None:
    """Keep the home directory and Claude Code's programs visible where they lie in a directory like /tmp."""
    for path in [places.home, *places.programs]:
        if any(covers(root, path) for root in policy.TMPFS):
            survey.fence.ro_bind_programs.append(path)
