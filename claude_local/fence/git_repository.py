"""Finds git repositories, and what belongs to one: worktrees, submodules, configurations. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from os.path import dirname, isabs, isdir, isfile, islink, join

from claude_local.fence import git_config
from claude_local.fence.files import expand_home, read_text, realpath, resolve
from claude_local.fence.plan import covers
from claude_local.fence.scan import is_bare_repository

# The most configuration files that are read for one repository, included ones among them.
MAX_CONFIGS = 50
# How many levels below .git/modules submodules are looked for (their names may have slashes), and in how many entries.
MODULES_DEPTH, MODULES_LIMIT = 16, 20_000


@dataclass(frozen=True)
class Repository:
    """A repository in git's terms. ``link``: the ``.git`` file or directory in the working tree. ``git_dir``: the
    directory with HEAD and index. ``common_dir``: the one with objects, refs and config."""

    link: str
    git_dir: str
    common_dir: str

    @property
    def top(self) -> str:
        """The top of the working tree."""
        return dirname(self.link)


def find_repository(workspace: str) -> tuple[Repository | None, str]:
    """The repository that git would find from ``workspace``, or None and the reason why a session must not write it.

    A ``.git`` file may point anywhere. It is trusted only where the other end points back, so that an archive from a
    stranger cannot open one of the user's directories for writing.
    """
    top = workspace
    while True:
        link = join(top, ".git")
        if isdir(link):
            return _own_repository(link)
        if isfile(link):
            return _linked_repository(link)
        if top == "/":
            return None, ""
        top = dirname(top)


def _own_repository(link: str) -> tuple[Repository | None, str]:
    """The repository in the directory ``link``, see ``find_repository``."""
    git_dir = realpath(link)
    if not covers(dirname(link), git_dir):
        return None, f"{link} is a symlink to {git_dir}: the session cannot write there"
    if os.stat(git_dir).st_uid != os.getuid():
        return None, f"{link} belongs to another user: the session cannot write there"
    if common_dir_of(git_dir) != git_dir or not _is_git_dir(git_dir):
        return None, f"{link} is not a complete repository: the session cannot write there"
    return Repository(link, git_dir, git_dir), ""


def _linked_repository(link: str) -> tuple[Repository | None, str]:
    """The repository that the ``.git`` file ``link`` of a worktree or a submodule names, see ``find_repository``."""
    target = git_config.gitfile_target(read_text(link))
    if target is None:
        return None, f"{link} does not name a repository"
    git_dir = resolve(target, dirname(link))
    common = common_dir_of(git_dir)
    back = git_config.path_in(read_text(join(git_dir, "gitdir")))
    is_worktree = bool(back) and resolve(back, git_dir) == realpath(link) and covers(join(common, "worktrees"), git_dir)
    working_trees = git_config.working_trees(read_text(join(git_dir, "config")))
    is_submodule = "/modules/" in git_dir and any(resolve(each, git_dir) == dirname(link) for each in working_trees)
    if (is_worktree and _is_git_dir(common)) or (is_submodule and common == git_dir and _is_git_dir(git_dir)):
        return Repository(link, git_dir, common), ""
    return None, f"{link} points to {git_dir}, which does not point back: the session cannot commit here"


def _is_git_dir(path: str) -> bool:
    return isfile(join(path, "HEAD")) and isdir(join(path, "objects"))


def common_dir_of(git_dir: str) -> str:
    """The directory with objects and config: the one that the file ``commondir`` names, else ``git_dir`` itself."""
    named = git_config.path_in(read_text(join(git_dir, "commondir")))
    return resolve(named, git_dir) if named else git_dir


def working_tree_of(git_dir: str) -> str:
    """The top of the working tree that belongs to a ``.git`` directory; a bare repository itself."""
    return git_dir.removesuffix("/.git")


def uses_worktree_config(common_dir: str) -> bool:
    """Whether git obeys ``config.worktree`` in the repository (extensions.worktreeConfig)."""
    return "worktreeconfig" in read_text(join(common_dir, "config")).lower()


def worktree_git_dirs(common_dir: str) -> list[str]:
    """The git directories of a repository's worktrees, in ``worktrees/`` of its common directory."""
    top = join(common_dir, "worktrees")
    with suppress(OSError):
        return [path for name in sorted(os.listdir(top)) if isdir(path := join(top, name)) and not islink(path)]
    return []


def submodule_git_dirs(common_dir: str, incomplete: list[str] | None = None) -> Iterator[str]:
    """The git directories of submodules in ``modules/`` of a common directory, and symlinks there. A submodule's name
    may have slashes. ``incomplete`` gets the directory where the search stopped too early."""
    level, count = [join(common_dir, "modules")], 0
    skipped = [] if incomplete is None else incomplete
    for _ in range(MODULES_DEPTH):
        below = []
        for directory in level:
            if islink(directory):
                yield directory
                continue
            try:
                names = sorted(os.listdir(directory))
            except OSError as error:
                if isinstance(error, PermissionError):
                    skipped.append(directory)
                continue
            for path in (join(directory, name) for name in names):
                count += 1
                if count > MODULES_LIMIT:
                    skipped.append(directory)
                    return
                if islink(path) or (isdir(path) and os.path.lexists(join(path, "HEAD"))):
                    yield path
                if isdir(path) and not islink(path):
                    # Inside a repository git makes others in modules/ only.
                    below.append(join(path, "modules") if is_bare_repository(path) else path)
        level = below


def user_configs(home: str, env: Mapping[str, str]) -> list[str]:
    """The paths of the configurations that count in every repository (git-config(1)). ``env``: the user's
    environment."""
    paths = [join(home, ".gitconfig"), join(home, ".config/git/config"), env.get("GIT_CONFIG_GLOBAL", ""),
             env.get("GIT_CONFIG_SYSTEM", "") or "/etc/gitconfig"]  # fmt: skip
    if base := env.get("XDG_CONFIG_HOME", ""):
        paths.append(join(base, "git/config"))
    return list(dict.fromkeys(path for path in paths if isabs(path)))


def read_configs(paths: Iterable[str], home: str, cache: dict[str, str]) -> dict[str, str]:
    """The texts of the configurations at ``paths`` and of those that they include, by path. ``cache``: texts that
    were read before, by path; it gets the new ones."""
    waiting, texts = list(paths), dict[str, str]()
    while waiting and len(texts) < MAX_CONFIGS:
        path = waiting.pop(0)
        if path not in texts:
            if path not in cache:
                cache[path] = read_text(path)
            texts[path] = cache[path]
            waiting += [join(dirname(path), expand_home(value, home)) for value in git_config.includes(texts[path])]
    return texts
