"""Workspaces from a stranger: no symlink or path in one opens anything outside it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_local.fence import policy
from claude_local.fence.plan import covers
from tests.fence.world import World, all_paths, repository, write


def ships_nothing(world: World, _: Path) -> None:
    """The check below holds without an attack."""


def git_file_to_another_repository(world: World, secret: Path) -> None:
    other = repository(world.home / "other")
    write(world.workspace / ".git", f"gitdir: {other}/.git\n")


def git_file_to_a_secret(world: World, secret: Path) -> None:
    write(world.workspace / ".git", f"gitdir: {secret}\n")


def worktree_with_a_common_directory_elsewhere(world: World, secret: Path) -> None:
    for name in ("HEAD", "objects/x"):
        write(world.workspace / "worktrees" / "w" / name)
        write(secret / name)
    write(world.workspace / ".git", "gitdir: worktrees/w\n")
    write(world.workspace / "worktrees" / "w" / "gitdir", f"{world.workspace}/.git\n")
    write(world.workspace / "worktrees" / "w" / "commondir", f"{secret}\n")


def submodule_with_a_common_directory_elsewhere(world: World, secret: Path) -> None:
    for name in ("HEAD", "objects/x"):
        write(world.workspace / "modules" / "m" / name)
    write(world.workspace / "modules" / "m" / "config", "[core]\n\tworktree = ../..\n")
    write(world.workspace / "modules" / "m" / "commondir", f"{secret}\n")
    write(world.workspace / ".git", "gitdir: modules/m\n")


def git_directory_with_a_common_directory_elsewhere(world: World, secret: Path) -> None:
    repository(world.workspace)
    write(world.workspace / ".git" / "commondir", f"{secret}\n")


def git_link_to_another_repository(world: World, secret: Path) -> None:
    other = repository(world.home / "other")
    (world.workspace / ".git").symlink_to(other / ".git")


def links_for_everything_that_is_guarded(world: World, secret: Path) -> None:
    for name in (*policy.STUB_DIRECTORIES, *policy.FORBIDDEN_FILES, ".husky"):
        (world.workspace / name).symlink_to(secret)


def links_within_git(world: World, secret: Path) -> None:
    repository(world.workspace)
    for name in ("modules", "worktrees", "config.worktree"):
        (world.workspace / ".git" / name).symlink_to(secret)
    (world.workspace / ".git" / "info").rename(world.workspace / ".git" / "old")
    (world.workspace / ".git" / "info").symlink_to(secret)
    write(secret / "m" / "HEAD")


def a_worktrees_directory_that_is_a_link(world: World, secret: Path) -> None:
    (world.workspace / ".claude").mkdir()
    (world.workspace / ".claude" / "worktrees").symlink_to(secret)


def a_claude_directory_that_is_a_link(world: World, secret: Path) -> None:
    (secret / "worktrees").mkdir()
    (world.workspace / ".claude").symlink_to(secret)


def a_configuration_that_names_the_outside(world: World, secret: Path) -> None:
    repository(world.workspace)
    (world.workspace / "link").symlink_to(secret)
    write(
        world.workspace / ".git" / "config",
        f"[core]\n\thooksPath = {secret}\n[core]\n\thooksPath = link/missing\n[core]\n\thooksPath = ../../missing\n"
        "\thooksPath = ~/missing\n[include]\n\tpath = link/file\n"
        f"\tpath = {secret}/file\n\tpath = ../../../../.bashrc\n",
    )
    write(world.home / ".bashrc")


def a_nested_repository_behind_a_link(world: World, secret: Path) -> None:
    other = repository(world.home / "other")
    (world.workspace / "a").mkdir()
    (world.workspace / "a" / ".git").symlink_to(other / ".git")
    (world.workspace / "b").symlink_to(other)


ATTACKS = [
    ships_nothing,
    git_file_to_another_repository,
    git_file_to_a_secret,
    worktree_with_a_common_directory_elsewhere,
    submodule_with_a_common_directory_elsewhere,
    git_directory_with_a_common_directory_elsewhere,
    git_link_to_another_repository,
    links_for_everything_that_is_guarded,
    links_within_git,
    a_worktrees_directory_that_is_a_link,
    a_claude_directory_that_is_a_link,
    a_configuration_that_names_the_outside,
    a_nested_repository_behind_a_link,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_no_shipped_workspace_gets_mounts_outside_itself(world: World, attack: Callable[[World, Path], None]) -> None:
    secret = world.home / "secret"
    write(secret / "file")
    attack(world, secret)
    fence = world.survey().fence
    outside = [path for path in all_paths(fence) if not covers(str(world.workspace), os.path.realpath(path))]
    assert outside == []
    for name in ("self_bind", "nested_rw_bind"):
        assert all(os.path.realpath(path) == path for path in getattr(fence, name))


@pytest.mark.parametrize(
    "attack",
    [
        git_file_to_another_repository,
        git_file_to_a_secret,
        submodule_with_a_common_directory_elsewhere,
        git_directory_with_a_common_directory_elsewhere,
        git_link_to_another_repository,
    ],
    ids=lambda attack: attack.__name__,
)
def test_an_untrusted_repository_is_reported_and_read_only(world: World, attack: Callable[[World, Path], None]) -> None:
    secret = world.home / "secret"
    secret.mkdir()
    attack(world, secret)
    survey = world.survey()
    link = str(world.workspace / ".git")
    assert len(survey.remarks) == 1 and link in survey.remarks[0]
    assert link in survey.fence.ro_bind or link in survey.symlinks


def test_an_incomplete_repository_is_read_only(world: World) -> None:
    """git ignores an empty .git, and would obey one that a session has filled."""
    (world.workspace / ".git").mkdir()
    assert str(world.workspace / ".git") in world.survey().fence.ro_bind


def test_a_git_symlink_within_the_workspace_is_watched(world: World) -> None:
    repository(world.workspace)
    (world.workspace / ".git").rename(world.workspace / "store")
    (world.workspace / ".git").symlink_to("store")
    survey = world.survey()
    assert survey.symlinks == {str(world.workspace / ".git"): "store"}
    assert str(world.workspace / "store" / "hooks") in survey.fence.ro_bind
    assert str(world.workspace / "store") in survey.fence.self_bind


def ends(act: Callable[[], object]) -> bool:
    """Whether ``act`` returns within two minutes."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(timeout=120)
    return not thread.is_alive()


def test_pipes_in_place_of_files_do_not_block(world: World) -> None:
    repository(world.workspace)
    (world.workspace / ".git" / "config").unlink()
    for name in (".git/config", ".git/commondir", ".envrc", ".mcp.json"):
        os.mkfifo(world.workspace / name)
    (world.home / "projects" / "two").mkdir()
    os.mkfifo(world.home / "projects" / "two" / ".git")
    assert ends(world.survey) and ends(lambda: world.survey(world.home / "projects" / "two"))


@pytest.mark.parametrize("name", [".git", ".git/config", ".git/commondir"])
def test_huge_files_are_not_read_to_their_end(world: World, name: str) -> None:
    if name != ".git":
        repository(world.workspace)
    with open(world.workspace / name, "wb") as file:
        file.truncate(1 << 40)
    assert ends(world.survey)
