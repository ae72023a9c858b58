"""Guards what git runs or obeys in a repository: hooks, configuration, and the files that the configuration names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from os.path import dirname, exists, isdir, isfile, islink, join

from claude_local.fence import git_config, policy
from claude_local.fence.files import expand_home, read_text, resolve
from claude_local.fence.git_repository import (
    Repository,
    read_configs,
    submodule_git_dirs,
    user_configs,
    uses_worktree_config,
    working_tree_of,
    worktree_git_dirs,
)
from claude_local.fence.plan import covers
from claude_local.fence.survey import Places, Survey


def guard_untrusted(survey: Survey, workspace: str) -> None:
    """Keep the session from changing a ``.git`` that is not trusted: git would trust what the session makes of it."""
    link = join(workspace, ".git")
    if islink(link):
        survey.symlinks[link] = os.readlink(link)
    elif exists(link):
        survey.fence.ro_bind.append(link)


def guard_repository(survey: Survey, repo: Repository, places: Places) -> None:
    """Let the session write objects, refs and index of the workspace's repository; guard hooks and configuration."""
    survey.repositories |= {repo.git_dir, repo.common_dir}
    survey.watch_symlinks(repo.link)
    for directory in dict.fromkeys([repo.git_dir, repo.common_dir]):
        survey.fence.self_bind.append(directory)
        _guard_git_dir(survey, directory)
    if isfile(repo.link) and not islink(repo.link):
        survey.fence.ro_bind.append(repo.link)
    configs = [join(repo.common_dir, "config"), join(repo.git_dir, "config.worktree")]
    _guard_named(survey, repo.top, configs, places.home)
    _guard_inner_git_dirs(survey, repo.common_dir, places.home)


def guard_nested_repository(survey: Survey, git_dir: str, workspace: str, home: str) -> None:
    """Guard a further repository in the workspace in the same way."""
    survey.self_bind_parents(join(git_dir, "HEAD"), workspace)
    _guard_git_dir(survey, git_dir, policy.GIT_GUARDED_NESTED)
    configs = [join(git_dir, "config"), join(git_dir, "config.worktree")]
    _guard_named(survey, working_tree_of(git_dir), configs, home)
    _guard_inner_git_dirs(survey, git_dir, home)


def _guard_inner_git_dirs(survey: Survey, common_dir: str, home: str) -> None:
    """Guard the git directories of worktrees and submodules in a repository."""
    _guard_worktrees(survey, common_dir, home)
    for module in submodule_git_dirs(common_dir):
        survey.repositories.add(module)
        if islink(module):
            survey.watch_symlinks(module)
            continue
        survey.self_bind_parents(join(module, "HEAD"), common_dir)
        _guard_git_dir(survey, module)
        config = join(module, "config")
        for path in git_config.working_trees(read_text(config)):
            _guard_named(survey, resolve(path, module), [config, join(module, "config.worktree")], home)
        _guard_worktrees(survey, module, home)


def _guard_worktrees(survey: Survey, common_dir: str, home: str) -> None:
    """Guard the links between a repository and its worktrees, and the worktrees' configurations."""
    obeyed = uses_worktree_config(common_dir)
    for git_dir in worktree_git_dirs(common_dir):
        config = join(git_dir, "config.worktree")
        survey.repositories.add(git_dir)
        survey.self_bind_parents(join(git_dir, "HEAD"), common_dir)
        survey.fence.ro_bind += [path for name in ("commondir", "gitdir", "config.worktree")
                                if isfile(path := join(git_dir, name))]  # fmt: skip
        if obeyed and not os.path.lexists(config):
            survey.fence.stub_files.append(config)
        if link := git_config.path_in(read_text(join(git_dir, "gitdir"))):
            # A relative path in the configuration means another file in each working tree.
            _guard_named(survey, dirname(resolve(link, git_dir)), [join(common_dir, "config"), config], home)


def _guard_git_dir(survey: Survey, git_dir: str, names: Sequence[str] = policy.GIT_GUARDED) -> None:
    """Guard ``names`` in a git directory, and keep the session from making those that git would obey."""
    fence = survey.fence
    survey.leftovers += [path for path in (join(git_dir, name) for name in policy.LEFTOVERS_IN_GIT)
                        if not os.path.lexists(path)]  # fmt: skip
    linked = exists(join(git_dir, "commondir"))
    for name in names:
        path = join(git_dir, name)
        if islink(path):
            survey.watch_symlinks(path)
        if survey.is_stub(path):
            (fence.stub_directories if isdir(path) else fence.stub_files).append(path)
        elif exists(path):
            fence.ro_bind.append(path)
            if name == "config" and not islink(path):
                survey.git_configs.append(path)
        if name.startswith("info/"):
            if exists(path):
                fence.self_bind.append(dirname(path))
            elif not linked and not os.path.lexists(path):
                survey.forbidden[path] = "git would hide changes because of it"
    if not linked:
        if not os.path.lexists(join(git_dir, "hooks")):
            fence.stub_directories.append(join(git_dir, "hooks"))
        survey.forbidden[join(git_dir, "commondir")] = "it would give this repository other hooks and settings"
    if (linked or uses_worktree_config(git_dir)) and not os.path.lexists(join(git_dir, "config.worktree")):
        fence.stub_files.append(join(git_dir, "config.worktree"))


def _guard_named(survey: Survey, top: str, configs: Sequence[str], home: str) -> None:
    """Guard the files in the workspace that git's configuration names: hooks elsewhere, includes, drivers. ``top``: the
    working tree. ``configs``: the repository's configurations; the user's own are read too."""
    texts = read_configs([*configs, *user_configs(home, os.environ)], home, survey.config_texts)
    for config, text in texts.items():
        for value in git_config.named_directories(text):
            _guard_named_directory(survey, top, expand_home(value, home))
        for value in git_config.named_files(text):
            for base in (top, dirname(config)):
                _guard_named_file(survey, join(base, expand_home(value, home)), base)
        missing = [join(dirname(config), expand_home(value, home)) for value in git_config.includes(text)]
        missing += [join(top, expand_home(value, home)) for value in git_config.programs(text)]
        for path in missing:
            survey.forbid(resolve(path, top), f"git would obey it, because {config} names it")


def _guard_named_directory(survey: Survey, top: str, value: str) -> None:
    """Guard a directory of hooks that a configuration names. Where it does not exist, the first missing directory on
    the way to it becomes a stub."""
    survey.watch_symlinks(join(top, value))
    path = resolve(value, top)
    if not survey.is_writable(path) or covers(path, top):
        return
    if isdir(path) and not survey.is_stub(path):
        survey.fence.ro_bind.append(path)
    else:
        while not os.path.lexists(dirname(path)):
            path = dirname(path)
        survey.fence.stub_directories.append(path)
    survey.self_bind_parents(path)


def _guard_named_file(survey: Survey, named: str, base: str) -> None:
    path = resolve(named, base)
    if isfile(path) and survey.is_writable(path) and not survey.is_stub(path):
        survey.watch_symlinks(named)
        survey.fence.ro_bind.append(path)
        survey.self_bind_parents(path)
