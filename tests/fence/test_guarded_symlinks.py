"""Symlinks of the user's in guarded places, in real sessions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fence.station import Station
from tests.fence.world import git, repository, write

pytestmark = pytest.mark.slow


def link_to_a_link(workspace: Path) -> tuple[Path, Path]:
    write(workspace / "c")
    (workspace / "b").symlink_to("c")
    (workspace / ".envrc").symlink_to("b")
    return workspace / ".envrc", workspace / "b"


def settings_elsewhere(workspace: Path) -> tuple[Path, Path]:
    write(workspace / "conf" / "editor" / "tasks.json")
    (workspace / ".vscode").symlink_to("conf/editor")
    return workspace / ".vscode" / "tasks.json", workspace / "conf"


def link_in_a_directory(workspace: Path) -> tuple[Path, Path]:
    write(workspace / "c")
    (workspace / "conf").mkdir()
    (workspace / "conf" / "env").symlink_to("../c")
    (workspace / ".envrc").symlink_to("conf/env")
    return workspace / ".envrc", workspace / "conf"


def hooks_elsewhere(workspace: Path) -> tuple[Path, Path]:
    repository(workspace)
    write(workspace / "tools" / "hooks" / "pre-commit")
    shutil.rmtree(workspace / ".git" / "hooks")
    (workspace / ".git" / "hooks").symlink_to("../tools/hooks")
    return workspace / ".git" / "hooks" / "pre-commit", workspace / "tools"


def repository_elsewhere(workspace: Path) -> tuple[Path, Path]:
    store = repository(workspace) / "a" / "b" / "c" / "d" / "e" / "store"
    store.parent.mkdir(parents=True)
    (workspace / ".git").rename(store)
    (workspace / ".git").symlink_to("a/b/c/d/e/store")
    return workspace / ".git" / "config", workspace / "a"


@pytest.mark.parametrize(
    "make",
    [link_to_a_link, settings_elsewhere, link_in_a_directory, hooks_elsewhere, repository_elsewhere],
    ids=lambda make: make.__name__,
)
def test_the_target_of_a_guarded_symlink_stays(tmp_path: Path, make: Callable[[Path], tuple[Path, Path]]) -> None:
    station = Station(tmp_path)
    file, on_the_way = make(station.workspace)
    text, inside = file.read_text(), os.path.relpath(os.path.realpath(file), station.workspace)
    station.run(
        f"#\nimport shutil\nfrom contextlib import suppress\naway = {str(on_the_way)!r}\n"
        "with suppress(OSError): os.rename(away, away + '-old')\n"
        "with suppress(OSError): shutil.copytree(away + '-old', away, symlinks=True)\n"
        "if os.path.isdir(away):\n"
        "    for each in os.listdir(away):\n"
        "        with suppress(OSError): os.unlink(away + '/' + each); open(away + '/' + each, 'w').write('evil')\n"
        f"for path in ({str(file)!r}, {inside!r}, away):\n"
        "    with suppress(OSError):\n        with open(path, 'w') as file: file.write('evil')"
    )
    assert not file.exists() or file.read_text() == text
    assert on_the_way.exists() or not os.path.lexists(on_the_way)


@pytest.mark.parametrize("target", ["conf", "conf/editor"])
def test_a_session_cannot_make_the_target_of_a_broken_guarded_symlink(tmp_path: Path, target: str) -> None:
    station = Station(tmp_path)
    (station.workspace / ".vscode").symlink_to(target)
    station.run(
        f"#\nfrom contextlib import suppress\nwith suppress(OSError):\n    os.makedirs({target!r})\n"
        f"    open({target!r} + '/tasks.json', 'w').write('evil')"
    )
    assert not (station.workspace / ".vscode" / "tasks.json").exists()
    assert (station.workspace / ".vscode").is_symlink() and not (station.workspace / target).exists()


@pytest.mark.parametrize(
    ("setting", "value"), [("core.hooksPath", "named"), ("core.fsmonitor", "./named"), ("include.path", "../named")]
)
def test_a_broken_symlink_in_gits_settings_does_not_stop_a_session(tmp_path: Path, setting: str, value: str) -> None:
    station = Station(tmp_path)
    git("config", setting, value, cwd=repository(station.workspace))
    (station.workspace / "named").symlink_to("nowhere")
    found = station.saw("seen['made'] = [written('nowhere'), written('nowhere/pre-commit')]")
    assert "written" not in found["made"] and not os.path.lexists(station.workspace / "nowhere")
