"""What comes about in a workspace while a session runs and would run outside the fence afterwards."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_local.fence import policy, scan
from claude_local.fence.prepare import survey_workspaces
from claude_local.fence.quarantine import SUFFIX, open_directory
from claude_local.fence.survey import Places, Survey
from claude_local.fence.watch import Watch
from tests.fence.world import git, repository, write


@pytest.fixture
def base(tmp_path: Path) -> Path:
    found = Path(os.path.realpath(tmp_path))
    (found / "ws").mkdir()
    return found


@pytest.fixture
def workspace(base: Path) -> Path:
    return base / "ws"


def watch(workspace: Path) -> Watch:
    """As the launcher makes it for a session in ``workspace``; it has started."""
    found = Survey()
    home = str(workspace.parent / "home")
    survey_workspaces(found, [str(workspace)], Places(home, home, [], []), [])
    made = Watch([str(workspace)], found.forbidden, found.symlinks, found.repositories, found.unguarded)
    made.start()
    return made


def stopped(running: Watch) -> set[str]:
    """What was renamed."""
    return {path for path, what, new in running.stop() if what and os.path.lexists(new)}


@pytest.fixture
def outside(base: Path) -> Iterator[Path]:
    """A directory of the user's, with everything that the watch looks for; not one name in it may change."""
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


def test_an_everyday_session_loses_nothing(workspace: Path, base: Path) -> None:
    library = repository(base / "library")
    repository(workspace)
    running = watch(workspace)
    write(workspace / "x")
    git("add", "x", cwd=workspace)
    git("commit", "-m", "x", cwd=workspace)
    git("worktree", "add", workspace / "w", cwd=workspace)
    git("submodule", "add", library, "lib", cwd=workspace)
    git("clone", "--recurse-submodules", workspace, workspace / "clone")
    git("init", workspace / "new")
    git("worktree", "add", workspace / "new-w", cwd=repository(workspace / "newer"))
    assert stopped(running) == set()


def test_what_was_there_before_is_the_users(workspace: Path) -> None:
    """Further down than the fence goes, too."""
    deep = repository(workspace / "a" / "b" / "c" / "d" / "e" / "f")
    write(deep / ".git" / "hooks" / "pre-commit")
    git("config", "core.fsmonitor", "x", cwd=deep)
    time.sleep(0.1)  # what is as old as the session could be the session's
    assert stopped(watch(workspace)) == set()


def test_a_common_directory_is_taken_away_while_the_session_runs(workspace: Path) -> None:
    repository(workspace)
    running = watch(workspace)
    planted = write(workspace / ".git" / "commondir", "../evil")
    for _ in range(400):
        if not planted.exists():
            break
        time.sleep(0.05)
    assert not planted.exists() and (workspace / ".git" / f"commondir{SUFFIX}").exists()
    assert stopped(running) == {str(planted)}


def test_a_workspace_that_becomes_a_bare_repository_is_none(workspace: Path) -> None:
    running = watch(workspace)
    git("init", "--bare", workspace)
    assert stopped(running) == {str(workspace / "HEAD")}
    assert not scan.is_bare_repository(str(workspace))


def bare(path: Path) -> Path:
    """A bare repository that calls its own directory the working tree and runs a program."""
    git("init", "--bare", path)
    write(path / "config", "[core]\n\tbare = false\n\tworktree = .\n\tfsmonitor = touch evil\n")
    return path


@pytest.mark.parametrize("below", ["src", "a/b/c/d/e/f"])
def test_a_subdirectory_that_becomes_a_repository_runs_nothing(workspace: Path, below: str) -> None:
    running = watch(workspace)
    write(bare(workspace / below) / "hooks" / "post-update")
    write(workspace / "linked" / "HEAD", "ref: refs/heads/main\n")
    write(workspace / "linked" / "commondir", "../evil\n")
    planted = {
        workspace / below / "config",
        workspace / below / "hooks" / "post-update",
        workspace / "linked/commondir",
    }
    assert stopped(running) == set(map(str, planted))


def test_an_honest_bare_repository_stays_as_it_is(workspace: Path) -> None:
    """A remote to push to, a mirror, what a test suite leaves."""
    running = watch(workspace)
    new = repository(workspace / "new")
    git("init", "--bare", workspace / "remote.git")
    git("push", workspace / "remote.git", "main", cwd=new)
    git("clone", "--mirror", new, workspace / "mirror")
    git("worktree", "add", workspace / "tree", cwd=workspace / "mirror")
    assert stopped(running) == set()


def test_a_bare_repository_that_was_there_is_the_users(workspace: Path) -> None:
    near, deep = bare(workspace / "near.git"), bare(workspace / "a" / "b" / "c" / "d" / "e")
    time.sleep(0.1)  # what is as old as the session could be the session's
    running = watch(workspace)
    git("init", "--bare", workspace / "new.git")
    assert stopped(running) == set() and near.exists() and deep.exists()


@pytest.mark.parametrize("below", ["", "a", "a/b/c/d/e/f", ".claude/worktrees/x", "a/.claude/worktrees/x", ".husky"])
def test_hooks_and_programs_in_a_new_repository_do_not_run(workspace: Path, below: str) -> None:
    running = watch(workspace)
    new = repository(workspace / below)
    write(new / ".git" / "hooks" / "pre-commit").chmod(0o755)
    git("config", "core.fsmonitor", "touch evil", cwd=new)
    assert stopped(running) == {str(new / ".git" / "hooks" / "pre-commit"), str(new / ".git" / "config")}
    assert (new / ".git" / "hooks" / "pre-commit.sample").exists(), "git's own samples are fine"


@pytest.mark.parametrize(
    "text", ["# x \\\n[core]\n\tfsmonitor = x\n", "[core]\n\thooksPath = x\n", "[include]\npath=x\n"]
)
def test_a_configuration_cannot_hide_what_it_runs(workspace: Path, text: str) -> None:
    running = watch(workspace)
    config = repository(workspace) / ".git" / "config"
    config.write_text(config.read_text() + text)
    assert stopped(running) == {str(config)}


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
def test_a_configuration_that_is_no_plain_one_is_taken_away(workspace: Path, change: Callable[[Path], None]) -> None:
    running = watch(workspace)
    config = repository(workspace) / ".git" / "config"
    change(config)
    assert stopped(running) == {str(config)}


def test_a_second_configuration_is_looked_at_too(workspace: Path) -> None:
    running = watch(workspace)
    new = repository(workspace)
    git("sparse-checkout", "set", "src", cwd=new)
    assert running.stop() == [], "git's own is fine"
    running = watch(workspace / "a")
    planted = write(repository(workspace / "a") / ".git" / "config.worktree", "[core]\n\tfsmonitor = x\n")
    git("config", "extensions.worktreeConfig", "true", cwd=workspace / "a")
    assert stopped(running) == {str(planted)}


def test_honest_settings_of_a_new_repository_stay(workspace: Path) -> None:
    running = watch(workspace)
    new = repository(workspace)
    for key, value in (("diff.algorithm", "histogram"), ("merge.conflictStyle", "zdiff3"), ("core.fsmonitor", "false"),
                       ("filter.lfs.process", "git-lfs filter-process"), ("remote.origin.gh-resolved", "base")):  # fmt: skip
        git("config", key, value, cwd=new)
    git("clone", "--no-local", "--filter=blob:none", new, workspace / "partial")
    assert stopped(running) == set()


def test_what_nobody_may_list_is_taken_away_or_named(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git runs a hook in a directory that it may enter and not list; root may list everything, so it is acted out."""
    running = watch(workspace)
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
    assert stopped(running) == {str(closed[0]), str(closed[1])}
    assert running.unsearched == [str(closed[2])]


@pytest.mark.parametrize("below", ["", "a/b/c/d/e"])
def test_a_git_file_that_points_to_a_repository_of_the_sessions_own_is_taken_away(workspace: Path, below: str) -> None:
    (workspace / below).mkdir(parents=True, exist_ok=True)
    running = watch(workspace)
    git("init", f"--separate-git-dir={workspace}/store", workspace / below)
    assert stopped(running) == {str(workspace / below / ".git")}


def made_up_worktree(workspace: Path) -> Path:
    """Its other end points back, and its common directory is one that the session wrote; that directory."""
    store = workspace / "store"
    git("init", "--bare", store)
    entry = store / "worktrees" / "w"
    write(entry / "gitdir", f"{workspace}/w/.git\n")
    write(entry / "commondir", "../..\n")
    write(entry / "HEAD", "ref: refs/heads/main\n")
    write(workspace / "w" / ".git", f"gitdir: {entry}\n")
    return store


def test_a_made_up_worktree_runs_nothing(workspace: Path) -> None:
    running = watch(workspace)
    store = made_up_worktree(workspace)
    write(store / "hooks" / "pre-commit")
    git("config", "core.fsmonitor", "x", cwd=store)
    assert stopped(running) == {str(store / "hooks" / "pre-commit"), str(store / "config")}


def test_a_worktree_of_what_is_no_repository_yet_is_taken_away(workspace: Path) -> None:
    running = watch(workspace)
    shutil.rmtree(made_up_worktree(workspace) / "refs")
    assert stopped(running) == {str(workspace / "w" / ".git")}


def test_a_new_submodule_is_looked_at_where_its_repository_is(workspace: Path, base: Path) -> None:
    library = repository(base / "library")
    repository(workspace)
    running = watch(workspace)
    git("submodule", "add", library, "lib", cwd=workspace)
    module = workspace / ".git" / "modules" / "lib"
    write(module / "hooks" / "post-checkout")
    git("config", "core.fsmonitor", "x", cwd=workspace / "lib")
    assert stopped(running) == {str(module / "hooks" / "post-checkout"), str(module / "config")}


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
def test_a_repository_does_not_come_to_hold_another_configuration(
    workspace: Path, base: Path, below: str, plant: Callable[[Path, Path], Path]
) -> None:
    """git takes a submodule's repository that is there already, and obeys a worktree's configuration."""
    library = repository(base / "library")
    top = repository(workspace / below)
    time.sleep(0.1)  # what is as old as the session could be the session's
    running = watch(workspace)
    running._survey.join()
    planted = plant(top, library)
    assert stopped(running) == {str(planted)}


def test_submodules_and_worktrees_of_the_users_stay(workspace: Path, base: Path) -> None:
    library = repository(base / "library")
    repository(workspace)
    git("submodule", "add", library, "lib", cwd=workspace)
    git("config", "core.fsmonitor", "x", cwd=workspace / "lib")
    write(workspace / ".git" / "modules" / "lib" / "hooks" / "pre-commit")
    git("config", "extensions.worktreeConfig", "true", cwd=workspace)
    git("config", "--worktree", "core.sshCommand", "x", cwd=workspace)
    shutil.rmtree(workspace / "lib")
    running = watch(workspace)
    git("checkout", "lib", cwd=workspace)
    git("submodule", "update", "lib", cwd=workspace)
    git("worktree", "add", workspace / "tree", cwd=workspace)
    assert (workspace / "lib" / "README").exists() and (workspace / ".git/worktrees/tree/config.worktree").exists()
    assert stopped(running) == set()


def test_a_git_link_is_taken_away_and_nothing_behind_it(workspace: Path, outside: Path) -> None:
    running = watch(workspace)
    (workspace / ".git").symlink_to(outside / ".git")
    (workspace / "a").mkdir()
    (workspace / "a" / ".git").symlink_to(outside)
    assert stopped(running) == {str(workspace / ".git"), str(workspace / "a" / ".git")}


def test_hooks_that_lead_outside_are_taken_away_and_nothing_behind_them(workspace: Path, outside: Path) -> None:
    running = watch(workspace)
    for new in (repository(workspace), repository(workspace / "a")):
        for sample in (new / ".git" / "hooks").iterdir():
            sample.unlink()
        (new / ".git" / "hooks").rmdir()
        (new / ".git" / "hooks").symlink_to(outside / "hooks")
    assert stopped(running) == {str(workspace / ".git" / "hooks"), str(workspace / "a" / ".git" / "hooks")}


def test_links_on_the_way_lead_the_watch_nowhere(workspace: Path, outside: Path) -> None:
    """What is watched lies below names that the session may replace by links."""
    write(workspace / "a" / "placeholder")
    unwanted = {str(workspace / "a" / name): "x" for name in ("commondir", "hooks", "config", ".git/hooks/x")}
    links = {str(workspace / "a" / "HEAD"): "somewhere"}
    running = Watch([str(workspace)], unwanted, links)
    running.start()
    (workspace / "a" / "placeholder").unlink()
    (workspace / "a").rmdir()
    (workspace / "a").symlink_to(outside)
    assert stopped(running) == set()


def test_a_directory_is_opened_through_no_link(workspace: Path, outside: Path) -> None:
    write(workspace / "a" / "b" / "file")
    (workspace / "link").symlink_to("a")
    with open_directory(str(workspace), "a/b") as directory:
        assert os.listdir(directory) == ["file"]
    for top, below in ((workspace, "link/b"), (workspace / "link", "b"), (workspace, "a/none")):
        with pytest.raises(OSError), open_directory(str(top), below):
            pass


def test_a_guarded_link_that_is_replaced_is_put_aside(workspace: Path) -> None:
    write(workspace / "env")
    link = workspace / ".envrc"
    link.symlink_to("env")
    running = watch(workspace)
    link.unlink()
    link.write_text("evil")
    assert stopped(running) == {str(link)}
    assert (workspace / f".envrc{SUFFIX}").read_text() == "evil" and not link.exists()


def test_a_guarded_link_that_is_turned_elsewhere_is_put_aside(workspace: Path) -> None:
    write(workspace / "env")
    write(workspace / "evil")
    link = workspace / ".envrc"
    link.symlink_to("env")
    running = watch(workspace)
    link.unlink()
    link.symlink_to("evil")
    assert stopped(running) == {str(link)}
    assert not link.is_symlink()


def test_a_guarded_link_that_stays_is_left_alone(workspace: Path) -> None:
    write(workspace / "env")
    (workspace / ".envrc").symlink_to("env")
    assert stopped(watch(workspace)) == set()


def test_names_are_not_overwritten_by_what_is_put_aside(workspace: Path) -> None:
    repository(workspace)
    running = watch(workspace)
    planted = workspace / ".git" / "commondir"
    for number in range(3):
        write(planted, str(number))
        running.look()
    running.stop()
    kept = sorted(each.read_text() for each in (workspace / ".git").glob(f"commondir{SUFFIX}*"))
    assert kept == ["0", "1", "2"]


def test_a_session_that_removes_its_workspace_stops_nothing(base: Path, workspace: Path) -> None:
    running = watch(workspace)
    workspace.rmdir()
    assert stopped(running) == set()


def counted(function: Callable[..., Any], name: str, calls: list[str]) -> Callable[..., Any]:
    def call(*words: Any, **more: Any) -> Any:
        calls.append(name)
        return function(*words, **more)

    return call


def test_one_look_asks_the_system_little(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks several times a second, as long as the session lives."""
    repository(workspace)
    (workspace / "src").mkdir()
    for number in range(1000):
        write(workspace / "src" / f"{number}.py")
    running = watch(workspace)
    asked: list[str] = []
    for name in ("open", "stat", "lstat", "scandir", "listdir", "readlink"):
        monkeypatch.setattr(os, name, counted(getattr(os, name), name, asked))
    running.look()
    monkeypatch.undo()
    running.stop()
    assert 0 < len(asked) < 50, asked


# --- repositories that no mount guards -----------------------------------------------------------------------------------


@pytest.fixture(params=["a/b/c/d/e", "build/_deps/x-src", "one-too-many"])
def unguarded(request: pytest.FixtureRequest, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of the user's beyond the depth, in a directory that is not scanned, beyond the number."""
    if request.param == "one-too-many":
        monkeypatch.setattr(policy, "REPOSITORIES", 0)
    made = repository(workspace / request.param)
    git("config", "core.pager", "./page", cwd=made)
    write(made / ".git" / "hooks" / "post-commit", "mine")
    time.sleep(0.1)  # what is as old as the session could be the session's
    return made


def test_what_a_session_plants_in_an_unguarded_repository_is_put_aside_and_its_configuration_back(
    workspace: Path, unguarded: Path
) -> None:
    git_dir = unguarded / ".git"
    before = (git_dir / "config").read_text()
    running = watch(workspace)
    running._survey.join()
    git("config", "core.fsmonitor", "touch evil", cwd=unguarded)
    write(git_dir / "hooks" / "pre-commit")
    write(git_dir / "commondir", "../evil")
    assert stopped(running) == {str(git_dir / name) for name in ("config", "hooks/pre-commit", "commondir")}
    assert (git_dir / "config").read_text() == before and (git_dir / "hooks" / "post-commit").read_text() == "mine"


def test_a_hook_of_an_unguarded_repository_that_is_changed_is_put_aside(workspace: Path, unguarded: Path) -> None:
    hook = unguarded / ".git" / "hooks" / "post-commit"
    running = watch(workspace)
    running._survey.join()
    hook.write_text("evil")
    assert stopped(running) == {str(hook)}


def test_everyday_work_in_an_unguarded_repository_stays(workspace: Path, unguarded: Path) -> None:
    running = watch(workspace)
    running._survey.join()
    write(unguarded / "x")
    git("add", "x", cwd=unguarded)
    git("commit", "-m", "x", cwd=unguarded)
    git("remote", "add", "origin", "https://example.org/x", cwd=unguarded)
    os.utime(unguarded / ".git" / "hooks" / "post-commit")
    assert stopped(running) == set() and running.changed == []


def test_a_repository_that_git_is_busy_in_at_the_start_is_the_users(workspace: Path, unguarded: Path) -> None:
    """An editor's git makes and removes its locks there; a session could have renamed another directory, so it is told."""
    running = watch(workspace)
    write(unguarded / ".git" / "index.lock").unlink()
    running._survey.join()
    running.known.discard(str(unguarded / ".git"))
    running._doubtful.clear()
    write(unguarded / ".git" / "index.lock").unlink()
    running._survey_workspaces()
    assert stopped(running) == set()
    if str(unguarded / ".git") not in running.unguarded:
        assert running.changed == [str(unguarded / ".git" / "config")]


def test_a_program_that_an_unguarded_repository_runs_is_named_when_it_changed(workspace: Path, unguarded: Path) -> None:
    for name in ("page", "same", "hooks/pre-commit"):
        write(unguarded / name)
    git("config", "core.editor", "./same", cwd=unguarded)
    git("config", "core.hooksPath", "hooks", cwd=unguarded)
    time.sleep(0.1)
    running = watch(workspace)
    running._survey.join()
    write(unguarded / "page", "evil")
    write(unguarded / "hooks" / "post-commit", "evil")
    assert stopped(running) == set()
    assert set(running.changed) == {str(unguarded / "page"), str(unguarded / "hooks" / "post-commit")}


def test_a_git_file_deep_down_that_is_turned_elsewhere_is_taken_away(workspace: Path) -> None:
    deep = workspace / "a" / "b" / "c" / "d" / "e"
    git("worktree", "add", deep, cwd=repository(workspace / "main"))
    time.sleep(0.1)
    running = watch(workspace)
    running._survey.join()
    git("init", "--bare", workspace / "evil")
    write(deep / ".git", "gitdir: ../../../../../evil\n")
    assert stopped(running) == {str(deep / ".git")}


def test_after_a_session_that_was_cut_short_its_own_is_put_aside_and_nothing_else(workspace: Path) -> None:
    """The user has worked here before it and since."""
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


# --- what keeps a session's changes from being seen ----------------------------------------------------------------------


def test_files_that_git_shows_no_more_are_named(workspace: Path, unguarded: Path) -> None:
    repository(workspace)
    for top in (workspace, unguarded):
        write(top / "old")
        git("add", "old", cwd=top)
        git("update-index", "--assume-unchanged", "old", cwd=top)
    running = watch(workspace)
    running._survey.join()
    git("update-index", "--skip-worktree", "README", cwd=workspace)
    git("update-index", "--assume-unchanged", "README", cwd=unguarded)
    assert stopped(running) == set()
    assert running.hidden_files == {str(workspace / ".git"): ["README"], str(unguarded / ".git"): ["README"]}


def test_a_sparse_checkout_is_no_secret(workspace: Path) -> None:
    write(workspace / "src" / "x")
    git("add", "src", cwd=repository(workspace))
    git("commit", "-m", "x", cwd=workspace)
    git("sparse-checkout", "set", "none", cwd=workspace)
    running = watch(workspace)
    running._survey.join()
    git("sparse-checkout", "set", "src", cwd=workspace)
    git("sparse-checkout", "set", "none", cwd=workspace)
    assert stopped(running) == set() and running.hidden_files == {}


@pytest.mark.parametrize("name", ["exclude", "attributes"])
def test_a_list_of_exceptions_does_not_appear(workspace: Path, name: str) -> None:
    repository(workspace)
    path = workspace / ".git" / "info" / name
    path.unlink(missing_ok=True)
    running = watch(workspace)
    path.touch()
    running.look()
    assert running.blocked == [], "as Claude Code's own sandbox makes it"
    path.write_text("evil\n")
    assert stopped(running) == {str(path)}


def test_a_list_of_exceptions_in_another_repository_is_named_when_it_changed(workspace: Path, unguarded: Path) -> None:
    near, untouched = repository(workspace / "near"), repository(workspace / "untouched")
    time.sleep(0.1)
    running = watch(workspace)
    running._survey.join()
    paths = {write(top / ".git" / "info" / "exclude", "*.py\n") for top in (near, unguarded)}
    assert stopped(running) == set() and set(running.changed) == set(map(str, paths))
    assert untouched.exists()


@pytest.mark.parametrize("installed", [True, False])
def test_what_installed_hooks_read_is_named_when_it_changed(workspace: Path, installed: bool) -> None:
    repository(workspace)
    write(workspace / "lefthook.yml", "same")
    write(workspace / ".pre-commit-config.yaml", "before")
    if installed:
        write(workspace / ".git" / "hooks" / "pre-commit")
    running = watch(workspace)
    write(workspace / "lefthook.yml", "same")
    config = write(workspace / ".pre-commit-config.yaml", "after")
    new = write(workspace / ".overcommit.yml")
    assert stopped(running) == set() and config.read_text() == "after"
    assert set(running.changed) == ({str(config), str(new)} if installed else set())
