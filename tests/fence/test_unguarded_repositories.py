"""Repositories that no mount guards: what a session changes in them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from claude_local.fence import policy
from claude_local.fence.watch import Watch
from tests.fence.watching import renamed, start_watch
from tests.fence.world import git, repository, write


@pytest.fixture(params=["a/b/c/d/e", "build/_deps/x-src", "one-too-many"])
def unguarded(request: pytest.FixtureRequest, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of the user's that is too deep, in a directory that is not scanned, or one too many."""
    if request.param == "one-too-many":
        monkeypatch.setattr(policy, "REPOSITORIES", 0)
    made = repository(workspace / request.param)
    git("config", "core.pager", "./page", cwd=made)
    write(made / ".git" / "hooks" / "post-commit", "mine")
    time.sleep(0.1)  # Files as old as the session count as its own.
    return made


def test_an_unguarded_repository_gets_its_config_back_and_keeps_no_planted_file(
    workspace: Path, unguarded: Path
) -> None:
    git_dir = unguarded / ".git"
    before = (git_dir / "config").read_text()
    running = start_watch(workspace)
    git("config", "core.fsmonitor", "touch evil", cwd=unguarded)
    write(git_dir / "hooks" / "pre-commit")
    write(git_dir / "commondir", "../evil")
    assert renamed(running) == {str(git_dir / name) for name in ("config", "hooks/pre-commit", "commondir")}
    assert (git_dir / "config").read_text() == before and (git_dir / "hooks" / "post-commit").read_text() == "mine"


def test_a_changed_hook_of_an_unguarded_repository_is_renamed(workspace: Path, unguarded: Path) -> None:
    hook = unguarded / ".git" / "hooks" / "post-commit"
    running = start_watch(workspace)
    hook.write_text("evil")
    assert renamed(running) == {str(hook)}


def test_everyday_work_in_an_unguarded_repository_stays(workspace: Path, unguarded: Path) -> None:
    running = start_watch(workspace)
    write(unguarded / "x")
    git("add", "x", cwd=unguarded)
    git("commit", "-m", "x", cwd=unguarded)
    git("remote", "add", "origin", "https://example.org/x", cwd=unguarded)
    os.utime(unguarded / ".git" / "hooks" / "post-commit")
    assert renamed(running) == set() and running.changed == []


def test_a_repository_that_git_uses_at_the_start_is_the_users(workspace: Path, unguarded: Path) -> None:
    """git in an editor makes and removes locks in it."""
    running = start_watch(workspace)
    running._survey.join()
    running.known.discard(str(unguarded / ".git"))
    write(unguarded / ".git" / "index.lock").unlink()
    running._survey_workspaces()
    assert renamed(running) == set() and running.changed == []


def test_a_repository_that_a_session_completes_at_its_start_is_reported(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier session left its parts, which were no repository. Their files are older than this session."""
    parts = workspace / "vendor" / "lib" / "parts"
    config = "[core]\n\trepositoryformatversion = 0\n\tfsmonitor = touch evil\n"
    write(parts / "config", config)
    write(parts / "hooks" / "pre-commit")
    for name in ("objects", "refs"):
        (parts / name).mkdir()
    time.sleep(0.1)
    begin = Watch.start

    def complete_and_begin(watch: Watch) -> None:
        write(parts / "HEAD", "ref: refs/heads/main\n")
        parts.rename(parts.with_name(".git"))
        begin(watch)

    monkeypatch.setattr(Watch, "start", complete_and_begin)
    running = start_watch(workspace)
    assert renamed(running) == set() and running.changed == [str(parts.with_name(".git") / "config")]


def test_a_new_repository_without_hooks_is_not_worth_a_word(workspace: Path) -> None:
    running = start_watch(workspace)
    repository(workspace)
    assert renamed(running) == set() and running.changed == []
    assert (workspace / ".git" / "info" / "exclude").exists()


def test_a_changed_program_of_an_unguarded_repository_is_reported(workspace: Path, unguarded: Path) -> None:
    for name in ("page", "same", "hooks/pre-commit"):
        write(unguarded / name)
    git("config", "core.editor", "./same", cwd=unguarded)
    git("config", "core.hooksPath", "hooks", cwd=unguarded)
    time.sleep(0.1)
    running = start_watch(workspace)
    write(unguarded / "page", "evil")
    write(unguarded / "hooks" / "post-commit", "evil")
    assert renamed(running) == set()
    assert set(running.changed) == {str(unguarded / "page"), str(unguarded / "hooks" / "post-commit")}


def test_a_deep_git_file_with_another_target_is_renamed(workspace: Path) -> None:
    deep = workspace / "a" / "b" / "c" / "d" / "e"
    git("worktree", "add", deep, cwd=repository(workspace / "main"))
    time.sleep(0.1)
    running = start_watch(workspace)
    git("init", "--bare", workspace / "evil")
    write(deep / ".git", "gitdir: ../../../../../evil\n")
    assert renamed(running) == {str(deep / ".git")}


def test_after_a_killed_session_only_its_own_files_are_renamed(workspace: Path) -> None:
    """The user has worked in the workspace before the session and after it."""
    mine = repository(workspace / "mine")
    git("config", "core.fsmonitor", "x", cwd=mine)
    known = [str(mine / ".git")]
    time.sleep(0.1)
    began = time.time()
    time.sleep(0.1)
    for name in ("evil", "", ".claude/worktrees/x"):
        git("config", "core.fsmonitor", "x", cwd=repository(workspace / name))
    write(workspace / "evil" / ".git" / "hooks" / "pre-commit")
    time.sleep(0.1)
    ended = time.time()
    time.sleep(0.1)
    git("config", "user.name", "x", cwd=mine)
    later = repository(workspace / "later")
    write(later / ".git" / "hooks" / "pre-commit")
    git("config", "core.fsmonitor", "x", cwd=later)
    found = {path for path, _, _ in Watch([str(workspace)], {}, {}, known).look_back(began, ended)}
    names = ("evil/.git/config", "evil/.git/hooks/pre-commit", ".git/config", ".claude/worktrees/x/.git/config")
    assert found == {str(workspace / name) for name in names}


# --- what hides a session's changes ----------------------------------------------------------------------


def test_files_that_a_session_hides_from_git_are_reported(workspace: Path, unguarded: Path) -> None:
    repository(workspace)
    for top in (workspace, unguarded):
        write(top / "old")
        git("add", "old", cwd=top)
        git("update-index", "--assume-unchanged", "old", cwd=top)
    running = start_watch(workspace)
    git("update-index", "--skip-worktree", "README", cwd=workspace)
    git("update-index", "--assume-unchanged", "README", cwd=unguarded)
    assert renamed(running) == set()
    assert running.hidden_files == {str(workspace / ".git"): ["README"], str(unguarded / ".git"): ["README"]}


def test_a_sparse_checkout_is_not_reported(workspace: Path) -> None:
    write(workspace / "src" / "x")
    git("add", "src", cwd=repository(workspace))
    git("commit", "-m", "x", cwd=workspace)
    git("sparse-checkout", "set", "none", cwd=workspace)
    running = start_watch(workspace)
    git("sparse-checkout", "set", "src", cwd=workspace)
    git("sparse-checkout", "set", "none", cwd=workspace)
    assert renamed(running) == set() and running.hidden_files == {}


@pytest.mark.parametrize("name", ["exclude", "attributes"])
def test_info_exclude_and_attributes_cannot_appear(workspace: Path, name: str) -> None:
    repository(workspace)
    path = workspace / ".git" / "info" / name
    path.unlink(missing_ok=True)
    running = start_watch(workspace)
    path.touch()
    running.look()
    assert running.blocked == [], "as Claude Code's own sandbox makes it"
    path.write_text("evil\n")
    assert renamed(running) == {str(path)}


def test_a_changed_info_exclude_is_reported(workspace: Path, unguarded: Path) -> None:
    near, untouched = repository(workspace / "near"), repository(workspace / "untouched")
    time.sleep(0.1)
    running = start_watch(workspace)
    paths = {write(top / ".git" / "info" / "exclude", "*.py\n") for top in (near, unguarded)}
    assert renamed(running) == set() and set(running.changed) == set(map(str, paths))
    assert untouched.exists()


@pytest.mark.parametrize("installed", [True, False])
def test_changes_to_what_installed_hooks_read_are_reported(workspace: Path, installed: bool) -> None:
    repository(workspace)
    write(workspace / "lefthook.yml", "same")
    write(workspace / ".pre-commit-config.yaml", "before")
    if installed:
        write(workspace / ".git" / "hooks" / "pre-commit")
    running = start_watch(workspace)
    write(workspace / "lefthook.yml", "same")
    config = write(workspace / ".pre-commit-config.yaml", "after")
    new = write(workspace / ".overcommit.yml")
    assert renamed(running) == set() and config.read_text() == "after"
    assert set(running.changed) == ({str(config), str(new)} if installed else set())
