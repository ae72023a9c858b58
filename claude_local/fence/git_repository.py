"""Finds git repositories, and what belongs to one: worktrees, submodules, configurations. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from os.path import dirname, isabs, isdir, isfile, islink, join

from claude_local.fence import git_config
from claude_local.fence.files import expanded, realpath, resolved, text_of
from claude_local.fence.plan import covers
from claude_local.fence.scan import repository_shape

# Configurations of git's that are read for one repository, with what they include.
CONFIGURATIONS = 50

# How deep below .git/modules submodules' repositories are looked for, and among how many entries: their names have slashes.
MODULES_DEPTH, MODULES_LIMIT = 16, 20_000


@dataclass(frozen=True)
class Repository:
    """``link``: the ``.git`` file or directory; ``git_dir``: HEAD and index; ``common_dir``: objects, refs, config."""

    link: str
    git_dir: str
    common_dir: str

    @property
    def top(self) -> str:
        return dirname(self.link)


def _is_git_dir(path: str) -> bool:
    return isfile(join(path, "HEAD")) and isdir(join(path, "objects"))


def find_repository(workspace: str) -> tuple[Repository | None, str]:
    """The repository that git would find from ``workspace``, and why not when there is one that is not to be trusted.

    A ``.git`` file may point anywhere. It is believed only where the other end points back: what a stranger's archive
    can hold must not open a directory of the user's for writing.
    """
    at = workspace
    while True:
        link = join(at, ".git")
        if isdir(link):
            git_dir = realpath(link)
            if not covers(at, git_dir):
                return None, f"{link} is a link to {git_dir}: sessions do not write there"
            common = repository_common_dir(git_dir)
            if os.stat(git_dir).st_uid != os.getuid():
                return None, f"{link} belongs to somebody else: sessions do not write there"
            if common != git_dir or not _is_git_dir(git_dir):
                return None, f"{link} is no repository of its own: sessions do not guard or write it"
            return Repository(link, git_dir, git_dir), ""
        if isfile(link):
            return _linked_repository(link)
        if at == "/":
            return None, ""
        at = dirname(at)


def repository_common_dir(git_dir: str) -> str:
    """Where objects and config are: what ``commondir`` names, else ``git_dir`` itself."""
    named = git_config.only_path(text_of(join(git_dir, "commondir")))
    return resolved(named, git_dir) if named else git_dir


def _linked_repository(link: str) -> tuple[Repository | None, str]:
    target = git_config.link_target(text_of(link))
    if target is None:
        return None, f"{link} is no link to a repository"
    git_dir = resolved(target, dirname(link))
    common = repository_common_dir(git_dir)
    back = git_config.only_path(text_of(join(git_dir, "gitdir")))
    is_worktree = (
        bool(back) and resolved(back, git_dir) == realpath(link) and covers(join(common, "worktrees"), git_dir)
    )
    named = [value for section, _, key, value in git_config.entries(text_of(join(git_dir, "config"))) if
             (section, key) == ("core", "worktree")]  # fmt: skip
    is_submodule = "/modules/" in git_dir and any(resolved(each, git_dir) == dirname(link) for each in named)
    if (is_worktree and _is_git_dir(common)) or (is_submodule and common == git_dir and _is_git_dir(git_dir)):
        return Repository(link, git_dir, common), ""
    return None, f"{link} points to {git_dir}, which does not point back: sessions cannot commit here"


def has_second_configuration(common_dir: str) -> bool:
    """Whether git obeys ``config.worktree``, here and in each worktree."""
    return "worktreeconfig" in text_of(join(common_dir, "config")).lower()


def worktree_entries(common_dir: str) -> list[str]:
    """The directories of a repository that stand for its worktrees."""
    top, found = join(common_dir, "worktrees"), []
    with suppress(OSError):
        found = [path for name in sorted(os.listdir(top)) if isdir(path := join(top, name)) and not islink(path)]
    return found


def modules(common_dir: str, cut: list[str] | None = None) -> Iterator[str]:
    """The git directories of submodules, and links to some; they lie below ``modules`` under their names, which may hold
    slashes. ``cut`` gets the directory where the look ended too early."""
    level, seen = [join(common_dir, "modules")], 0
    for _ in range(MODULES_DEPTH):
        below = []
        for directory in level:
            if islink(directory):
                yield directory
                continue
            try:
                names = sorted(os.listdir(directory))
            except OSError as error:
                if cut is not None and isinstance(error, PermissionError):
                    cut.append(directory)
                continue
            for path in (join(directory, name) for name in names):
                seen += 1
                if seen > MODULES_LIMIT:
                    if cut is not None:
                        cut.append(directory)
                    return
                if islink(path) or (isdir(path) and os.path.lexists(join(path, "HEAD"))):
                    yield path
                if isdir(path) and not islink(path):
                    # git makes no repository within another one but there; without its shape it is none.
                    below.append(join(path, "modules") if repository_shape(path) else path)
        level = below


def users_configurations(home: str, env: Mapping[str, str]) -> list[str]:
    """Where git looks for configurations that count in every repository; ``env`` is the user's."""
    places = [join(home, ".gitconfig"), join(home, ".config/git/config"), env.get("GIT_CONFIG_GLOBAL", ""),
              env.get("GIT_CONFIG_SYSTEM", "") or "/etc/gitconfig"]  # fmt: skip
    if base := env.get("XDG_CONFIG_HOME", ""):
        places.append(join(base, "git/config"))
    return list(dict.fromkeys(path for path in places if isabs(path)))


def configurations_of(read: dict[str, str], paths: Iterable[str], home: str) -> dict[str, str]:
    """The configurations at ``paths`` and what they include, by their paths; their texts."""
    waiting, texts = list(paths), dict[str, str]()
    while waiting and len(texts) < CONFIGURATIONS:
        path = waiting.pop(0)
        if path not in texts:
            texts[path] = read[path] if path in read else read.setdefault(path, text_of(path))
            waiting += [join(dirname(path), expanded(value, home)) for value in git_config.included(texts[path])]
    return texts
