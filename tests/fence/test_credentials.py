"""What a session does not see of a home directory."""

from __future__ import annotations

import pytest

from claude_local.fence import policy
from tests.fence.world import World, write


def test_secrets_in_the_home_directory_are_masked(world: World) -> None:
    write(world.home / ".ssh" / "id_rsa")
    write(world.home / ".bash_history")
    fence = world.hide()
    assert str(world.home / ".ssh") in fence.masked_directories
    assert str(world.home / ".bash_history") in fence.masked_files
    assert str(world.home / ".aws") not in [*fence.masked_directories, *fence.masked_files], (
        "what is not there costs nothing"
    )


def test_a_secret_behind_a_symlink_is_masked_at_its_target(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "TMPFS", ())  # this test's directory lies in one of them
    write(world.base / "elsewhere" / "key")
    write(world.base / "netrc")
    (world.home / ".ssh").symlink_to(world.base / "elsewhere")
    (world.home / ".netrc").symlink_to("../netrc")
    fence = world.hide()
    assert str(world.base / "elsewhere") in fence.masked_directories and str(world.base / "netrc") in fence.masked_files


def test_a_symlink_to_the_home_directory_does_not_mask_it(world: World) -> None:
    (world.home / ".ssh").symlink_to(world.home)
    (world.home / ".aws").symlink_to("/")
    assert not {str(world.home), "/"} & set(world.hide().masked_directories)


def test_a_broken_symlink_is_ignored(world: World) -> None:
    (world.home / ".ssh").symlink_to("nowhere")
    (world.home / ".aws").symlink_to(".aws")
    assert str(world.home / "nowhere") not in world.hide().masked_directories


def test_paths_in_fence_visible_stay_visible(world: World) -> None:
    write(world.home / ".docker" / "config.json")
    write(world.home / ".kube" / "config")
    write(world.home / ".kube" / "secret")
    fence = world.hide(visible=[str(world.home / ".docker"), str(world.home / ".kube" / "config")])
    assert str(world.home / ".docker") not in fence.masked_directories
    assert str(world.home / ".kube") in fence.masked_directories
    assert str(world.home / ".kube" / "config") in fence.unmasked


def test_paths_in_fence_hidden_are_masked(world: World) -> None:
    write(world.home / "papers" / "tax")
    assert str(world.home / "papers") in world.hide(hidden=[str(world.home / "papers")]).masked_directories


def test_a_directory_that_holds_claude_code_is_not_masked(world: World) -> None:
    program = write(world.home / "snap" / "claude")
    world.places.programs.append(str(program))
    assert str(world.home / "snap") not in world.hide().masked_directories


def test_the_other_claude_directory_is_empty_except_for_its_ide_files(world: World) -> None:
    (world.home / ".claude" / "ide").mkdir(parents=True)
    fence = world.hide()
    assert str(world.home / ".claude") in fence.private_tmpfs
    assert str(world.home / ".claude" / "ide") in fence.unmasked


def test_the_other_claude_directory_stays_when_it_is_the_sessions_own(world: World) -> None:
    (world.home / ".claude").symlink_to(world.config_dir)
    assert world.hide().private_tmpfs == []
