"""What the fence finds in homes, workspaces and repositories: made by real git, and by somebody who ships a workspace."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_local.fence import launch, observe, plan, policy
from claude_local.fence.observe import Found, Places, WorkspaceRefused
from claude_local.fence.plan import Fence, covers


def git(*words: str | Path, cwd: Path | None = None) -> None:
    """git without anybody's configuration."""
    env = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        **{f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    always = ["-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *always, *words], cwd=cwd, env=env, check=True, capture_output=True)


def repository(path: Path) -> Path:
    """A repository with one commit; its directory."""
    git("init", path)
    (path / "README").write_text("x")
    git("add", "README", cwd=path)
    git("commit", "-m", "x", cwd=path)
    return path


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class World:
    """A home, claude-local's own directories in it, and a workspace below it."""

    def __init__(self, tmp_path: Path) -> None:
        self.base = Path(os.path.realpath(tmp_path))
        self.home = self.base / "home"
        self.workspace = self.home / "projects" / "one"
        self.workspace.mkdir(parents=True)
        self.config_dir = self.home / ".claude-local"
        self.config_dir.mkdir()
        self.share = self.home / ".local" / "share" / "claude-local"
        self.share.mkdir(parents=True)
        self.places = Places(str(self.home), str(self.config_dir), [str(self.config_dir), str(self.share)], [])

    def hide(self, hidden: list[str] | None = None, visible: list[str] | None = None) -> Fence:
        found = Found()
        observe.hide(found, self.places, hidden or [], visible or [])
        return found.fence

    def found(self, workspace: Path | None = None, stubs: list[str] | None = None) -> Found:
        """All that a session in ``workspace`` gets."""
        found = Found()
        observe.keep_programs(found, self.places)
        observe.hide(found, self.places, [], [])
        outside = launch.describe_workspaces(found, [str(workspace or self.workspace)], self.places, stubs or [])
        observe.settle(found, [*found.fence.writable, *outside])
        return found

    def guarded(self, workspace: Path | None = None) -> set[str]:
        """What a session cannot write, relative to the home directory."""
        fence = self.found(workspace).fence
        paths = [*fence.guarded, *fence.stub_directories, *fence.stub_files]
        return {os.path.relpath(path, self.home) for path in paths}

    def opened(self, workspace: Path | None = None) -> set[str]:
        """What a session may write."""
        fence = self.found(workspace).fence
        return {*fence.writable, *fence.pinned, *fence.reopened}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- what is hidden ----------------------------------------------------------------------------------------------------


def test_secrets_in_the_home_directory_are_hidden_as_directories_or_as_files(world: World) -> None:
    write(world.home / ".ssh" / "id_rsa")
    write(world.home / ".bash_history")
    fence = world.hide()
    assert str(world.home / ".ssh") in fence.emptied
    assert str(world.home / ".bash_history") in fence.blanked
    assert str(world.home / ".aws") not in [*fence.emptied, *fence.blanked], "what is not there costs nothing"


def test_a_secret_behind_a_link_is_hidden_where_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "EMPTIED", ())  # this test's directory lies in one of them
    write(world.base / "elsewhere" / "key")
    write(world.base / "netrc")
    (world.home / ".ssh").symlink_to(world.base / "elsewhere")
    (world.home / ".netrc").symlink_to("../netrc")
    fence = world.hide()
    assert str(world.base / "elsewhere") in fence.emptied and str(world.base / "netrc") in fence.blanked


def test_a_hidden_name_that_leads_to_the_home_directory_does_not_empty_it(world: World) -> None:
    (world.home / ".ssh").symlink_to(world.home)
    (world.home / ".aws").symlink_to("/")
    assert not {str(world.home), "/"} & set(world.hide().emptied)


def test_a_broken_link_is_no_reason_to_stop(world: World) -> None:
    (world.home / ".ssh").symlink_to("nowhere")
    (world.home / ".aws").symlink_to(".aws")
    assert str(world.home / "nowhere") not in world.hide().emptied


def test_what_the_user_wants_to_see_is_seen(world: World) -> None:
    write(world.home / ".docker" / "config.json")
    write(world.home / ".kube" / "config")
    write(world.home / ".kube" / "secret")
    fence = world.hide(visible=[str(world.home / ".docker"), str(world.home / ".kube" / "config")])
    assert str(world.home / ".docker") not in fence.emptied
    assert str(world.home / ".kube") in fence.emptied
    assert str(world.home / ".kube" / "config") in fence.shown


def test_what_the_user_wants_hidden_is_hidden(world: World) -> None:
    write(world.home / "papers" / "tax")
    assert str(world.home / "papers") in world.hide(hidden=[str(world.home / "papers")]).emptied


def test_programs_are_not_hidden_with_what_they_lie_in(world: World) -> None:
    program = write(world.home / "snap" / "claude")
    world.places.programs.append(str(program))
    assert str(world.home / "snap") not in world.hide().emptied


def test_the_other_claude_is_empty_but_for_its_ide_files(world: World) -> None:
    (world.home / ".claude" / "ide").mkdir(parents=True)
    fence = world.hide()
    assert str(world.home / ".claude") in fence.scratch
    assert str(world.home / ".claude" / "ide") in fence.shown


def test_the_other_claude_is_not_emptied_when_it_is_the_sessions_own(world: World) -> None:
    (world.home / ".claude").symlink_to(world.config_dir)
    assert world.hide().scratch == []


# --- workspaces that are refused ---------------------------------------------------------------------------------------


def refused(world: World, path: str | Path, found: Found | None = None) -> str:
    with pytest.raises(WorkspaceRefused) as raised:
        observe.check_workspace(str(path), world.places, found or Found())
    assert raised.value.fix
    return str(raised.value)


@pytest.mark.parametrize(
    "path", ["/", "/usr/bin", "/usr/lib/x", "/etc", "/etc/ssh", "/usr", "/var", "/proc/1", "/boot"]
)
def test_system_directories_are_refused(world: World, path: str) -> None:
    refused(world, path)


def test_the_home_directory_and_what_holds_it_are_refused(world: World) -> None:
    assert "your home directory" in refused(world, world.home)
    assert "holds your home directory" in refused(world, world.base)


def test_our_own_directories_are_refused_from_above_and_from_below(world: World) -> None:
    for path in (world.config_dir, world.config_dir / "projects", world.share, world.share.parent):
        assert "claude-local's own files" in refused(world, path)


def test_a_workspace_around_or_in_a_secret_is_refused_and_the_setting_is_named(world: World) -> None:
    found = Found(fence=Fence(emptied=[str(world.home / "work" / "keys")], blanked=[str(world.home / "x" / "token")]))
    for path in ("work", "work/keys", "work/keys/deep", "x"):
        assert "must not see" in refused(world, world.home / path, found)
    with pytest.raises(WorkspaceRefused) as raised:
        observe.check_workspace(str(world.home / "x"), world.places, found)
    assert f'fence_visible=["{world.home}/x/token"]' in raised.value.fix


def test_ordinary_directories_are_accepted(world: World) -> None:
    for path in (world.workspace, world.base / "data", Path("/srv/project"), Path("/opt/project"), Path("/usr/src/x")):
        observe.check_workspace(str(path), world.places, Found())


def test_a_home_directory_below_a_system_directory_has_workspaces(world: World) -> None:
    """As the accounts of services have it."""
    places = Places("/var/lib/someone", "/var/lib/someone/.claude-local", [], [])
    observe.check_workspace("/var/lib/someone/project", places, Found())
    with pytest.raises(WorkspaceRefused):
        observe.check_workspace("/var/lib/another", places, Found())


# --- what is guarded in a workspace ------------------------------------------------------------------------------------


def test_what_runs_later_is_read_only_and_what_is_missing_cannot_appear(world: World) -> None:
    write(world.workspace / ".vscode" / "tasks.json")
    write(world.workspace / ".envrc")
    fence = world.found().fence
    assert {str(world.workspace / ".vscode"), str(world.workspace / ".envrc")} <= set(fence.guarded)
    assert set(fence.stub_directories) == {
        str(world.workspace / name) for name in (".claude", ".idea", ".cursor", ".zed")
    }
    assert set(fence.stub_files) == {str(world.workspace / ".mcp.json")}


@pytest.mark.parametrize("name", sorted(policy.GUARDED))
def test_each_guarded_name_is_found_further_down_and_the_way_to_it_is_pinned(world: World, name: str) -> None:
    write(world.workspace / "a" / "b" / name)
    fence = world.found().fence
    assert str(world.workspace / "a" / "b" / name) in fence.guarded
    assert {str(world.workspace / "a"), str(world.workspace / "a" / "b")} <= set(fence.pinned)


def test_the_scan_ends_at_its_depth(world: World) -> None:
    levels = [f"l{number}" for number in range(policy.SCAN_DEPTH + 2)]
    for depth in range(len(levels) + 1):
        write(world.workspace.joinpath(*levels[:depth], ".envrc"))
    found = {path for path in world.found().fence.guarded if path.endswith(".envrc")}
    assert len(found) == policy.SCAN_DEPTH + 1


def test_the_scan_ends_at_its_limit_and_the_top_comes_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    write(world.workspace / ".vscode" / "tasks.json")
    for number in range(60):
        write(world.workspace / "many" / f"f{number}")
    write(world.workspace / "many" / "deep" / ".envrc")
    named, _ = observe.scan(str(world.workspace), limit=30)
    assert named == [str(world.workspace / ".vscode")]
    assert len(observe.scan(str(world.workspace))[0]) == 2


def test_a_workspace_that_is_too_large_is_said_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        write(world.workspace / f"f{number}")
    assert world.found().remarks == []
    scan = observe.scan
    monkeypatch.setattr(observe, "scan", lambda *words, **more: scan(*words, limit=30, **more))
    (remark,) = world.found().remarks
    assert str(world.workspace) in remark and "not guarded" in remark


def test_dependencies_are_not_scanned(world: World) -> None:
    write(world.workspace / "node_modules" / "x" / ".vscode" / "tasks.json")
    assert not [path for path in world.found().fence.guarded if "node_modules" in path]


def test_the_scan_follows_no_link(world: World) -> None:
    write(world.home / "other" / ".envrc")
    (world.workspace / "link").symlink_to(world.home / "other")
    (world.workspace / "loop").symlink_to(".")
    assert observe.scan(str(world.workspace)) == ([], [])


def test_a_guarded_link_within_the_workspace_is_watched_and_its_target_read_only(world: World) -> None:
    write(world.workspace / "env")
    (world.workspace / ".envrc").symlink_to("env")
    found = world.found()
    assert found.links == {str(world.workspace / ".envrc"): "env"}
    assert str(world.workspace / "env") in found.fence.guarded


def test_another_sessions_stubs_are_stubs_and_not_the_users_files(world: World) -> None:
    (world.workspace / ".claude").mkdir()
    write(world.workspace / ".envrc", "")
    stubs = [str(world.workspace / name) for name in (".claude", ".envrc")]
    fence = world.found(stubs=stubs).fence
    assert fence.guarded == [] and stubs[0] in fence.stub_directories and stubs[1] in fence.stub_files
    write(world.workspace / ".envrc", "now it is the user's")
    fence = world.found(stubs=stubs).fence
    assert fence.guarded == [stubs[1]] and stubs[1] not in fence.stub_files


def test_worktrees_of_claude_code_stay_writable_in_its_guarded_directory(world: World) -> None:
    (world.workspace / ".claude" / "worktrees").mkdir(parents=True)
    fence = world.found().fence
    assert fence.reopened == [str(world.workspace / ".claude" / "worktrees")]
    assert str(world.workspace / ".claude") in fence.guarded


def test_each_worktree_of_claude_code_is_guarded_like_a_workspace(world: World) -> None:
    """``claude-local --worktree`` and editors start in them later."""
    repository(world.workspace)
    tree = world.workspace / ".claude" / "worktrees" / "x"
    git("worktree", "add", tree, cwd=world.workspace)
    write(tree / "sub" / ".envrc")
    repository(tree / "vendor" / "y")
    fence = world.found().fence
    assert {str(tree / name) for name in (".git", "sub/.envrc", "vendor/y/.git/hooks")} <= set(fence.guarded)
    stubs = {*policy.STUB_DIRECTORIES, *policy.STUB_FILES}
    assert {str(tree / name) for name in stubs} <= {*fence.stub_directories, *fence.stub_files}
    on_the_way = {str(tree.joinpath(*name.split())) for name in ("", "sub", "vendor", "vendor y", "vendor y .git")}
    assert on_the_way <= set(fence.reopened), "none of them can be renamed"
    assert not on_the_way & set(fence.pinned), "it would be covered again"


# --- repositories ------------------------------------------------------------------------------------------------------


def test_hooks_and_configuration_are_guarded_and_the_rest_of_a_repository_is_open(world: World) -> None:
    repository(world.workspace)
    guarded = world.guarded()
    assert {"projects/one/.git/hooks", "projects/one/.git/config"} <= guarded
    assert str(world.workspace / ".git") in world.opened()
    assert "projects/one/.git" not in guarded and "projects/one/.git/index" not in guarded


def test_what_git_leaves_out_is_guarded_and_cannot_be_renamed_away(world: World) -> None:
    repository(world.workspace)
    assert "projects/one/.git/info/exclude" in world.guarded()
    assert str(world.workspace / ".git" / "info") in world.opened()


def test_a_repository_without_hooks_gets_none(world: World) -> None:
    git("init", "--template=", world.workspace)
    assert str(world.workspace / ".git" / "hooks") in world.found().fence.stub_directories


def test_a_common_directory_must_not_appear_in_a_repository(world: World) -> None:
    repository(world.workspace)
    assert str(world.workspace / ".git" / "commondir") in world.found().unwanted


def test_hooks_behind_a_link_are_guarded_and_the_link_is_watched(world: World) -> None:
    repository(world.workspace)
    hooks = world.workspace / ".git" / "hooks"
    for sample in hooks.iterdir():
        sample.unlink()
    hooks.rmdir()
    write(world.workspace / "tools" / "pre-commit")
    hooks.symlink_to("../tools")
    found = world.found()
    assert found.links[str(hooks)] == "../tools"
    assert str(world.workspace / "tools") in found.fence.guarded


def test_hooks_behind_a_link_that_leads_outside_open_nothing_and_the_link_is_watched(world: World) -> None:
    repository(world.workspace)
    hooks = world.workspace / ".git" / "hooks"
    hooks.rename(world.home / "hooks")
    hooks.symlink_to(world.home / "hooks")
    found = world.found()
    assert found.links[str(hooks)] == str(world.home / "hooks")
    assert all(covers(str(world.workspace), path) for path in found.fence.guarded)


@pytest.mark.parametrize(
    "written", [".githooks", "./.githooks", "{workspace}/.githooks", "a/../.githooks", ".git/../.githooks"]
)
def test_hooks_that_the_configuration_names_are_guarded(world: World, written: str) -> None:
    repository(world.workspace)
    write(world.workspace / ".githooks" / "pre-commit")
    (world.workspace / "a").mkdir()
    git("config", "core.hooksPath", written.format(workspace=world.workspace), cwd=world.workspace)
    assert "projects/one/.githooks" in world.guarded()


@pytest.mark.parametrize(("written", "stub"), [(".githooks", ".githooks"), ("tools/git/hooks", "tools")])
def test_hooks_that_the_configuration_names_and_that_are_missing_cannot_appear(
    world: World, written: str, stub: str
) -> None:
    repository(world.workspace)
    git("config", "core.hooksPath", written, cwd=world.workspace)
    assert str(world.workspace / stub) in world.found().fence.stub_directories


def test_named_hooks_outside_the_workspace_are_not_opened(world: World) -> None:
    repository(world.workspace)
    write(world.home / "hooks" / "pre-commit")
    git("config", "core.hooksPath", str(world.home / "hooks"), cwd=world.workspace)
    fence = world.found().fence
    assert not [path for path in all_paths(fence) if covers(str(world.home / "hooks"), path)]


def test_named_hooks_behind_a_link_that_leads_outside_open_nothing_and_the_link_is_watched(world: World) -> None:
    repository(world.workspace)
    write(world.home / "hooks" / "pre-commit")
    (world.workspace / ".githooks").symlink_to(world.home / "hooks")
    git("config", "core.hooksPath", ".githooks", cwd=world.workspace)
    found = world.found()
    assert not [path for path in all_paths(found.fence) if covers(str(world.home / "hooks"), path)]
    assert found.links == {str(world.workspace / ".githooks"): str(world.home / "hooks")}


def test_a_link_on_the_way_to_named_hooks_is_watched(world: World) -> None:
    repository(world.workspace)
    write(world.workspace / "real" / "hooks" / "pre-commit")
    (world.workspace / "tools").symlink_to("real")
    git("config", "core.hooksPath", "tools/hooks", cwd=world.workspace)
    found = world.found()
    assert found.links == {str(world.workspace / "tools"): "real"}
    assert str(world.workspace / "real" / "hooks") in found.fence.guarded


def test_the_workspace_stays_writable_when_it_is_its_own_hooks_directory(world: World) -> None:
    repository(world.workspace)
    git("config", "core.hooksPath", ".", cwd=world.workspace)
    assert str(world.workspace) not in world.found().fence.guarded


@pytest.mark.parametrize("key", ["include.path", "core.fsmonitor", "core.attributesFile", "filter.x.clean", "alias.x"])
def test_files_that_the_configuration_names_are_guarded(world: World, key: str) -> None:
    repository(world.workspace)
    write(world.workspace / "tools" / "run.sh")
    value = "../tools/run.sh" if key == "include.path" else "!tools/run.sh x" if key == "alias.x" else "tools/run.sh"
    git("config", key, value, cwd=world.workspace)
    assert "projects/one/tools/run.sh" in world.guarded()
    assert str(world.workspace / "tools") in world.opened()


def test_the_users_own_configuration_counts_too(world: World) -> None:
    repository(world.workspace)
    write(world.workspace / ".githooks" / "pre-commit")
    write(world.home / ".gitconfig", "[core]\n\thooksPath = .githooks  # in each repository\n")
    assert "projects/one/.githooks" in world.guarded()


def test_what_an_included_configuration_names_counts_too(world: World) -> None:
    """A team's settings in a tracked file; files that include each other come to an end."""
    repository(world.workspace)
    write(world.workspace / ".gitconfig.shared", "[include]\n\tpath = more/config\n")
    write(
        world.workspace / "more" / "config", "[core]\n\thooksPath = hooks\n[include]\n\tpath = ../.gitconfig.shared\n"
    )
    write(world.workspace / "hooks" / "pre-commit")
    git("config", "include.path", "../.gitconfig.shared", cwd=world.workspace)
    assert {f"projects/one/{name}" for name in (".gitconfig.shared", "more/config", "hooks")} <= world.guarded()
    assert str(world.workspace / "more") in world.opened()


@pytest.mark.parametrize(
    ("key", "value"),
    [("include.path", "../team/shared"), ("core.fsmonitor", "team/shared"), ("gpg.program", "team/shared")],
)
def test_what_a_configuration_names_and_is_missing_cannot_appear(world: World, key: str, value: str) -> None:
    repository(world.workspace)
    git("config", key, value, cwd=world.workspace)
    named = world.workspace / "team" / "shared"
    assert str(named) in world.found().unwanted, "there is no place for a stub"
    named.parent.mkdir()
    fence = world.found().fence
    assert str(named) in fence.stub_files and str(named.parent) in fence.pinned
    named.touch()
    fence = world.found(stubs=[str(named)]).fence
    assert str(named) in fence.stub_files and str(named) not in fence.guarded, "another session's"


@pytest.mark.parametrize(
    ("key", "value"),
    [("alias.lint", "!scripts/lint src/x.js"), ("core.editor", "vim"), ("credential.helper", "store"),
     ("remote.origin.url", "https://example.org/a/b"), ("core.sshCommand", "ssh -i ~/.ssh/key"), ("merge.tool", "meld")],
)  # fmt: skip
def test_what_no_configuration_runs_by_itself_may_appear(world: World, key: str, value: str) -> None:
    repository(world.workspace)
    (world.workspace / "scripts").mkdir()
    before = world.found()
    git("config", key, value, cwd=world.workspace)
    after = world.found()
    assert (after.fence.stub_files, after.unwanted) == (before.fence.stub_files, before.unwanted)


def test_hooks_that_are_named_in_other_repositories_of_the_workspace_are_guarded(world: World) -> None:
    """Nested ones, submodules, and each worktree: the name is relative to the working tree."""
    library = repository(world.base / "library")
    repository(world.workspace)
    git("submodule", "add", library, "lib", cwd=world.workspace)
    git("worktree", "add", world.workspace / ".claude" / "worktrees" / "x", cwd=world.workspace)
    tops = [world.workspace / name for name in ("lib", "nested", "", ".claude/worktrees/x")]
    repository(tops[1])
    for top in tops:
        write(top / ".githooks" / "pre-commit")
        git("config", "core.hooksPath", ".githooks", cwd=top)
    fence = world.found().fence
    assert {str(top / ".githooks") for top in tops} <= set(fence.guarded)


def test_the_users_configuration_is_found_where_the_environment_puts_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(world.workspace)
    for number, variable in enumerate(("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM")):
        place = world.home / f"place{number}"
        monkeypatch.setenv(variable, str(place))
        write(place / "git" / "config" if number == 0 else place, f"[core]\n\thooksPath = hooks{number}\n")
        write(world.workspace / f"hooks{number}" / "pre-commit")
        assert f"projects/one/hooks{number}" in world.guarded()
    assert "/etc/gitconfig" in observe.users_configurations("/home/x", {})


def test_a_subdirectory_may_write_its_repository_and_none_of_its_files(world: World) -> None:
    repository(world.workspace)
    below = world.workspace / "src"
    below.mkdir()
    opened = world.opened(below)
    assert {str(below), str(world.workspace / ".git")} <= opened and str(world.workspace) not in opened
    assert {"projects/one/.git/hooks", "projects/one/.git/config"} <= world.guarded(below)


def test_a_worktree_may_write_its_repository_and_points_nowhere_else(world: World) -> None:
    main = repository(world.home / "projects" / "main")
    world.workspace.rmdir()
    git("worktree", "add", world.workspace, cwd=main)
    found = world.found()
    entry = main / ".git" / "worktrees" / "one"
    assert str(main / ".git") in found.fence.pinned and str(entry) in found.fence.pinned
    guarded = {main / ".git" / "hooks", main / ".git" / "config", entry / "commondir", entry / "gitdir"}
    assert {str(path) for path in guarded} | {str(world.workspace / ".git")} <= set(found.fence.guarded)
    assert str(main) not in world.opened() and not found.remarks


def test_submodules_are_guarded_like_repositories(world: World) -> None:
    repository(world.base / "library")
    repository(world.workspace)
    git("submodule", "add", world.base / "library", "lib", cwd=world.workspace)
    module = "projects/one/.git/modules/lib"
    assert {f"{module}/hooks", f"{module}/config", "projects/one/lib/.git"} <= world.guarded()
    assert str(world.workspace / ".git" / "modules" / "lib") in world.opened()


def test_what_holds_submodules_and_worktrees_cannot_be_renamed(world: World) -> None:
    """A mount moves with the directory that it lies in, and another one could take its place."""
    repository(world.base / "library")
    nested = repository(world.workspace / "nested")
    for top in (repository(world.workspace), nested):
        git("submodule", "add", "--name", "deep/lib", world.base / "library", "lib", cwd=top)
        git("worktree", "add", world.base / f"tree-{top.name}", cwd=top)
        names = ("modules", "modules/deep", "modules/deep/lib", "worktrees", f"worktrees/tree-{top.name}")
        assert {str(top / ".git" / name) for name in names} <= world.opened()
    assert "projects/one/nested/.git/modules/deep/lib/config" in world.guarded()


def test_worktrees_get_no_configuration_of_their_own_where_git_would_obey_it(world: World) -> None:
    repository(world.workspace)
    git("worktree", "add", world.base / "tree", cwd=world.workspace)
    stub = "projects/one/.git/worktrees/tree/config.worktree"
    assert stub not in world.guarded()
    git("sparse-checkout", "set", "src", cwd=world.workspace)
    assert stub in world.guarded()


def test_a_session_in_a_submodule_may_write_its_repository(world: World) -> None:
    repository(world.base / "library")
    repository(world.workspace)
    git("submodule", "add", world.base / "library", "lib", cwd=world.workspace)
    opened = world.opened(world.workspace / "lib")
    assert str(world.workspace / ".git" / "modules" / "lib") in opened
    assert str(world.workspace / ".git") not in opened and str(world.workspace) not in opened


def test_a_nested_repository_is_guarded_and_cannot_be_moved_away(world: World) -> None:
    repository(world.workspace / "vendor" / "x")
    assert {"projects/one/vendor/x/.git/hooks", "projects/one/vendor/x/.git/config"} <= world.guarded()
    assert {str(world.workspace / "vendor"), str(world.workspace / "vendor" / "x" / ".git")} <= world.opened()


@pytest.mark.parametrize("below", ["store.git", "a/b/x", ""])
def test_a_bare_repository_is_guarded_whatever_its_name_is(world: World, below: str) -> None:
    store = world.workspace / below
    git("init", "--bare", store)
    found = world.found()
    assert {str(store / "hooks"), str(store / "config")} <= set(found.fence.guarded)
    assert str(store) in {*found.fence.pinned, *found.fence.writable} and str(store) in found.repositories
    assert str(store / "objects") not in found.fence.guarded


def test_a_directory_that_is_no_repository_has_none(world: World) -> None:
    found = world.found()
    assert not found.repositories and not found.remarks


# --- somebody ships a workspace ----------------------------------------------------------------------------------------


def all_paths(fence: Fence) -> list[str]:
    """What is mounted over itself, or made."""
    names = ("writable", "pinned", "guarded", "reopened", "stub_directories", "stub_files")
    return [path for name in names for path in getattr(fence, name)]


def ships_nothing(world: World, _: Path) -> None:
    """The measure: even without an attack the check below holds."""


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
    for name in (*policy.STUB_DIRECTORIES, *policy.STUB_FILES, ".bashrc", ".husky"):
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
        f"\thooksPath = ~/missing\n[include]\n\tpath = link/file\n\tpath = {secret}/file\n\tpath = ../../../../.bashrc\n",
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
def test_no_shipped_workspace_opens_anything_outside_itself(
    world: World, attack: Callable[[World, Path], None]
) -> None:
    secret = world.home / "secret"
    write(secret / "file")
    attack(world, secret)
    fence = world.found().fence
    outside = [path for path in all_paths(fence) if not covers(str(world.workspace), os.path.realpath(path))]
    assert outside == []
    for name in ("pinned", "reopened"):
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
def test_a_repository_that_is_not_believed_is_named_and_stays_as_it_is(
    world: World, attack: Callable[[World, Path], None]
) -> None:
    secret = world.home / "secret"
    secret.mkdir()
    attack(world, secret)
    found = world.found()
    link = str(world.workspace / ".git")
    assert len(found.remarks) == 1 and link in found.remarks[0]
    assert link in found.fence.guarded or link in found.links


def test_a_half_made_repository_stays_as_it_is(world: World) -> None:
    """An empty .git is git's to ignore today; filled by a session it would be obeyed tomorrow."""
    (world.workspace / ".git").mkdir()
    assert str(world.workspace / ".git") in world.found().fence.guarded


def test_a_git_link_within_the_workspace_is_watched(world: World) -> None:
    repository(world.workspace)
    (world.workspace / ".git").rename(world.workspace / "store")
    (world.workspace / ".git").symlink_to("store")
    found = world.found()
    assert found.links == {str(world.workspace / ".git"): "store"}
    assert str(world.workspace / "store" / "hooks") in found.fence.guarded
    assert str(world.workspace / "store") in found.fence.pinned


def ends(act: Callable[[], object]) -> bool:
    """Whether it comes to an end at all."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(timeout=120)
    return not thread.is_alive()


def test_pipes_and_devices_in_the_place_of_files_do_not_keep_us_waiting(world: World) -> None:
    repository(world.workspace)
    (world.workspace / ".git" / "config").unlink()
    for name in (".git/config", ".git/commondir", ".envrc", ".mcp.json"):
        os.mkfifo(world.workspace / name)
    (world.home / "projects" / "two").mkdir()
    os.mkfifo(world.home / "projects" / "two" / ".git")
    assert ends(world.found) and ends(lambda: world.found(world.home / "projects" / "two"))


@pytest.mark.parametrize("name", [".git", ".git/config", ".git/commondir"])
def test_huge_files_are_not_read_to_their_end(world: World, name: str) -> None:
    if name != ".git":
        repository(world.workspace)
    with open(world.workspace / name, "wb") as file:
        file.truncate(1 << 40)
    assert ends(world.found)


def test_text_that_is_no_text_is_read_without_a_complaint(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe[core]\n")
    assert observe.text_of(str(tmp_path / "x")).endswith("[core]\n")
    assert (
        observe.text_of(str(tmp_path)) == observe.text_of(str(tmp_path / "none")) == observe.text_of("/dev/zero") == ""
    )


def test_settling_keeps_only_what_lies_in_a_root_under_its_own_name(tmp_path: Path) -> None:
    base = Path(os.path.realpath(tmp_path))
    root, outside = base / "root", base / "outside"
    write(root / "a" / "file")
    write(outside / "file")
    (root / "link").symlink_to(outside)
    (root / "alias").symlink_to("a")
    names = ["a", "link", "alias", "a/file", "link/file", "alias/file", "missing", "../outside", "../root", ".."]
    paths = [os.path.join(root, name) for name in names]
    found = Found(
        fence=Fence(
            writable=[str(root)], pinned=list(paths), guarded=list(paths), reopened=list(paths),
            stub_directories=[os.path.join(path, "new") for path in paths],
            stub_files=[os.path.join(path, "new") for path in paths],
        )
    )  # fmt: skip
    observe.settle(found, [str(root)])
    fence = found.fence
    assert fence.pinned == [str(root / "a")]
    assert set(fence.guarded) == {str(root / "a"), str(root / "a" / "file")}
    assert fence.reopened == [str(root / "a")]
    assert fence.stub_files == [], "a stub in something guarded is not needed"
    assert fence.stub_directories == []


def test_settling_drops_no_stub_that_is_needed(tmp_path: Path) -> None:
    root = os.path.realpath(tmp_path)
    found = Found(fence=Fence(writable=[root], stub_files=[root + "/.envrc"] * 2, stub_directories=[root + "/no/x"]))
    observe.settle(found, [root])
    assert found.fence.stub_files == [root + "/.envrc"]
    assert found.fence.stub_directories == [], "bubblewrap would make the directory on the way to it"


# --- sockets and the IDE -----------------------------------------------------------------------------------------------


def test_listening_sockets_are_read_from_the_kernels_table(tmp_path: Path) -> None:
    path = str(tmp_path / "a socket")
    with socket.socket(socket.AF_UNIX) as bound, socket.socket(socket.AF_UNIX) as abstract:
        bound.bind(path)
        bound.listen()
        abstract.bind("\0a-claude-local-test")
        found = observe.listening_sockets(observe.text_of("/proc/net/unix"))
    assert path in found and not [each for each in found if "claude-local-test" in each and each != path]
    assert observe.listening_sockets("") == []


def test_sockets_are_blanked_where_nothing_hides_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only mount does not stop a connection."""
    monkeypatch.setattr(policy, "EMPTIED", ())  # this test's directory lies in one of them
    names = ["open", "workspace/own", ".ssh/agent"]
    for name in names:
        (world.home / name).parent.mkdir(exist_ok=True)
    sockets = [socket.socket(socket.AF_UNIX) for _ in names]
    try:
        for each, name in zip(sockets, names, strict=True):
            each.bind(str(world.home / name))
        rows = "\n".join(
            f"0000: 00000002 00000000 00010000 0001 01 1234 {world.home / name}" for name in [*names, "gone"]
        )
        found = Found(fence=Fence(emptied=[str(world.home / ".ssh")]))
        observe.blank_sockets(found, "Num RefCount ...\n" + rows, [str(world.home / "workspace")])
    finally:
        for each in sockets:
            each.close()
    assert found.fence.blanked == [str(world.home / "open")]


def kernels_table() -> str:
    return observe.text_of("/proc/net/unix")


def test_a_control_socket_of_sshs_is_blanked_though_its_name_in_the_kernel_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSH binds a temporary name, links it to the real one and removes it (muxserver_listen in its mux.c)."""
    monkeypatch.setattr(policy, "EMPTIED", ())
    there = world.home / "masters"
    there.mkdir()
    write(there / "a-file")
    with socket.socket(socket.AF_UNIX) as master:
        master.bind(str(there / "host-22.XyZ"))
        master.listen()
        (there / "host-22").hardlink_to(there / "host-22.XyZ")
        (there / "host-22.XyZ").unlink()
        found = Found()
        observe.blank_sockets(found, kernels_table(), [])
    assert [path for path in found.fence.blanked if path.startswith(str(world.home))] == [str(there / "host-22")]


def test_a_socket_that_was_bound_by_a_relative_name_is_blanked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "EMPTIED", ())
    bind = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('a.sock'); s.listen(); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", bind], cwd=world.home, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as it:
        assert it.stdout is not None and it.stdout.readline() == b"\n"
        found = Found()
        observe.blank_sockets(found, kernels_table(), [])
        it.communicate(b"\n", timeout=20)
    assert str(world.home / "a.sock") in found.fence.blanked


def test_the_directories_of_sshs_control_sockets_are_taken_from_its_configuration(world: World) -> None:
    write(world.home / ".ssh" / "config", """
Include conf.d/*.conf ~/.ssh/more
Host *
  ControlPath ~/.cache/ssh/%C
host x
\tcontrolpath="%d/masters/%r@%h:%p"
  ControlPath none
Host y
  ControlPath=~/.cache/%C
  ControlPath %d/%C
""")  # fmt: skip
    write(world.home / ".ssh" / "conf.d" / "a.conf", "ControlPath ${HOME}/.included/%C\n")
    write(world.home / ".ssh" / "conf.d" / "b.txt", "ControlPath ~/not/%C\n")
    write(world.home / ".ssh" / "more", "Include deeper\nControlPath %d/projects/ssh-%C\n")
    wanted = [world.home / each for each in (".cache/ssh", "masters", ".included")]
    for each in wanted:
        each.mkdir(parents=True)
    write(world.home / ".cache" / "pip" / "x")
    assert observe.control_directories(str(world.home)) == [str(each) for each in wanted]
    write(wanted[1] / "more than sockets")
    assert observe.control_directories(str(world.home)) == [str(wanted[0]), str(wanted[2])]
    assert observe.control_directories(str(world.share)) == []


def lock(directory: Path, name: str, content: object) -> None:
    write(directory / name, content if isinstance(content, str) else json.dumps(content))


def test_the_ports_of_living_ides_and_of_this_terminals_are_found(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    lock(tmp_path, "1111.lock", {"pid": os.getpid()})
    lock(tmp_path, "2222.lock", {"pid": ended.pid})
    lock(tmp_path, "3333.lock", {"pid": 1})
    assert observe.ide_ports([str(tmp_path)], None) == [1111, 3333]
    assert observe.ide_ports([str(tmp_path), str(tmp_path), "/nowhere"], "2222") == [1111, 2222, 3333]


def test_a_terminal_without_a_lock_file_opens_no_port(tmp_path: Path) -> None:
    assert observe.ide_ports([str(tmp_path)], "22") == []


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"pid": "x"}', '{"pid": null}', '{"pid": 0}', '{"pid": -1}', '{"pid": true}', '{"pid": 1.5}',
     '{"pid": 99999999999999999999}', "[" * 100_000],
)  # fmt: skip
def test_nonsense_in_a_lock_file_opens_no_port(tmp_path: Path, content: str) -> None:
    lock(tmp_path, "1111.lock", content)
    assert observe.ide_ports([str(tmp_path)], None) == []


@pytest.mark.parametrize(
    "name", ["0.lock", "65536.lock", "x.lock", "22", "22.lock.bak", "-1.lock", "²².lock", "+22.lock"]
)
def test_a_name_that_is_no_port_opens_none(tmp_path: Path, name: str) -> None:
    lock(tmp_path, name, {"pid": os.getpid()})
    assert observe.ide_ports([str(tmp_path)], name.partition(".")[0]) == []


def test_a_bare_repository_has_the_shape_that_git_obeys(tmp_path: Path) -> None:
    assert not observe.repository_shape(str(tmp_path))
    git("init", "--bare", tmp_path)
    assert observe.repository_shape(str(tmp_path))


def test_the_words_for_a_real_workspace_name_each_guard(world: World) -> None:
    repository(world.workspace)
    words = plan.command(
        "bwrap", world.found().fence, str(world.workspace), own_network=True, runtime_dir="/run/user/1"
    )
    hooks = str(world.workspace / ".git" / "hooks")
    assert words[words.index(hooks) - 1] == "--ro-bind"


def test_a_workspace_full_of_repositories_guards_the_first_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "REPOSITORIES", 2)
    for name in ("a", "b", "c"):
        subprocess.run(["git", "init", "-q", str(tmp_path / name)], check=True, timeout=30)
    found = Found()
    observe.guard_workspace(found, str(tmp_path))
    guarded = {Path(path).parent.parent.name for path in found.fence.guarded if path.endswith("/.git/config")}
    assert len(guarded) == 2
    assert any("3 repositories; 1 of them are not guarded" in remark for remark in found.remarks)
    assert len(found.repositories) == 3, "none of them counts as made by the session"
