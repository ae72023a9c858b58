"""llama-local cache: which prompts are kept, and deleting them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from claude_local.cli.__main__ import main
from claude_local.paths import Paths
from tests.cli.documented import example, lacks

NAME = "small-0123456789ab.0123456789abcdef"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the prompts in the home of this test."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = Path(Paths(home=str(tmp_path), model_dir="/m", bin_dir="/b").server_prompts)
    path.mkdir(parents=True)
    return path


def put(path: Path, tokens: int, size: int, missing: int = 0) -> None:
    """A file as the patch begins it. ``missing``: bytes at its end."""
    head = struct.pack("<QQQ", 1, size, tokens)
    path.write_bytes(head + bytes(size - len(head) - missing))


def test_it_lists_what_is_kept_and_what_a_killed_server_left(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(folder / f"{NAME}.shared", 4321, 2**20)
    put(folder / f"{NAME}.session.77", 9, 1000, missing=10)
    (folder / "notes.txt").write_text("mine")
    assert main(["cache"]) == 0
    shown = capsys.readouterr().out
    assert "4,321" in shown and "not complete" in shown and "notes" not in shown
    assert main(["cache", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {(each["kind"], each["whole"]) for each in listed} == {("shared", True), ("session", False)}
    assert not lacks(example("cache"), listed)


def test_clear_deletes_the_prompts_and_nothing_else(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(folder / f"{NAME}.shared", 1, 100)
    (folder / "notes.txt").write_text("mine")
    assert main(["cache", "clear"]) == 0
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert main(["cache"]) == 0
    assert "first session" in capsys.readouterr().out


def test_before_the_first_deploy_it_says_what_to_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.rmdir()
    assert main(["cache"]) == 1
    assert "./provision" in capsys.readouterr().err
