"""Which workspaces are refused, and what is guarded in one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from claude_local.fence import plan, policy
from claude_local.fence import scan as scanning
from claude_local.fence import workspace as workspaces
from claude_local.fence.plan import Fence
from claude_local.fence.scan import is_bare_repository
from claude_local.fence.survey import Places, Survey
from claude_local.fence.workspace import WorkspaceRefused, check_workspace, guard_workspace
from tests.fence.world import World, git, repository, write


def refused(world: World, path: str | Path, survey: Survey | None = None) -> str:
    with pytest.raises(WorkspaceRefused) as raised:
        check_workspace(str(path), world.places, survey or Survey())
    assert raised.value.fix
    return str(raised.value)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/usr/bin",
        "/usr/lib/x",
        "/etc",
        "/etc/ssh",
        "/usr",
        "/var",
        "/proc/1",
        "/boot",
        "/usr/local",
        "/usr/local/sbin",
        "/usr/local/lib/x",
        "/opt",
        "/home",
    ],
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
    survey = Survey(
        fence=Fence(
            masked_directories=[str(world.home / "work" / "keys")], masked_files=[str(world.home / "x" / "token")]
        )
    )
    for path in ("work", "work/keys", "work/keys/deep", "x"):
        assert "must not see" in refused(world, world.home / path, survey)
    with pytest.raises(WorkspaceRefused) as raised:
        check_workspace(str(world.home / "x"), world.places, survey)
    assert f'fence_visible=["{world.home}/x/token"]' in raised.value.fix


def test_directories_of_programs_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{world.home}/.cargo/bin:.:{world.home}/link:{world.home}/tools/a/shims:/usr/bin")
    (world.home / "link").symlink_to(".local/bin")
    for path in (".cargo/bin", ".cargo", ".local/bin", "tools/a/shims", "tools"):
        assert "a directory of programs" in refused(world, world.home / path)
    for path in ("projects/one", "tools/b", ".cargo/bin/below"):
        check_workspace(str(world.home / path), world.places, Survey())
    monkeypatch.setenv("PATH", "/usr/bin")
    for path in (".cargo/bin", ".cargo", ".local/bin", "go/bin"):
        assert "a directory of programs" in refused(world, world.home / path), "login shells have it on PATH"


@pytest.mark.skipif(os.getuid() != 0, reason="other users cannot be in such a directory")
def test_a_directory_that_only_roots_privileges_open_is_refused_with_the_way_out(world: World) -> None:
    closed = world.home / "closed"
    (closed / "below").mkdir(parents=True)
    for mode in (0o000, 0o600, 0o077):
        closed.chmod(mode)
        for path in (closed, closed / "below"):
            with pytest.raises(WorkspaceRefused) as raised:
                check_workspace(str(path), world.places, Survey())
            assert f"{closed} is closed" in str(raised.value) and raised.value.fix == "cd elsewhere"
    closed.chmod(0o711)
    os.chown(closed, 12345, 12345)
    check_workspace(str(closed / "below"), world.places, Survey())


def test_a_project_with_an_environment_of_its_own_on_the_path_is_accepted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An activated .venv, node_modules/.bin and what direnv adds."""
    project = world.workspace
    programs = [project / ".venv/bin", project / "node_modules/.bin", project / "bin", project / "conda/bin"]
    (project / "conda" / "conda-meta").mkdir(parents=True)
    monkeypatch.setenv("PATH", ":".join(map(str, programs)))
    monkeypatch.setenv("DIRENV_DIR", f"-{project}")
    check_workspace(str(project), world.places, Survey())
    assert "a directory of programs" in refused(world, project / ".venv")


def test_ordinary_directories_are_accepted(world: World) -> None:
    for path in (world.workspace, world.base / "data", Path("/srv/project"), Path("/opt/project"), Path("/usr/src/x")):
        check_workspace(str(path), world.places, Survey())


def test_a_home_directory_below_a_system_directory_may_hold_workspaces(world: World) -> None:
    """Accounts of services have such homes."""
    places = Places("/var/lib/someone", "/var/lib/someone/.claude-local", [], [])
    check_workspace("/var/lib/someone/project", places, Survey())
    with pytest.raises(WorkspaceRefused):
        check_workspace("/var/lib/another", places, Survey())


def test_settings_that_run_later_are_read_only_and_missing_ones_must_not_appear(world: World) -> None:
    write(world.workspace / ".vscode" / "tasks.json")
    write(world.workspace / ".envrc")
    survey = world.survey()
    fence = survey.fence
    assert {str(world.workspace / ".vscode"), str(world.workspace / ".envrc")} <= set(fence.ro_bind)
    assert set(fence.stub_directories) == {
        str(world.workspace / name) for name in (".claude", ".idea", ".cursor", ".zed")
    }
    # An empty file would show in git status.
    assert fence.stub_files == []
    assert survey.forbidden.keys() == {
        str(world.workspace / each) for each in policy.FORBIDDEN_FILES if each != ".envrc"
    }
    assert survey.existing_files == [str(world.workspace / ".envrc")]


@pytest.mark.parametrize("name", sorted(policy.GUARDED))
def test_each_guarded_name_counts_in_subdirectories_which_cannot_be_renamed(world: World, name: str) -> None:
    write(world.workspace / "a" / "b" / name)
    fence = world.survey().fence
    assert str(world.workspace / "a" / "b" / name) in fence.ro_bind
    assert {str(world.workspace / "a"), str(world.workspace / "a" / "b")} <= set(fence.self_bind)


def test_the_scan_ends_at_its_depth(world: World) -> None:
    levels = [f"l{number}" for number in range(policy.SCAN_DEPTH + 2)]
    for depth in range(len(levels) + 1):
        write(world.workspace.joinpath(*levels[:depth], ".envrc"))
    envrcs = {path for path in world.survey().fence.ro_bind if path.endswith(".envrc")}
    assert len(envrcs) == policy.SCAN_DEPTH + 1


def test_the_scan_ends_at_its_limit_and_the_top_comes_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    write(world.workspace / ".vscode" / "tasks.json")
    for number in range(60):
        write(world.workspace / "many" / f"f{number}")
    write(world.workspace / "many" / "deep" / ".envrc")
    named = scanning.scan(str(world.workspace), limit=30).guarded
    assert named == [str(world.workspace / ".vscode")]
    assert len(scanning.scan(str(world.workspace)).guarded) == 2


def test_a_workspace_that_is_too_large_is_reported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        write(world.workspace / f"f{number}")
    assert world.survey().remarks == []
    scan = workspaces.scan
    monkeypatch.setattr(workspaces, "scan", lambda *words, **more: scan(*words, limit=30, **more))
    (remark,) = world.survey().remarks
    assert str(world.workspace) in remark and "not guarded" in remark


def test_dependencies_are_not_scanned(world: World) -> None:
    write(world.workspace / "node_modules" / "x" / ".vscode" / "tasks.json")
    assert not [path for path in world.survey().fence.ro_bind if "node_modules" in path]


def test_the_scan_follows_no_symlink(world: World) -> None:
    write(world.home / "other" / ".envrc")
    (world.workspace / "link").symlink_to(world.home / "other")
    (world.workspace / "loop").symlink_to(".")
    assert scanning.scan(str(world.workspace)) == scanning.Scan()


def test_a_guarded_symlink_is_watched_and_its_target_is_read_only(world: World) -> None:
    write(world.workspace / "env")
    (world.workspace / ".envrc").symlink_to("env")
    survey = world.survey()
    assert survey.symlinks == {str(world.workspace / ".envrc"): "env"}
    assert str(world.workspace / "env") in survey.fence.ro_bind


def test_another_sessions_stubs_are_not_the_users_files(world: World) -> None:
    stub = world.workspace / ".claude"
    stub.mkdir()
    fence = world.survey(stubs=[str(stub)]).fence
    assert fence.ro_bind == [] and str(stub) in fence.stub_directories
    write(stub / "settings.json", "now it is the user's")
    fence = world.survey(stubs=[str(stub)]).fence
    assert fence.ro_bind == [str(stub)] and str(stub) not in fence.stub_directories


def test_worktrees_of_claude_code_stay_writable_in_its_guarded_directory(world: World) -> None:
    (world.workspace / ".claude" / "worktrees").mkdir(parents=True)
    fence = world.survey().fence
    assert fence.nested_rw_bind == [str(world.workspace / ".claude" / "worktrees")]
    assert str(world.workspace / ".claude") in fence.ro_bind


def test_each_worktree_of_claude_code_is_guarded_like_a_workspace(world: World) -> None:
    """``claude-local --worktree`` and editors start in worktrees later."""
    repository(world.workspace)
    tree = world.workspace / ".claude" / "worktrees" / "x"
    git("worktree", "add", tree, cwd=world.workspace)
    write(tree / "sub" / ".envrc")
    repository(tree / "vendor" / "y")
    survey = world.survey()
    fence = survey.fence
    assert {str(tree / name) for name in (".git", "sub/.envrc", "vendor/y/.git/hooks")} <= set(fence.ro_bind)
    names = {*policy.STUB_DIRECTORIES, *policy.FORBIDDEN_FILES}
    assert {str(tree / name) for name in names} <= {*fence.stub_directories, *survey.forbidden}
    on_the_way = {str(tree.joinpath(*name.split())) for name in ("", "sub", "vendor", "vendor y", "vendor y .git")}
    assert on_the_way <= set(fence.nested_rw_bind), "none of them can be renamed"
    assert not on_the_way & set(fence.self_bind), "it would be covered again"


def test_a_bare_repository_is_recognized(tmp_path: Path) -> None:
    assert not is_bare_repository(str(tmp_path))
    git("init", "--bare", tmp_path)
    assert is_bare_repository(str(tmp_path))


def test_bubblewraps_arguments_for_a_real_workspace_name_each_guard(world: World) -> None:
    repository(world.workspace)
    words = plan.bubblewrap_argv(
        "bwrap", world.survey().fence, str(world.workspace), own_network=True, runtime_dir="/run/user/1"
    )
    hooks = str(world.workspace / ".git" / "hooks")
    assert words[words.index(hooks) - 1] == "--ro-bind"


def test_in_a_workspace_full_of_repositories_the_first_are_guarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "REPOSITORIES", 2)
    for name in ("a", "b", "c"):
        subprocess.run(["git", "init", "-q", str(tmp_path / name)], check=True, timeout=30)
    survey = Survey()
    guard_workspace(survey, str(tmp_path))
    guarded = {Path(path).parent.parent.name for path in survey.fence.ro_bind if path.endswith("/.git/config")}
    assert len(guarded) == 2
    assert any("3 repositories" in remark and "1 of them" in remark for remark in survey.remarks)
    assert len(survey.repositories) == 3, "none of them counts as made by the session"
