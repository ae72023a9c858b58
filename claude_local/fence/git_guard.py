"""Guards what git runs or obeys in a repository: hooks, configuration, and the files that the configuration names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from os.path import dirname, exists, isdir, isfile, islink, join

from claude_local.fence import git_config, policy
from claude_local.fence.files import expanded, resolved, text_of
from claude_local.fence.git_repository import (
    Repository,
    configurations_of,
    has_second_configuration,
    modules,
    users_configurations,
    worktree_entries,
)
from claude_local.fence.plan import covers
from claude_local.fence.survey import Places, Survey


def guard_unbelieved(survey: Survey, workspace: str) -> None:
    """A ``.git`` in the workspace that is not to be trusted stays as it is: git would trust what a session makes of it."""
    link = join(workspace, ".git")
    if islink(link):
        survey.links[link] = os.readlink(link)
    elif exists(link):
        survey.fence.guarded.append(link)


def guard_repository(survey: Survey, repo: Repository, places: Places) -> None:
    """Let the session write objects, refs and index; guard configuration, hooks and what they name."""
    fence = survey.fence
    survey.repositories |= {repo.git_dir, repo.common_dir}
    survey.guard_way(repo.link)
    for directory in dict.fromkeys([repo.git_dir, repo.common_dir]):
        fence.pinned.append(directory)
        guard_git_dir(survey, directory)
    if isfile(repo.link) and not islink(repo.link):
        fence.guarded.append(repo.link)
    configurations = [join(repo.common_dir, "config"), join(repo.git_dir, "config.worktree")]
    guard_named(survey, repo.top, configurations, places.home)
    guard_within(survey, repo.common_dir, places.home)


def guard_within(survey: Survey, common_dir: str, home: str) -> None:
    """Guard what a repository holds of submodules and of worktrees."""
    _guard_entries(survey, common_dir, home)
    for module in modules(common_dir):
        survey.repositories.add(module)
        if islink(module):
            survey.guard_way(module)
            continue
        survey.pin_parents(join(module, "HEAD"), common_dir)
        guard_git_dir(survey, module)
        config = join(module, "config")
        for section, _, key, value in git_config.entries(text_of(config)):
            if (section, key) == ("core", "worktree"):
                guard_named(survey, resolved(value, module), [config, join(module, "config.worktree")], home)
        _guard_entries(survey, module, home)


def _guard_entries(survey: Survey, common_dir: str, home: str) -> None:
    """Guard what points from a repository to its worktrees, and their configurations."""
    obeyed = has_second_configuration(common_dir)
    for entry in worktree_entries(common_dir):
        survey.repositories.add(entry)
        survey.pin_parents(join(entry, "HEAD"), common_dir)
        survey.fence.guarded += [path for name in ("commondir", "gitdir", "config.worktree")
                                if isfile(path := join(entry, name))]  # fmt: skip
        if obeyed and not os.path.lexists(join(entry, "config.worktree")):
            survey.fence.stub_files.append(join(entry, "config.worktree"))
        if link := git_config.only_path(text_of(join(entry, "gitdir"))):
            # What is named relative to a working tree is there in each.
            configurations = [join(common_dir, "config"), join(entry, "config.worktree")]
            guard_named(survey, dirname(resolved(link, entry)), configurations, home)


def guard_git_dir(survey: Survey, git_dir: str, names: Sequence[str] = policy.GIT_GUARDED) -> None:
    fence = survey.fence
    survey.leftovers += [path for path in (join(git_dir, name) for name in policy.SANDBOX_LEFTOVERS_IN_GIT)
                        if not os.path.lexists(path)]  # fmt: skip
    linked = exists(join(git_dir, "commondir"))
    for name in names:
        path = join(git_dir, name)
        if islink(path):
            survey.guard_way(path)
        if survey.is_stub(path):
            (fence.stub_directories if isdir(path) else fence.stub_files).append(path)
        elif exists(path):
            fence.guarded.append(path)
        if name.startswith("info/"):
            if not linked and not os.path.lexists(path):
                survey.unwanted[path] = "it would keep changes out of what git shows"
            elif exists(path):
                fence.pinned.append(dirname(path))
    if not linked:
        if not os.path.lexists(join(git_dir, "hooks")):
            fence.stub_directories.append(join(git_dir, "hooks"))
        survey.unwanted[join(git_dir, "commondir")] = (
            "it would give this repository another configuration and other hooks"
        )
        if not has_second_configuration(git_dir):
            return
    if not os.path.lexists(join(git_dir, "config.worktree")):
        fence.stub_files.append(join(git_dir, "config.worktree"))


def guard_named(survey: Survey, top: str, paths: Sequence[str], home: str) -> None:
    """Guard the files in the workspace that git's configurations name: hooks elsewhere, includes, drivers. ``top``: the
    working tree. ``paths``: its repository's configurations; the user's own count, too."""
    fence = survey.fence
    for config, text in configurations_of(survey.read, [*paths, *users_configurations(home, os.environ)], home).items():
        for value in git_config.named_directories(text):
            written = expanded(value, home)
            survey.guard_way(join(top, written))
            path = resolved(written, top)
            if not survey.is_writable(path) or covers(path, top):
                continue
            if isdir(path) and not survey.is_stub(path):
                fence.guarded.append(path)
            else:
                while not os.path.lexists(dirname(path)):
                    path = dirname(path)
                fence.stub_directories.append(path)
            survey.pin_parents(path)
        for value in git_config.named_files(text):
            for base in (top, dirname(config)):
                written = join(base, expanded(value, home))
                path = resolved(written, base)
                if isfile(path) and survey.is_writable(path) and not survey.is_stub(path):
                    survey.guard_way(written)
                    fence.guarded.append(path)
                    survey.pin_parents(path)
        missing = [join(dirname(config), expanded(value, home)) for value in git_config.included(text)]
        missing += [join(top, expanded(value, home)) for value in git_config.programs(text)]
        for path in missing:
            survey.keep_away(resolved(path, top), f"git would obey it: {config} names it")
