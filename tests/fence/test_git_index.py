"""Indexes that git wrote are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.fence.git_index import hidden_paths
from tests.fence.world import git, write

NAMES = ["a", "a-much-longer-name.txt", "b/c/d", "b/c/e e", "é", "x" * 7, "x" * 8, "n" * 200, "z"]


def index(tmp_path: Path, version: int, *words: str, form: str = "sha1") -> bytes:
    """The index of a repository with NAMES, after ``git update-index WORDS``."""
    git("init", f"--object-format={form}", tmp_path)
    for name in NAMES:
        write(tmp_path / name)
    git("add", ".", cwd=tmp_path)
    git("update-index", f"--index-version={version}", cwd=tmp_path)
    if words:
        git("update-index", *words, cwd=tmp_path)
    return (tmp_path / ".git" / "index").read_bytes()


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_files_that_git_hides_are_listed(tmp_path: Path, version: int, name: str) -> None:
    data = index(tmp_path, version, "--skip-worktree", name)
    assert hidden_paths(data) == {name} and hidden_paths(data, sparse=True) == set()
    git("update-index", "--no-skip-worktree", name, cwd=tmp_path)
    git("update-index", "--assume-unchanged", "b/c/d", "z", cwd=tmp_path)
    data = (tmp_path / ".git" / "index").read_bytes()
    assert hidden_paths(data) == hidden_paths(data, sparse=True) == {"b/c/d", "z"}


@pytest.mark.parametrize("version", [2, 4])
def test_without_marks_nothing_is_listed(tmp_path: Path, version: int) -> None:
    assert hidden_paths(index(tmp_path, version)) == set()


def test_sha256_indexes_are_read(tmp_path: Path) -> None:
    data = index(tmp_path, 2, "--skip-worktree", "b/c/d", form="sha256")
    assert hidden_paths(data, name_size=32) == {"b/c/d"}


@given(st.binary(max_size=300))
def test_any_bytes_can_be_read(data: bytes) -> None:
    for version in (b"", b"DIRC\0\0\0\2\0\0\1\0", b"DIRC\0\0\0\4\0\0\1\0"):
        assert isinstance(hidden_paths(version + data), set)
