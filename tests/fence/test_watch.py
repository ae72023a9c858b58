"""New repositories, and what else appears in a workspace while a session runs."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_local.fence import scan
from claude_local.fence.quarantine import SUFFIX, open_directory
from claude_local.fence.watch import Watch
from tests.fence.watching import renamed, start_watch
from tests.fence.world import git, repository, write


@pytest.fixture
def outside(base: Path) -> Iterator[Path]:
    """A directory outside the workspace that holds all that the watch renames. Nothing in it may change."""
    top = base / "outside"
    for name in (
        "hooks/pre-commit",
        "pre-commit",
        "config",
        "commondir",
        "HEAD",
        "objects/x",
        "refs/x",
        ".git/hooks/x",
    ):
        write(top / name, "[core]\n\tfsmonitor = x\n")
    before = {each: sorted(names) for each, _, names in os.walk(top)}
    yield top
    assert {each: sorted(names) for each, _, names in os.walk(top)} == before


def test_everyday_work_stays(workspace: Path, base: Path) -> None:
    library = repository(base / "library")
    repository(workspace)
    running = start_watch(workspace)
    write(workspace / "x")
    git("add", "x", cwd=workspace)
    git("commit", "-m", "x", cwd=workspace)
    git("worktree", "add", workspace / "w", cwd=workspace)
    git("submodule", "add", library, "lib", cwd=workspace)
    git("clone", "--recurse-submodules", workspace, workspace / "clone")
    git("init", workspace / "new")
    git("worktree", "add", workspace / "new-w", cwd=repository(workspace / "newer"))
    assert renamed(running) == set()


def test_repositories_from_before_the_session_stay(workspace: Path) -> None:
    """Also deeper than the scan at the start goes."""
    deep = repository(workspace / "a" / "b" / "c" / "d" / "e" / "f")
    write(deep / ".git" / "hooks" / "pre-commit")
    git("config", "core.fsmonitor", "x", cwd=deep)
    time.sleep(0.1)  # Files as old as the session count as its own.
    assert renamed(start_watch(workspace)) == set()


def test_a_commondir_is_renamed_while_the_session_runs(workspace: Path) -> None:
    repository(workspace)
    running = start_watch(workspace)
    planted = write(workspace / ".git" / "commondir", "../evil")
    for _ in range(400):
        if not planted.exists():
            break
        time.sleep(0.05)
    assert not planted.exists() and (workspace / ".git" / f"commondir{SUFFIX}").exists()
    assert renamed(running) == {str(planted)}


def test_a_workspace_cannot_become_a_bare_repository(workspace: Path) -> None:
    running = start_watch(workspace)
    git("init", "--bare", workspace)
    assert renamed(running) == {str(workspace / "HEAD")}
    assert not scan.is_bare_repository(str(workspace))


def bare(path: Path) -> Path:
    """A bare repository that is its own working tree and runs a program."""
    git("init", "--bare", path)
    write(path / "config", "[core]\n\tbare = false\n\tworktree = .\n\tfsmonitor = touch evil\n")
    return path


@pytest.mark.parametrize("below", ["src", "a/b/c/d/e/f"])
def test_a_subdirectory_that_becomes_a_repository_runs_nothing(workspace: Path, below: str) -> None:
    running = start_watch(workspace)
    write(bare(workspace / below) / "hooks" / "post-update")
    write(workspace / "linked" / "HEAD", "ref: refs/heads/main\n")
    write(workspace / "linked" / "commondir", "../evil\n")
    planted = {
        workspace / below / "config",
        workspace / below / "hooks" / "post-update",
        workspace / "linked/commondir",
    }
    assert renamed(running) == set(map(str, planted))


def test_an_honest_bare_repository_stays_as_it_is(workspace: Path) -> None:
    """A remote to push to, a mirror, the leftovers of a test suite."""
    running = start_watch(workspace)
    new = repository(workspace / "new")
    git("init", "--bare", workspace / "remote.git")
    git("push", workspace / "remote.git", "main", cwd=new)
    git("clone", "--mirror", new, workspace / "mirror")
    git("worktree", "add", workspace / "tree", cwd=workspace / "mirror")
    assert renamed(running) == set()


def test_a_bare_repository_from_before_the_session_stays(workspace: Path) -> None:
    near, deep = bare(workspace / "near.git"), bare(workspace / "a" / "b" / "c" / "d" / "e")
    time.sleep(0.1)  # Files as old as the session count as its own.
    running = start_watch(workspace)
    git("init", "--bare", workspace / "new.git")
    assert renamed(running) == set() and near.exists() and deep.exists()


@pytest.mark.parametrize("below", ["", "a", "a/b/c/d/e/f", ".claude/worktrees/x", "a/.claude/worktrees/x", ".husky"])
def test_hooks_and_programs_in_a_new_repository_do_not_run(workspace: Path, below: str) -> None:
    running = start_watch(workspace)
    new = repository(workspace / below)
    write(new / ".git" / "hooks" / "pre-commit").chmod(0o755)
    git("config", "core.fsmonitor", "touch evil", cwd=new)
    assert renamed(running) == {str(new / ".git" / "hooks" / "pre-commit"), str(new / ".git" / "config")}
    assert (new / ".git" / "hooks" / "pre-commit.sample").exists(), "git's own samples are fine"


@pytest.mark.parametrize(
    "text", ["# x \\\n[core]\n\tfsmonitor = x\n", "[core]\n\thooksPath = x\n", "[include]\npath=x\n"]
)
def test_a_configuration_cannot_hide_what_it_runs(workspace: Path, text: str) -> None:
    running = start_watch(workspace)
    config = repository(workspace) / ".git" / "config"
    config.write_text(config.read_text() + text)
    assert renamed(running) == {str(config)}


def link_to_another(config: Path) -> None:
    write(config.parents[1] / "other", "[core]\n\tfsmonitor = x\n")
    config.unlink()
    config.symlink_to("../other")


def very_long(config: Path) -> None:
    config.write_text("# x\n" * (1 << 18) + "[core]\n\tfsmonitor = x\n")


def helper_for_an_address(config: Path) -> None:
    config.write_text(config.read_text() + '[url "ext::/path/m.sh "]\n\tinsteadOf = https://example.org/\n')


def working_tree_elsewhere(config: Path) -> None:
    git("config", "core.worktree", str(config.parents[2]), cwd=config.parent)


@pytest.mark.parametrize(
    "change",
    [link_to_another, very_long, helper_for_an_address, working_tree_elsewhere],
    ids=lambda change: change.__name__,
)
def test_a_config_that_leads_elsewhere_or_is_too_long_is_renamed(
    workspace: Path, change: Callable[[Path], None]
) -> None:
    running = start_watch(workspace)
    config = repository(workspace) / ".git" / "config"
    change(config)
    assert renamed(running) == {str(config)}


def test_config_worktree_is_checked_too(workspace: Path) -> None:
    running = start_watch(workspace)
    new = repository(workspace)
    git("sparse-checkout", "set", "src", cwd=new)
    assert running.stop() == [], "git's own is fine"
    running = start_watch(workspace / "a")
    planted = write(repository(workspace / "a") / ".git" / "config.worktree", "[core]\n\tfsmonitor = x\n")
    git("config", "extensions.worktreeConfig", "true", cwd=workspace / "a")
    assert renamed(running) == {str(planted)}


def test_honest_settings_of_a_new_repository_stay(workspace: Path) -> None:
    running = start_watch(workspace)
    new = repository(workspace)
    for key, value in (
        ("diff.algorithm", "histogram"), ("merge.conflictStyle", "zdiff3"), ("core.fsmonitor", "false"),
        ("filter.lfs.process", "git-lfs filter-process"), ("remote.origin.gh-resolved", "base"),
    ):  # fmt: skip
        git("config", key, value, cwd=new)
    git("clone", "--no-local", "--filter=blob:none", new, workspace / "partial")
    assert renamed(running) == set()


def test_directories_that_cannot_be_read_are_renamed_or_reported(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git runs a hook in a directory that it may enter but not list. root may list all, so the test simulates it."""
    running = start_watch(workspace)
    write(repository(workspace) / ".git" / "hooks" / "pre-commit")
    write(repository(workspace / "a") / "x")
    write(workspace / "closed" / "x")
    closed = [workspace / ".git" / "hooks", workspace / "a" / ".git", workspace / "closed"]
    real_open, real_scandir = os.open, os.scandir

    def refuse(path: Any, directory: int | None = None) -> None:
        full = os.path.join(os.readlink(f"/proc/self/fd/{directory}") if directory is not None else "/", path)
        if Path(full) in closed:
            raise PermissionError(13, "Permission denied", full)

    def closed_open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_DIRECTORY:
            refuse(path, dir_fd)
        return real_open(path, flags, mode, dir_fd=dir_fd)

    def closed_scandir(path: Any) -> Any:
        refuse(path)
        return real_scandir(path)

    monkeypatch.setattr(os, "open", closed_open)
    monkeypatch.setattr(os, "scandir", closed_scandir)
    assert renamed(running) == {str(closed[0]), str(closed[1])}
    assert running.unsearched == [str(closed[2])]


@pytest.mark.parametrize("below", ["", "a/b/c/d/e"])
def test_a_git_file_that_points_to_a_repository_of_the_session_is_renamed(workspace: Path, below: str) -> None:
    (workspace / below).mkdir(parents=True, exist_ok=True)
    running = start_watch(workspace)
    git("init", f"--separate-git-dir={workspace}/store", workspace / below)
    assert renamed(running) == {str(workspace / below / ".git")}


def made_up_worktree(workspace: Path) -> Path:
    """A worktree whose common directory the session wrote; that directory. Both ends point to each other."""
    store = workspace / "store"
    git("init", "--bare", store)
    entry = store / "worktrees" / "w"
    write(entry / "gitdir", f"{workspace}/w/.git\n")
    write(entry / "commondir", "../..\n")
    write(entry / "HEAD", "ref: refs/heads/main\n")
    write(workspace / "w" / ".git", f"gitdir: {entry}\n")
    return store


def test_a_made_up_worktree_runs_nothing(workspace: Path) -> None:
    running = start_watch(workspace)
    store = made_up_worktree(workspace)
    write(store / "hooks" / "pre-commit")
    git("config", "core.fsmonitor", "x", cwd=store)
    assert renamed(running) == {str(store / "hooks" / "pre-commit"), str(store / "config")}


def test_a_worktree_of_an_incomplete_repository_is_renamed(workspace: Path) -> None:
    running = start_watch(workspace)
    shutil.rmtree(made_up_worktree(workspace) / "refs")
    assert renamed(running) == {str(workspace / "w" / ".git")}


def test_a_new_submodule_is_checked_in_its_git_directory(workspace: Path, base: Path) -> None:
    library = repository(base / "library")
    repository(workspace)
    running = start_watch(workspace)
    git("submodule", "add", library, "lib", cwd=workspace)
    module = workspace / ".git" / "modules" / "lib"
    write(module / "hooks" / "post-checkout")
    git("config", "core.fsmonitor", "x", cwd=workspace / "lib")
    assert renamed(running) == {str(module / "hooks" / "post-checkout"), str(module / "config")}


def module_by_name(name: str) -> Callable[[Path, Path], Path]:
    def plant(workspace: Path, library: Path) -> Path:
        module = workspace / ".git" / "modules" / name
        git("clone", "--bare", library, module)
        git("config", "core.fsmonitor", "x", cwd=module)
        return module / "config"

    return plant


def module_behind_a_link(workspace: Path, library: Path) -> Path:
    git("clone", "--bare", library, workspace / "elsewhere" / "lib")
    (workspace / ".git" / "modules").symlink_to("../elsewhere")
    return workspace / ".git" / "modules"


def module_below_half_a_repository(workspace: Path, library: Path) -> Path:
    write(workspace / ".git" / "modules" / "a" / "HEAD", "ref: refs/heads/main\n")
    return module_by_name("a/lib")(workspace, library)


def configuration_of_a_worktree(workspace: Path, _: Path) -> Path:
    git("sparse-checkout", "set", "src", cwd=workspace)
    git("worktree", "add", workspace / "tree", cwd=workspace)
    return write(workspace / ".git" / "worktrees" / "tree" / "config.worktree", "[core]\n\tfsmonitor = x\n")


def second_configuration_before_git_obeys_it(workspace: Path, _: Path) -> Path:
    return write(workspace / ".git" / "config.worktree", "[core]\n\tfsmonitor = x\n")


@pytest.mark.parametrize(
    "plant",
    [module_by_name("lib"), module_by_name("a/b/c/d/e/lib"), module_behind_a_link, module_below_half_a_repository,
     configuration_of_a_worktree, second_configuration_before_git_obeys_it],
    ids=["module", "deep", "link", "half", "worktree", "second"],
)  # fmt: skip
@pytest.mark.parametrize("below", ["", "a/b/c/d/e"])
def test_a_session_cannot_add_a_configuration_to_a_repository(
    workspace: Path, base: Path, below: str, plant: Callable[[Path, Path], Path]
) -> None:
    """git uses an existing git directory for a submodule, and obeys a worktree's configuration."""
    library = repository(base / "library")
    top = repository(workspace / below)
    time.sleep(0.1)  # Files as old as the session count as its own.
    running = start_watch(workspace)
    planted = plant(top, library)
    assert renamed(running) == {str(planted)}


def test_submodules_and_worktrees_of_the_users_stay(workspace: Path, base: Path) -> None:
    library = repository(base / "library")
    repository(workspace)
    git("submodule", "add", library, "lib", cwd=workspace)
    git("config", "core.fsmonitor", "x", cwd=workspace / "lib")
    write(workspace / ".git" / "modules" / "lib" / "hooks" / "pre-commit")
    git("config", "extensions.worktreeConfig", "true", cwd=workspace)
    git("config", "--worktree", "core.sshCommand", "x", cwd=workspace)
    shutil.rmtree(workspace / "lib")
    running = start_watch(workspace)
    git("checkout", "lib", cwd=workspace)
    git("submodule", "update", "lib", cwd=workspace)
    git("worktree", "add", workspace / "tree", cwd=workspace)
    assert (workspace / "lib" / "README").exists() and (workspace / ".git/worktrees/tree/config.worktree").exists()
    assert renamed(running) == set()


def test_a_git_symlink_is_renamed_and_nothing_behind_it(workspace: Path, outside: Path) -> None:
    running = start_watch(workspace)
    (workspace / ".git").symlink_to(outside / ".git")
    (workspace / "a").mkdir()
    (workspace / "a" / ".git").symlink_to(outside)
    assert renamed(running) == {str(workspace / ".git"), str(workspace / "a" / ".git")}


def test_a_hooks_symlink_is_renamed_and_nothing_behind_it(workspace: Path, outside: Path) -> None:
    running = start_watch(workspace)
    for new in (repository(workspace), repository(workspace / "a")):
        for sample in (new / ".git" / "hooks").iterdir():
            sample.unlink()
        (new / ".git" / "hooks").rmdir()
        (new / ".git" / "hooks").symlink_to(outside / "hooks")
    assert renamed(running) == {str(workspace / ".git" / "hooks"), str(workspace / "a" / ".git" / "hooks")}


def test_the_watch_follows_no_symlink(workspace: Path, outside: Path) -> None:
    """The session may replace a watched path's directory by a symlink."""
    write(workspace / "a" / "placeholder")
    unwanted = {str(workspace / "a" / name): "x" for name in ("commondir", "hooks", "config", ".git/hooks/x")}
    links = {str(workspace / "a" / "HEAD"): "somewhere"}
    running = Watch([str(workspace)], unwanted, links)
    running.start()
    (workspace / "a" / "placeholder").unlink()
    (workspace / "a").rmdir()
    (workspace / "a").symlink_to(outside)
    assert renamed(running) == set()


def test_open_directory_follows_no_symlink(workspace: Path, outside: Path) -> None:
    write(workspace / "a" / "b" / "file")
    (workspace / "link").symlink_to("a")
    with open_directory(str(workspace), "a/b") as directory:
        assert os.listdir(directory) == ["file"]
    for top, below in ((workspace, "link/b"), (workspace / "link", "b"), (workspace, "a/none")):
        with pytest.raises(OSError), open_directory(str(top), below):
            pass


@pytest.mark.parametrize("replace", [lambda link: link.write_text("evil"), lambda link: link.symlink_to("evil")])
def test_what_takes_the_place_of_a_guarded_symlink_is_renamed(
    workspace: Path, replace: Callable[[Path], object]
) -> None:
    write(workspace / "env")
    write(workspace / "evil")
    link = workspace / ".envrc"
    link.symlink_to("env")
    running = start_watch(workspace)
    link.unlink()
    replace(link)
    assert renamed(running) == {str(link)}
    assert os.path.lexists(workspace / f".envrc{SUFFIX}") and not os.path.lexists(link)


def test_an_unchanged_guarded_symlink_stays(workspace: Path) -> None:
    write(workspace / "env")
    (workspace / ".envrc").symlink_to("env")
    assert renamed(start_watch(workspace)) == set()


def test_renaming_overwrites_nothing(workspace: Path) -> None:
    repository(workspace)
    running = start_watch(workspace)
    planted = workspace / ".git" / "commondir"
    for number in range(3):
        write(planted, str(number))
        running.look()
    running.stop()
    kept = sorted(each.read_text() for each in (workspace / ".git").glob(f"commondir{SUFFIX}*"))
    assert kept == ["0", "1", "2"]


def test_a_session_may_remove_its_workspace(base: Path, workspace: Path) -> None:
    running = start_watch(workspace)
    workspace.rmdir()
    assert renamed(running) == set()


def counted(function: Callable[..., Any], name: str, calls: list[str]) -> Callable[..., Any]:
    def call(*words: Any, **more: Any) -> Any:
        calls.append(name)
        return function(*words, **more)

    return call


def test_one_look_makes_few_system_calls(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch looks several times a second while the session runs."""
    repository(workspace)
    (workspace / "src").mkdir()
    for number in range(1000):
        write(workspace / "src" / f"{number}.py")
    running = start_watch(workspace)
    asked: list[str] = []
    for name in ("open", "stat", "lstat", "scandir", "listdir", "readlink"):
        monkeypatch.setattr(os, name, counted(getattr(os, name), name, asked))
    running.look()
    monkeypatch.undo()
    running.stop()
    assert 0 < len(asked) < 50, asked
