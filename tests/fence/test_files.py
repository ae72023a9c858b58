"""Files that are not UTF-8."""

from __future__ import annotations

from pathlib import Path

from claude_local.fence.files import read_text


def test_bytes_that_are_not_utf_8_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe[core]\n")
    assert read_text(str(tmp_path / "x")).endswith("[core]\n")
    assert read_text(str(tmp_path)) == read_text(str(tmp_path / "none")) == read_text("/dev/zero") == ""
