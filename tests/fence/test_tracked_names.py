"""Guarded names in git's index and refs: git checkout would write them outside."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from claude_local.fence import tracked_names
from claude_local.fence.tracked_names import Tracked, new_names, read_tracked
from tests.fence.watching import start_watch
from tests.fence.world import git, repository, write


def output(where: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, check=True).stdout.strip()


def plant(where: Path, path: str = ".husky/pre-commit", text: str = "evil") -> str:
    """Put a file into the index that is not on disk; the object."""
    source = write(where.parent / "source", text)
    blob = output(where, "hash-object", "-w", str(source))
    git("update-index", "--add", "--cacheinfo", f"100755,{blob},{path}", cwd=where)
    return blob


def committed(where: Path, path: str, text: str, branch: str) -> None:
    """A commit with the file, on a new branch; then back."""
    git("switch", "-c", branch, cwd=where)
    plant(where, path, text)
    git("commit", "-m", "x", cwd=where)
    git("reset", "--hard", cwd=where)
    git("switch", "-", cwd=where)


def found(where: Path, before: Tracked) -> dict[str, list[str]]:
    git_dir = str(where / ".git")
    return new_names(git_dir, before, read_tracked(git_dir))


def test_a_guarded_name_in_the_index_is_told(workspace: Path) -> None:
    repository(workspace)
    running = start_watch(workspace)
    plant(workspace)
    running.stop()
    git_dir = str(workspace / ".git")
    assert running.tracked == {git_dir: {".husky/pre-commit": ["the index"]}}
    (line,) = tracked_names.lines(git_dir, running.tracked[git_dir])
    assert ".husky/pre-commit" in line and git_dir in line and "git checkout" in line


@pytest.mark.parametrize("path", ["sub/.vscode/tasks.json", ".ENVRC", "a/.config/fish/config.fish", "sub/.claude/x"])
def test_guarded_names_count_at_any_depth_and_in_any_case(workspace: Path, path: str) -> None:
    before = read_tracked(str(repository(workspace) / ".git"))
    plant(workspace, path)
    plant(workspace, "vscode/x")
    assert found(workspace, before) == {path: ["the index"]}


def test_a_guarded_name_on_a_branch_a_tag_and_the_stash_is_told(workspace: Path) -> None:
    before = read_tracked(str(repository(workspace) / ".git"))
    committed(workspace, ".envrc", "evil", "topic")
    git("tag", "-a", "-m", "x", "v1", "topic", cwd=workspace)
    git("update-ref", "refs/stash", "topic", cwd=workspace)
    assert found(workspace, before) == {".envrc": ["refs/heads/topic", "refs/stash", "refs/tags/v1"]}


def test_a_guarded_name_in_a_new_repository_of_the_workspace_is_told(workspace: Path) -> None:
    running = start_watch(workspace)
    repository(workspace)
    committed(workspace, ".envrc", "evil", "topic")
    running.stop()
    assert running.tracked == {str(workspace / ".git"): {".envrc": ["refs/heads/topic"]}}


def test_what_was_on_another_branch_before_is_nothing_new(workspace: Path) -> None:
    """A session may switch and merge branches."""
    repository(workspace)
    committed(workspace, ".envrc", "mine", "topic")
    before = read_tracked(str(workspace / ".git"))
    git("merge", "topic", cwd=workspace)
    git("branch", "copy", "topic", cwd=workspace)
    write(workspace / "x")
    git("add", "x", cwd=workspace)
    git("commit", "-m", "x", cwd=workspace)
    assert found(workspace, before) == {}


def test_a_removed_guarded_name_is_not_told(workspace: Path) -> None:
    repository(workspace)
    git("switch", "-c", "other", cwd=workspace)
    plant(workspace)
    git("commit", "-m", "x", cwd=workspace)
    before = read_tracked(str(workspace / ".git"))
    git("rm", "--cached", ".husky/pre-commit", cwd=workspace)
    git("commit", "-m", "x", cwd=workspace)
    assert found(workspace, before) == {}


def test_a_graft_does_not_hide_a_commit(workspace: Path) -> None:
    repository(workspace)
    before = read_tracked(str(workspace / ".git"))
    committed(workspace, ".envrc", "evil", "topic")
    old, new = output(workspace, "rev-parse", "main"), output(workspace, "rev-parse", "topic")
    write(workspace / ".git" / "info" / "grafts", f"{old} {new}\n")
    assert found(workspace, before) == {".envrc": ["refs/heads/topic"]}


def test_an_object_that_replaces_another_is_told(workspace: Path) -> None:
    repository(workspace)
    before = read_tracked(str(workspace / ".git"))
    old, new = output(workspace, "rev-parse", "HEAD:README"), plant(workspace, "README", "y")
    git("replace", old, new, cwd=workspace)
    assert found(workspace, before) == {f"refs/replace/{old}": ["the refs"]}


@pytest.mark.parametrize("name", ["index", "HEAD", "packed-refs"])
def test_what_git_cannot_read_any_more_is_told(workspace: Path, name: str) -> None:
    before = read_tracked(str(repository(workspace) / ".git"))
    (workspace / ".git" / name).write_text("x")
    assert found(workspace, before)


def test_git_runs_nothing_that_the_repository_names(workspace: Path) -> None:
    repository(workspace)
    mark = workspace / "ran"
    program = write(workspace / "program", f"#!/bin/sh\ntouch '{mark}'\n")
    program.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "core.sshCommand", "diff.external", "alias.show-ref", "alias.ls-files"):
        git("config", key, str(program), cwd=workspace)
    write(workspace / ".git" / "hooks" / "post-index-change", program.read_text()).chmod(0o755)
    plant(workspace)
    mark.unlink(missing_ok=True)
    assert found(workspace, Tracked()) and not mark.exists()


def test_a_worktrees_index_and_head_are_its_own(workspace: Path) -> None:
    repository(workspace)
    git("worktree", "add", str(workspace / "tree"), "-b", "other", cwd=workspace)
    running = start_watch(workspace)
    plant(workspace / "tree")
    running.stop()
    assert running.tracked == {str(workspace / ".git/worktrees/tree"): {".husky/pre-commit": ["the index"]}}


@pytest.mark.parametrize("version", ["2", "3", "4"])
@pytest.mark.parametrize("mark", ["--skip-worktree", "--assume-unchanged"])
def test_files_that_git_status_leaves_out_are_told(workspace: Path, mark: str, version: str) -> None:
    repository(workspace)
    git("config", "index.version", version, cwd=workspace)
    git("config", "core.sparseCheckout", "true", cwd=workspace)
    running = start_watch(workspace)
    git("update-index", mark, "README", cwd=workspace)
    running.stop()
    # A sparse checkout skips files itself.
    assert running.hidden_files == ({} if mark == "--skip-worktree" else {str(workspace / ".git"): ["README"]})


def test_an_index_too_long_to_list_is_told(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 4 shortens paths: a small index can list more than the memory holds."""
    repository(workspace)
    running = start_watch(workspace)
    monkeypatch.setattr(tracked_names, "_INDEX", 4)
    git("update-index", "--assume-unchanged", "README", cwd=workspace)
    running.stop()
    assert "something that git cannot read" in running.tracked[str(workspace / ".git")]
