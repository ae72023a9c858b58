"""What a repository that no mount guards said when a session began, to be compared when the session has ended."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from os.path import basename, dirname, isdir, isfile, join

from claude_local.fence import git_config, git_index, policy
from claude_local.fence.files import SMALL, bytes_of, expanded, realpath, resolved, text_of
from claude_local.fence.git_repository import configurations_of, users_configurations
from claude_local.fence.plan import covers

# Files of a git directory whose text is kept.
TEXTS = ("config", "config.worktree", "commondir")
# Bytes of the largest index that is read: some 600,000 files, a second.
INDEX = 64 << 20
# Names in a directory of programs that are looked at.
PROGRAMS = 200


@dataclass
class Before:
    """``texts``: of TEXTS, by name; ``states``: what they are, see ``state``; ``hooks``: by name; ``named``: what the
    configuration makes git run or obey in the workspaces, by path. What was as young as the session is missing."""

    texts: dict[str, str] = field(default_factory=dict)
    states: dict[str, object] = field(default_factory=dict)
    hooks: dict[str, object] = field(default_factory=dict)
    named: dict[str, object] = field(default_factory=dict)

    def state_of(self, name: str) -> tuple[object, str]:
        """What one of TEXTS was, and its text."""
        return self.states.get(name), self.texts.get(name, "")


def state(path: str) -> object:
    """What is at ``path``, to be compared; None when nothing is."""
    with suppress(OSError):
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            return (status.st_mode, os.readlink(path))
        if stat.S_ISREG(status.st_mode) and status.st_size < SMALL:
            return (status.st_mode, text_of(path))
        return (status.st_mode, status.st_size, 0 if isdir(path) else status.st_ctime_ns)
    return None


def before(git_dir: str, workspaces: Sequence[str], began: float) -> Before:
    """What the repository says now. ``began``: seconds since the epoch; whatever changed later is the session's."""

    def is_old(path: str) -> bool:
        with suppress(OSError):
            return os.lstat(path).st_ctime < began
        return False

    old = {name: path for name in TEXTS if is_old(path := join(git_dir, name))}
    found = Before(
        {name: text_of(path) for name, path in old.items()}, {name: state(path) for name, path in old.items()}
    )
    hooks = join(git_dir, "hooks")
    found.hooks = {name: state(join(hooks, name)) for name in _names(hooks) if is_old(join(hooks, name))}
    if os.path.islink(hooks):
        found.texts["hooks"] = os.readlink(hooks)
    for path in named(git_dir, found.texts.get("config", ""), workspaces):
        if is_old(path):
            found.named[path] = state(path)
    return found


def differences(git_dir: str, said: Before, workspaces: Sequence[str]) -> list[str]:
    """The files that git runs or obeys there by the user's own configuration, and that are new or different now."""
    now = named(git_dir, said.texts.get("config", ""), workspaces)
    return [path for path in now if state(path) != said.named.get(path)]


def named(git_dir: str, text: str, workspaces: Sequence[str]) -> list[str]:
    """The files in the workspaces that a configuration with this text makes git run or obey, and hooks behind a link."""
    top = dirname(git_dir) if basename(git_dir) == ".git" else git_dir
    read = {join(git_dir, "config"): text}
    hooks = join(git_dir, "hooks")
    found = [join(realpath(hooks), name) for name in _names(hooks)] if os.path.islink(hooks) else []
    for config, each in configurations_of(read, [join(git_dir, "config")], "").items():
        for value in git_config.named_directories(each):
            directory = resolved(value, top)
            found += [join(directory, name) for name in _names(directory)]
        for base in (top, dirname(config)):
            found += [path for value in git_config.named_files(each) if isfile(path := resolved(value, base))]
    return [path for path in dict.fromkeys(found) if any(covers(each, path) for each in workspaces)]


def _names(directory: str) -> list[str]:
    with suppress(OSError):
        return sorted(os.listdir(directory))[:PROGRAMS]
    return []


def hidden_files(git_dir: str) -> set[str]:
    """The tracked files whose changes ``git status`` and ``git diff`` do not show, by the repository's index."""
    data = bytes_of(join(git_dir, "index"), limit=INDEX)
    if not data:
        return set()
    common = dirname(dirname(git_dir)) if basename(dirname(git_dir)) == "worktrees" else git_dir
    said = {(section, key): value.lower()
            for name in (join(common, "config"), join(common, "config.worktree"), join(git_dir, "config.worktree"))
            for section, _, key, value in git_config.entries(text_of(name))}  # fmt: skip
    sparse = said.get(("core", "sparsecheckout")) in ("", "true", "yes", "on", "1")
    size = 32 if said.get(("extensions", "objectformat")) == "sha256" else 20
    return git_index.hidden(data, sparse=sparse, name_size=size)


def hook_managers(workspace: str) -> dict[str, str]:
    """The texts of policy.HOOK_MANAGERS, by path."""
    return {path: text_of(path) for name in policy.HOOK_MANAGERS if isfile(path := join(workspace, name))}


def template_hooks(places: Sequence[str]) -> set[tuple[str, str]]:
    """Name and text of the hooks that git copies into each new repository, from a directory of the user's or the system's.
    ``places``: what a session may write; none from there."""
    home, env = os.path.expanduser("~"), os.environ
    texts = configurations_of({}, users_configurations(home, env), home).values()
    named = [value for text in texts for _, _, key, value in git_config.entries(text) if key == "templatedir"]
    found = [
        env.get("GIT_TEMPLATE_DIR", ""),
        *(expanded(each, home) for each in named),
        "/usr/share/git-core/templates",
    ]
    directories = [realpath(join(each, "hooks")) for each in found if each.startswith("/")]
    fine = [each for each in directories if not any(covers(place, each) for place in places)]
    return {(name, text_of(join(directory, name))) for directory in fine for name in _names(directory)}


def has_hooks(git_dir: str) -> bool:
    """Whether git runs hooks in a repository."""
    hooks = _names(join(git_dir, "hooks"))
    return any(not name.endswith(".sample") for name in hooks) or bool(
        git_config.named_directories(text_of(join(git_dir, "config")))
    )
