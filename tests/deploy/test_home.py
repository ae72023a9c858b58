"""The configuration directory: merged, never overwritten; every path taken on a real file where that is cheap."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from claude_local.deploy.facts.user_files import UserFile, UserFiles
from claude_local.deploy.operations import user_files
from claude_local.deploy.operations.home import json_merged
from claude_local.deploy.operations.user_files import directory, whole_file
from tests.deploy.strict_host import StrictHost, fact_on_this_machine
from tests.deploy.strict_host import run as run_operation

OURS = {"permissions": {"defaultMode": "plan", "disableAutoMode": "disable"}}
DEST, APPLIED = "/h/.claude-local/settings.json", "/h/state/applied.json"


def run(monkeypatch: Any, operation: Any, host: StrictHost, **arguments: Any) -> list[str]:
    """As strict_host.run; what user_files asks goes to the same host."""
    monkeypatch.setattr(user_files, "host", host)
    return run_operation(monkeypatch, operation, host, **arguments)


class NotExecuting:
    is_executing = False


@pytest.fixture(autouse=True)
def preparing(monkeypatch: Any) -> None:
    monkeypatch.setitem(json_merged._inner.__globals__, "state", NotExecuting)


def file(value: Any, mode: str = "600") -> UserFile:
    text = value if isinstance(value, str) else json.dumps(value)
    return UserFile(mode, text.encode())


def merged(
    monkeypatch: Any, dest: UserFile | None, applied: UserFile | None, **more: Any
) -> tuple[list[str], StrictHost]:
    host = StrictHost({"UserFiles": {DEST: dest, APPLIED: applied}})
    return run(monkeypatch, json_merged, host, dest=DEST, ours=OURS, applied=APPLIED, **more), host


def test_a_bare_machine_gets_the_file_and_its_memory(monkeypatch: Any) -> None:
    commands, _ = merged(monkeypatch, None, None)
    assert [command for command in commands if command.startswith("upload")] == [
        f"upload {DEST}.claude-local-new",
        f"upload {APPLIED}.claude-local-new",
    ]


def test_a_second_run_does_nothing(monkeypatch: Any) -> None:
    commands, host = merged(monkeypatch, file(OURS), file(OURS))
    assert commands == [] and host.noop_reason == f"{DEST} has everything"


def test_a_users_own_value_and_other_keys_change_nothing(monkeypatch: Any) -> None:
    mine = {"model": "x", "permissions": {"defaultMode": "acceptEdits", "disableAutoMode": "disable"}}
    commands, _ = merged(monkeypatch, file(mine), file(OURS))
    assert commands == []


def test_an_enforced_key_is_put_back(monkeypatch: Any) -> None:
    mine = {"permissions": {"defaultMode": "plan"}}
    assert merged(monkeypatch, file(mine), file(OURS))[0] == []
    commands, _ = merged(monkeypatch, file(mine), file(OURS), enforced=["permissions.disableAutoMode"])
    assert f"upload {DEST}.claude-local-new" in commands


def test_a_broken_file_is_moved_aside_first(monkeypatch: Any) -> None:
    commands, _ = merged(monkeypatch, file('{"permissions": '), file(OURS))
    assert commands[0].startswith("sh -c") and "broken-" in commands[0] and commands[0].endswith(DEST)
    assert f"upload {DEST}.claude-local-new" in commands


def test_a_readable_file_is_closed_again(monkeypatch: Any) -> None:
    commands, _ = merged(monkeypatch, file(OURS, "644"), file(OURS))
    assert commands == [f"chmod 600 {DEST}"]


def test_claude_codes_own_file_keeps_what_claude_code_wrote(monkeypatch: Any) -> None:
    host = StrictHost({"UserFiles": {DEST: file({"numStartups": 3, "hasCompletedOnboarding": True})}})
    ours = {"hasCompletedOnboarding": True}
    assert run(monkeypatch, json_merged, host, dest=DEST, ours=ours, enforced=["hasCompletedOnboarding"]) == []


def test_a_whole_file_is_written_once(monkeypatch: Any) -> None:
    assert run(monkeypatch, whole_file, StrictHost({"UserFiles": {"/x/f": None}}), dest="/x/f", text="a", mode="600")
    same = StrictHost({"UserFiles": {"/x/f": UserFile("600", b"a")}})
    assert run(monkeypatch, whole_file, same, dest="/x/f", text="a", mode="600") == []
    open_one = StrictHost({"UserFiles": {"/x/f": UserFile("644", b"a")}})
    assert run(monkeypatch, whole_file, open_one, dest="/x/f", text="a", mode="600")


def test_a_folder_gets_its_mode(monkeypatch: Any) -> None:
    there = StrictHost({"UserFiles": {"/x": UserFile("700")}})
    assert run(monkeypatch, directory, there, path="/x", mode="700") == []
    wide = StrictHost({"UserFiles": {"/x": UserFile("755")}})
    assert run(monkeypatch, directory, wide, path="/x", mode="700") == ["mkdir -p /x && chmod 700 /x"]


def test_the_fact_reads_every_byte_and_follows_links(tmp_path: Path) -> None:
    odd = tmp_path / "it's odd"
    odd.write_bytes(b"\xff\x00umlaut \xc3\xa9\n\n")
    odd.chmod(0o640)
    (tmp_path / "link").symlink_to(odd)
    (tmp_path / "empty").touch(0o600)
    paths = [str(odd), str(tmp_path / "link"), str(tmp_path / "empty"), str(tmp_path), str(tmp_path / "no")]
    found = fact_on_this_machine(UserFiles(), paths=paths)
    assert found[paths[0]] == found[paths[1]] == UserFile("640", odd.read_bytes())
    assert found[paths[2]] == UserFile("600", b"")
    assert found[paths[3]].content is None and found[paths[4]] is None


def test_replacing_keeps_a_link_and_sets_the_mode(monkeypatch: Any, tmp_path: Path) -> None:
    """The real commands, with the upload done by hand."""
    real, dest = tmp_path / "dotfiles.json", tmp_path / "settings.json"
    real.write_text("old")
    dest.symlink_to(real)
    host = StrictHost({"UserFiles": {str(dest): UserFile("644", b"old")}})
    for command in run(monkeypatch, whole_file, host, dest=str(dest), text="new", mode="600"):
        if command.startswith("upload "):
            Path(command.removeprefix("upload ")).write_text("new")
        else:
            subprocess.run(["sh", "-c", command], check=True)
    assert dest.is_symlink() and real.read_text() == "new" and real.stat().st_mode & 0o777 == 0o600
