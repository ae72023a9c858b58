"""Files that are no text."""

from __future__ import annotations

from pathlib import Path

from claude_local.fence.files import text_of


def test_text_that_is_no_text_is_read_without_a_complaint(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe[core]\n")
    assert text_of(str(tmp_path / "x")).endswith("[core]\n")
    assert text_of(str(tmp_path)) == text_of(str(tmp_path / "none")) == text_of("/dev/zero") == ""
