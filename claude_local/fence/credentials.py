"""Hides logins, keys, tokens and histories: what a session must not see of the home directory and the system."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from os.path import exists, isdir, islink, join

from claude_local.fence import policy
from claude_local.fence.files import realpath
from claude_local.fence.plan import covers, outermost
from claude_local.fence.survey import Places, Survey


def hide(survey: Survey, places: Places, hidden: Sequence[str], visible: Sequence[str]) -> None:
    """Hide what policy and the user's settings name, as far as it exists."""
    shown = [realpath(path) for path in visible]
    names = set(_without_links(places.home, policy.HIDDEN_IN_HOME))
    system = [path for path in policy.HIDDEN_IN_SYSTEM if os.access(path, os.R_OK)]
    for real in [*sorted(names), *map(realpath, [*system, *hidden])]:
        if any(covers(each, real) for each in shown) or any(covers(root, real) for root in policy.EMPTIED if not (
            covers(root, places.home) and covers(places.home, real)
        )):  # fmt: skip
            continue
        if isdir(real):
            if covers(real, places.home) or any(covers(real, program) for program in places.programs):
                continue
            survey.fence.emptied.append(real)
        elif exists(real):
            survey.fence.blanked.append(real)
        elif real in names:
            survey.late.append(real)
    survey.fence.shown += [
        path for path in shown if exists(path) and any(covers(e, path) for e in survey.fence.emptied)
    ]
    claude = join(places.home, ".claude")
    if isdir(claude) and realpath(claude) != places.config_dir:
        survey.fence.scratch.append(realpath(claude))
        if isdir(join(claude, "ide")):
            survey.fence.shown.append(join(realpath(claude), "ide"))


def _without_links(top: str, names: Iterable[str]) -> Iterator[str]:
    """``realpath`` of plain names below ``top``; the way to each directory is looked at once, and there are few."""
    directories: dict[str, str] = {}
    for name in names:
        above, _, last = join(top, name).rpartition("/")
        if above not in directories:
            directories[above] = realpath(above)
        path = join(directories[above], last)
        yield realpath(path) if islink(path) else path


def moved_secrets(env: Mapping[str, str], workspaces: Sequence[str]) -> list[str]:
    """What ``env`` says is kept elsewhere (policy.MOVED): plain files, and directories that hold nothing of the system.
    What somebody keeps in a workspace is the workspace's."""
    found = []
    for path in policy.moved(env):
        with suppress(OSError):
            mode = os.stat(path).st_mode
            system = any(covers(realpath(path), each) for each in policy.SYSTEM_DIRECTORIES)
            ours = any(covers(each, realpath(path)) for each in workspaces)
            if not ours and (stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not system)):
                found.append(path)
    return found


def fresh_directories() -> list[str]:
    """Those of policy.EMPTIED, without links: on some machines ``/var/tmp`` is one to ``/tmp``, and nothing mounts over that."""
    return outermost(realpath(path) for path in policy.EMPTIED)


def keep_programs(survey: Survey, places: Places) -> None:
    """Programs and the home directory stay visible below a directory that is emptied."""
    for path in [places.home, *places.programs]:
        if any(covers(root, path) for root in policy.EMPTIED):
            survey.fence.kept.append(path)
