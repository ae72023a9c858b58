"""What a repository that no mount guards held when a session began, and what is different when it has ended."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from os.path import dirname, isdir, isfile, islink, join

from claude_local.fence import git_config, policy
from claude_local.fence.files import SMALL, expand_home, read_text, realpath, resolve
from claude_local.fence.git_repository import read_configs, user_configs, working_tree_of
from claude_local.fence.plan import covers

# Files of a git directory whose text is kept.
TEXTS = ("config", "config.worktree", "commondir")
# The most entries of a directory of hooks that are looked at.
MAX_HOOKS = 200


@dataclass
class Snapshot:
    """What git runs or obeys in one repository. What changed after the session began is left out.

    ``texts`` and ``states``: of TEXTS, by name. ``hooks``: their states, by name. ``hooks_link``: where ``hooks``
    leads if it is a symlink. ``named``: the states of the files in the workspaces that the configuration names, by
    path.
    """

    texts: dict[str, str] = field(default_factory=dict)
    states: dict[str, object] = field(default_factory=dict)
    hooks: dict[str, object] = field(default_factory=dict)
    hooks_link: str = ""
    named: dict[str, object] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """The text of one of TEXTS; empty where it did not exist."""
        return self.texts.get(name, "")

    def is_unchanged(self, git_dir: str, name: str) -> bool:
        """Whether one of TEXTS is the same now."""
        path = join(git_dir, name)
        return state_of(path) == self.states.get(name) and read_text(path) == self.text(name)

    def changed_files(self, git_dir: str, workspaces: Sequence[str]) -> list[str]:
        """The files in the workspaces that the configuration of that time names and that are new or different now."""
        paths = _named_files(git_dir, self.text("config"), workspaces)
        return [path for path in paths if state_of(path) != self.named.get(path)]


def state_of(path: str) -> object:
    """What is at ``path``, to be compared with ``==``; None where nothing is."""
    with suppress(OSError):
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            return (status.st_mode, os.readlink(path))
        if stat.S_ISREG(status.st_mode) and status.st_size < SMALL:
            return (status.st_mode, read_text(path))
        return (status.st_mode, status.st_size, 0 if isdir(path) else status.st_ctime_ns)
    return None


def take_snapshot(git_dir: str, workspaces: Sequence[str], began: float) -> Snapshot:
    """A snapshot of the repository as it was at ``began`` (seconds since the epoch): what changed later is the
    session's."""

    def is_old(path: str) -> bool:
        with suppress(OSError):
            return os.lstat(path).st_ctime < began
        return False

    snapshot = Snapshot()
    for name in TEXTS:
        if is_old(path := join(git_dir, name)):
            snapshot.texts[name], snapshot.states[name] = read_text(path), state_of(path)
    hooks = join(git_dir, "hooks")
    snapshot.hooks = {name: state_of(path) for name in _names(hooks) if is_old(path := join(hooks, name))}
    snapshot.hooks_link = os.readlink(hooks) if islink(hooks) else ""
    named = _named_files(git_dir, snapshot.text("config"), workspaces)
    snapshot.named = {path: state_of(path) for path in named if is_old(path)}
    return snapshot


def _named_files(git_dir: str, config: str, workspaces: Sequence[str]) -> list[str]:
    """The files in the workspaces that git runs or obeys by a configuration of the text ``config``, and hooks behind a
    symlink."""
    top, config_path = working_tree_of(git_dir), join(git_dir, "config")
    hooks = join(git_dir, "hooks")
    paths = [join(realpath(hooks), name) for name in _names(hooks)] if islink(hooks) else []
    for path, text in read_configs([config_path], "", {config_path: config}).items():
        for value in git_config.named_directories(text):
            directory = resolve(value, top)
            paths += [join(directory, name) for name in _names(directory)]
        for base in (top, dirname(path)):
            paths += [file for value in git_config.named_files(text) if isfile(file := resolve(value, base))]
    return [path for path in dict.fromkeys(paths) if any(covers(each, path) for each in workspaces)]


def _names(directory: str) -> list[str]:
    with suppress(OSError):
        return sorted(os.listdir(directory))[:MAX_HOOKS]
    return []


def hook_manager_configs(workspace: str) -> dict[str, str]:
    """The texts of the files that installed hooks read (policy.HOOK_MANAGERS), by path."""
    return {path: read_text(path) for name in policy.HOOK_MANAGERS if isfile(path := join(workspace, name))}


def template_hooks(writable: Iterable[str]) -> set[tuple[str, str]]:
    """Name and text of the hooks that git copies into each new repository from the user's or the system's templates
    (git-init(1)). A template directory in one of the ``writable`` ones is left out."""
    home, env = os.path.expanduser("~"), os.environ
    texts = read_configs(user_configs(home, env), home, {}).values()
    named = [value for text in texts for _, _, key, value in git_config.entries(text) if key == "templatedir"]
    templates = [env.get("GIT_TEMPLATE_DIR", ""), *(expand_home(each, home) for each in named),
                 "/usr/share/git-core/templates"]  # fmt: skip
    hooks = [realpath(join(each, "hooks")) for each in templates if each.startswith("/")]
    trusted = [each for each in hooks if not any(covers(directory, each) for directory in writable)]
    return {(name, read_text(join(directory, name))) for directory in trusted for name in _names(directory)}


def has_hooks(git_dir: str) -> bool:
    """Whether git runs hooks in a repository."""
    return any(not name.endswith(".sample") for name in _names(join(git_dir, "hooks"))) or bool(
        git_config.named_directories(read_text(join(git_dir, "config")))
    )
