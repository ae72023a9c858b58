"""The runtime on the workstation is exactly the package's workstation half, and its venv the lock file's."""

from pathlib import Path
from typing import Any

import pytest

from claude_local.deploy.facts.runtime import RuntimeStamp
from claude_local.deploy.operations.runtime import copy, files_stamp, runtime_files, venv
from claude_local.paths import Paths
from tests.deploy.strict_host import StrictHost, fact_on_this_machine, run
from tests.deploy.this_machine import changes

PACKAGE = Path(__file__).resolve().parents[2] / "claude_local"
PATHS = Paths(home="/home/u", model_dir="/data", bin_dir="/home/u/bin")


def test_pyinfras_side_of_the_package_stays_on_the_controller() -> None:
    names = set(runtime_files(PACKAGE))
    assert "claude_local/paths.py" in names
    assert not [name for name in names if "/facts/" in name or "/operations/" in name or "workstation" in name]


def test_what_is_copied_imports_no_pyinfra() -> None:
    for name, content in runtime_files(PACKAGE).items():
        if name.endswith(".py"):
            assert b"import pyinfra" not in content and b"from pyinfra" not in content, name


def test_the_stamp_on_disk_is_the_stamp_expected(tmp_path: Path) -> None:
    files = runtime_files(PACKAGE)
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    fact = RuntimeStamp()
    assert fact_on_this_machine(fact, lib=str(tmp_path), venv="/nowhere") == {"files": files_stamp(files)}
    (tmp_path / "claude_local" / "paths.py").write_text("changed by hand")
    assert fact_on_this_machine(fact, lib=str(tmp_path), venv="/nowhere")["files"] != files_stamp(files)


def test_a_bare_machine_has_no_stamp() -> None:
    assert fact_on_this_machine(RuntimeStamp(), lib="/nowhere/lib", venv="/nowhere/venv") == {}


def test_an_up_to_date_runtime_is_left_alone(monkeypatch: Any) -> None:
    host = StrictHost({"RuntimeStamp": {"files": files_stamp(runtime_files(PACKAGE))}})
    assert run(monkeypatch, copy, host, package=PACKAGE, paths=PATHS) == []
    assert host.noop_reason


@pytest.mark.parametrize("name", ["home", "home with space", "it's"])
def test_a_different_runtime_is_replaced(tmp_path: Path, name: str) -> None:
    paths = Paths(home=str(tmp_path / name), model_dir="/data", bin_dir="/bin")
    old = Path(paths.lib) / "claude_local" / "gone.py"
    old.parent.mkdir(parents=True)
    old.touch()
    assert changes(copy, package=PACKAGE, paths=paths) == (True, False)
    assert not old.exists()
    assert {str(path.relative_to(paths.lib)) for path in Path(paths.lib).rglob("*") if path.is_file()} == set(
        runtime_files(PACKAGE)
    )
    (Path(paths.lib) / "claude_local" / "paths.py").write_text("changed by hand")
    assert changes(copy, package=PACKAGE, paths=paths) == (True, False)


def test_the_environment_is_made_once_a_lock_file(monkeypatch: Any, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("requests==1")
    host = StrictHost({"RuntimeStamp": {}})
    commands = run(monkeypatch, venv, host, lock=lock, paths=PATHS)
    assert "--require-hashes" in commands[-1]
    stamp = commands[-1].rstrip(" )2>&1").split()[-1]
    host = StrictHost({"RuntimeStamp": {"venv": stamp}})
    assert run(monkeypatch, venv, host, lock=lock, paths=PATHS) == []
