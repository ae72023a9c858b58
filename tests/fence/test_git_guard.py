"""What is guarded in repositories that real git has made."""

from __future__ import annotations

import pytest

from claude_local.fence import git_repository
from claude_local.fence.plan import covers
from tests.fence.world import World, all_paths, git, repository, write


def test_hooks_and_config_are_read_only_and_the_rest_of_a_repository_is_writable(world: World) -> None:
    repository(world.workspace)
    guarded = world.guarded()
    assert {"projects/one/.git/hooks", "projects/one/.git/config"} <= guarded
    assert str(world.workspace / ".git") in world.writable()
    assert "projects/one/.git" not in guarded and "projects/one/.git/index" not in guarded


def test_info_exclude_is_read_only_and_its_directory_cannot_be_renamed(world: World) -> None:
    repository(world.workspace)
    assert "projects/one/.git/info/exclude" in world.guarded()
    assert str(world.workspace / ".git" / "info") in world.writable()


def test_a_session_cannot_make_a_missing_hooks_directory(world: World) -> None:
    git("init", "--template=", world.workspace)
    assert str(world.workspace / ".git" / "hooks") in world.survey().fence.stub_directories


def test_a_commondir_must_not_appear_in_a_repository(world: World) -> None:
    repository(world.workspace)
    assert str(world.workspace / ".git" / "commondir") in world.survey().forbidden


def test_hooks_behind_a_symlink_are_read_only_and_the_symlink_is_watched(world: World) -> None:
    repository(world.workspace)
    hooks = world.workspace / ".git" / "hooks"
    for sample in hooks.iterdir():
        sample.unlink()
    hooks.rmdir()
    write(world.workspace / "tools" / "pre-commit")
    hooks.symlink_to("../tools")
    survey = world.survey()
    assert survey.symlinks[str(hooks)] == "../tools"
    assert str(world.workspace / "tools") in survey.fence.ro_bind


def test_a_hooks_symlink_that_leads_outside_is_watched_and_nothing_is_mounted_there(world: World) -> None:
    repository(world.workspace)
    hooks = world.workspace / ".git" / "hooks"
    hooks.rename(world.home / "hooks")
    hooks.symlink_to(world.home / "hooks")
    survey = world.survey()
    assert survey.symlinks[str(hooks)] == str(world.home / "hooks")
    assert all(covers(str(world.workspace), path) for path in survey.fence.ro_bind)


@pytest.mark.parametrize(
    "written", [".githooks", "./.githooks", "{workspace}/.githooks", "a/../.githooks", ".git/../.githooks"]
)
def test_the_hooks_directory_of_the_configuration_is_read_only(world: World, written: str) -> None:
    repository(world.workspace)
    write(world.workspace / ".githooks" / "pre-commit")
    (world.workspace / "a").mkdir()
    git("config", "core.hooksPath", written.format(workspace=world.workspace), cwd=world.workspace)
    assert "projects/one/.githooks" in world.guarded()


@pytest.mark.parametrize(("written", "stub"), [(".githooks", ".githooks"), ("tools/git/hooks", "tools")])
def test_a_missing_hooks_directory_of_the_configuration_becomes_a_stub(world: World, written: str, stub: str) -> None:
    repository(world.workspace)
    git("config", "core.hooksPath", written, cwd=world.workspace)
    assert str(world.workspace / stub) in world.survey().fence.stub_directories


def test_a_hooks_directory_outside_the_workspace_gets_no_mount(world: World) -> None:
    repository(world.workspace)
    write(world.home / "hooks" / "pre-commit")
    git("config", "core.hooksPath", str(world.home / "hooks"), cwd=world.workspace)
    fence = world.survey().fence
    assert not [path for path in all_paths(fence) if covers(str(world.home / "hooks"), path)]


def test_a_hooks_directory_behind_a_symlink_outside_gets_no_mount(world: World) -> None:
    repository(world.workspace)
    write(world.home / "hooks" / "pre-commit")
    (world.workspace / ".githooks").symlink_to(world.home / "hooks")
    git("config", "core.hooksPath", ".githooks", cwd=world.workspace)
    survey = world.survey()
    assert not [path for path in all_paths(survey.fence) if covers(str(world.home / "hooks"), path)]
    assert survey.symlinks == {str(world.workspace / ".githooks"): str(world.home / "hooks")}


def test_a_symlink_on_the_way_to_a_hooks_directory_is_watched(world: World) -> None:
    repository(world.workspace)
    write(world.workspace / "real" / "hooks" / "pre-commit")
    (world.workspace / "tools").symlink_to("real")
    git("config", "core.hooksPath", "tools/hooks", cwd=world.workspace)
    survey = world.survey()
    assert survey.symlinks == {str(world.workspace / "tools"): "real"}
    assert str(world.workspace / "real" / "hooks") in survey.fence.ro_bind


def test_the_workspace_stays_writable_when_it_is_its_own_hooks_directory(world: World) -> None:
    repository(world.workspace)
    git("config", "core.hooksPath", ".", cwd=world.workspace)
    assert str(world.workspace) not in world.survey().fence.ro_bind


@pytest.mark.parametrize("key", ["include.path", "core.fsmonitor", "core.attributesFile", "filter.x.clean", "alias.x"])
def test_files_that_the_configuration_names_are_read_only(world: World, key: str) -> None:
    repository(world.workspace)
    write(world.workspace / "tools" / "run.sh")
    value = "../tools/run.sh" if key == "include.path" else "!tools/run.sh x" if key == "alias.x" else "tools/run.sh"
    git("config", key, value, cwd=world.workspace)
    assert "projects/one/tools/run.sh" in world.guarded()
    assert str(world.workspace / "tools") in world.writable()


def test_the_users_own_configuration_counts_too(world: World) -> None:
    repository(world.workspace)
    write(world.workspace / ".githooks" / "pre-commit")
    write(world.home / ".gitconfig", "[core]\n\thooksPath = .githooks  # in each repository\n")
    assert "projects/one/.githooks" in world.guarded()


def test_included_configurations_count_too(world: World) -> None:
    """A team's settings in a tracked file. Two files may include each other."""
    repository(world.workspace)
    write(world.workspace / ".gitconfig.shared", "[include]\n\tpath = more/config\n")
    write(
        world.workspace / "more" / "config", "[core]\n\thooksPath = hooks\n[include]\n\tpath = ../.gitconfig.shared\n"
    )
    write(world.workspace / "hooks" / "pre-commit")
    git("config", "include.path", "../.gitconfig.shared", cwd=world.workspace)
    assert {f"projects/one/{name}" for name in (".gitconfig.shared", "more/config", "hooks")} <= world.guarded()
    assert str(world.workspace / "more") in world.writable()


@pytest.mark.parametrize(
    ("key", "value"),
    [("include.path", "../team/shared"), ("core.fsmonitor", "team/shared"), ("gpg.program", "team/shared")],
)
def test_a_missing_file_that_a_configuration_names_cannot_appear(world: World, key: str, value: str) -> None:
    repository(world.workspace)
    git("config", key, value, cwd=world.workspace)
    named = world.workspace / "team" / "shared"
    assert str(named) in world.survey().forbidden, "there is no place for a stub"
    named.parent.mkdir()
    fence = world.survey().fence
    assert str(named) in fence.stub_files and str(named.parent) in fence.self_bind
    named.touch()
    fence = world.survey(stubs=[str(named)]).fence
    assert str(named) in fence.stub_files and str(named) not in fence.ro_bind, "another session's"


@pytest.mark.parametrize(
    ("key", "value"),
    [("alias.lint", "!scripts/lint src/x.js"), ("core.editor", "vim"), ("credential.helper", "store"),
     ("remote.origin.url", "https://example.org/a/b"), ("core.sshCommand", "ssh -i ~/.ssh/key"),
     ("merge.tool", "meld")],
)  # fmt: skip
def test_a_missing_file_that_git_does_not_run_by_itself_may_appear(world: World, key: str, value: str) -> None:
    repository(world.workspace)
    (world.workspace / "scripts").mkdir()
    before = world.survey()
    git("config", key, value, cwd=world.workspace)
    after = world.survey()
    assert (after.fence.stub_files, after.forbidden) == (before.fence.stub_files, before.forbidden)


def test_the_hooks_directories_of_other_repositories_are_read_only(world: World) -> None:
    """Nested repositories, submodules and worktrees: the path is relative to each working tree."""
    library = repository(world.base / "library")
    repository(world.workspace)
    git("submodule", "add", library, "lib", cwd=world.workspace)
    git("worktree", "add", world.workspace / ".claude" / "worktrees" / "x", cwd=world.workspace)
    tops = [world.workspace / name for name in ("lib", "nested", "", ".claude/worktrees/x")]
    repository(tops[1])
    for top in tops:
        write(top / ".githooks" / "pre-commit")
        git("config", "core.hooksPath", ".githooks", cwd=top)
    fence = world.survey().fence
    assert {str(top / ".githooks") for top in tops} <= set(fence.ro_bind)


def test_the_environment_says_where_the_users_configuration_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(world.workspace)
    for number, variable in enumerate(("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM")):
        place = world.home / f"place{number}"
        monkeypatch.setenv(variable, str(place))
        write(place / "git" / "config" if number == 0 else place, f"[core]\n\thooksPath = hooks{number}\n")
        write(world.workspace / f"hooks{number}" / "pre-commit")
        assert f"projects/one/hooks{number}" in world.guarded()
    assert "/etc/gitconfig" in git_repository.user_configs("/home/x", {})


def test_a_subdirectory_may_write_its_repository_and_none_of_its_files(world: World) -> None:
    repository(world.workspace)
    below = world.workspace / "src"
    below.mkdir()
    opened = world.writable(below)
    assert {str(below), str(world.workspace / ".git")} <= opened and str(world.workspace) not in opened
    assert {"projects/one/.git/hooks", "projects/one/.git/config"} <= world.guarded(below)


def test_a_worktree_may_write_its_repository_and_points_nowhere_else(world: World) -> None:
    main = repository(world.home / "projects" / "main")
    world.workspace.rmdir()
    git("worktree", "add", world.workspace, cwd=main)
    survey = world.survey()
    entry = main / ".git" / "worktrees" / "one"
    assert str(main / ".git") in survey.fence.self_bind and str(entry) in survey.fence.self_bind
    guarded = {main / ".git" / "hooks", main / ".git" / "config", entry / "commondir", entry / "gitdir"}
    assert {str(path) for path in guarded} | {str(world.workspace / ".git")} <= set(survey.fence.ro_bind)
    assert str(main) not in world.writable() and not survey.remarks


def test_submodules_are_guarded_like_repositories(world: World) -> None:
    repository(world.base / "library")
    repository(world.workspace)
    git("submodule", "add", world.base / "library", "lib", cwd=world.workspace)
    module = "projects/one/.git/modules/lib"
    assert {f"{module}/hooks", f"{module}/config", "projects/one/lib/.git"} <= world.guarded()
    assert str(world.workspace / ".git" / "modules" / "lib") in world.writable()


def test_the_directories_of_submodules_and_worktrees_cannot_be_renamed(world: World) -> None:
    """A mount moves with its directory, and another directory could take the place of that one."""
    repository(world.base / "library")
    nested = repository(world.workspace / "nested")
    for top in (repository(world.workspace), nested):
        git("submodule", "add", "--name", "deep/lib", world.base / "library", "lib", cwd=top)
        git("worktree", "add", world.base / f"tree-{top.name}", cwd=top)
        names = ("modules", "modules/deep", "modules/deep/lib", "worktrees", f"worktrees/tree-{top.name}")
        assert {str(top / ".git" / name) for name in names} <= world.writable()
    assert "projects/one/nested/.git/modules/deep/lib/config" in world.guarded()


def test_worktrees_get_no_config_worktree_where_git_would_obey_it(world: World) -> None:
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
    opened = world.writable(world.workspace / "lib")
    assert str(world.workspace / ".git" / "modules" / "lib") in opened
    assert str(world.workspace / ".git") not in opened and str(world.workspace) not in opened


def test_a_nested_repository_is_guarded_and_cannot_be_renamed(world: World) -> None:
    repository(world.workspace / "vendor" / "x")
    assert {"projects/one/vendor/x/.git/hooks", "projects/one/vendor/x/.git/config"} <= world.guarded()
    assert {str(world.workspace / "vendor"), str(world.workspace / "vendor" / "x" / ".git")} <= world.writable()


@pytest.mark.parametrize("below", ["store.git", "a/b/x", ""])
def test_a_bare_repository_is_guarded_whatever_its_name_is(world: World, below: str) -> None:
    store = world.workspace / below
    git("init", "--bare", store)
    survey = world.survey()
    assert {str(store / "hooks"), str(store / "config")} <= set(survey.fence.ro_bind)
    assert str(store) in {*survey.fence.self_bind, *survey.fence.rw_bind} and str(store) in survey.repositories
    assert str(store / "objects") not in survey.fence.ro_bind


def test_a_directory_without_a_repository_has_none(world: World) -> None:
    survey = world.survey()
    assert not survey.repositories and not survey.remarks
