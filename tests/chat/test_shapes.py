"""The shape of Claude Code's requests: it has no text, its changes are reported, and the kept shape is current."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.chat import record_shapes, recorder
from tests.chat.recorder import Session
from tests.chat.shape import KEPT, differences, shape

TOOL = {
    "name": "Read",
    "description": "SECRET description",
    "input_schema": {
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "SECRET"},
            "lines": {"type": "array", "items": {"type": "integer"}},
            "mode": {"enum": ["SECRET", "b"]},
        },
        "required": ["path"],
    },
}


def body(*messages: tuple[str, Any], system: str = "SECRET prompt") -> dict[str, Any]:
    return {
        "system": [{"type": "text", "text": system}],
        "tools": [TOOL],
        "messages": [{"role": role, "content": content} for role, content in messages],
    }


def words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def returned(content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "a", "content": content, **more}


def shape_of(*messages: tuple[str, Any]) -> list[str]:
    made: list[str] = shape("1.0", [Session("s", [body(*messages)])])["sessions"]["s"][0]["messages"]
    return made


def test_no_text_is_kept() -> None:
    call = {"type": "tool_use", "id": "a", "name": "Read", "input": {"path": "SECRET"}}
    made = shape(
        "1.0", [Session("s", [body(("user", [words("SECRET")]), ("system", "SECRET"), ("assistant", [call]))])]
    )
    assert "SECRET" not in json.dumps(made)
    assert made["tools"] == {"Read": {"path": "string", "lines?": ["integer"], "mode?": "one of 2"}}


def test_roles_blocks_and_errors_are_kept() -> None:
    thought = {"type": "thinking", "thinking": "x"}
    picture = {"type": "image", "source": {}}
    made = shape_of(
        ("user", [words("a"), words("b"), picture, words("c")]),
        ("assistant", [thought, words("d")]),
        ("user", [returned("x", is_error=True), words("e")]),
        ("system", "f"),
    )
    assert made == [
        "user: text, image, text",
        "assistant: thinking, text",
        "user: tool_result words is_error, text",
        "system: words",
    ]


def test_the_order_of_parallel_results_is_no_difference() -> None:
    one, two = returned("x"), returned([{"type": "image"}])
    assert shape_of(("user", [one, two])) == shape_of(("user", [two, one]))


@pytest.mark.parametrize(
    ("kept", "found", "lines"),
    [
        ({"a": 1000}, {"a": 1400}, 0),
        ({"a": 1000}, {"a": 1600}, 1),
        ({"a": 100_000}, {"a": 109_000}, 0),
        ({"a": "x"}, {"a": "y"}, 1),
        ({"a": ["x", "y"]}, {"a": ["x", "z"]}, 1),
        ({"a": ["x", "y"]}, {"a": ["x"]}, 1),
        ({"a": 1}, {"b": 1}, 2),
        ({"a": {"b": True}}, {"a": {"b": True}}, 0),
    ],
)
def test_differences_are_reported_except_small_ones_in_size(kept: Any, found: Any, lines: int) -> None:
    assert len(differences(kept, found)) == lines


def test_the_kept_shape_is_short() -> None:
    kept = json.loads(KEPT.read_text())
    assert set(kept) == {"claude_code", "sessions", "tools"}
    strings = [line for line in KEPT.read_text().split('"')[1::2]]
    assert max(map(len, strings)) < 120


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a kept shape, with a Claude Code that sends other requests now."""
    kept = tmp_path / "shapes.json"
    kept.write_text(json.dumps(shape("1.0", [Session("s", [body(("user", [words("a")]))])])))
    monkeypatch.setattr(record_shapes, "KEPT", kept)
    monkeypatch.setattr(recorder, "claude_binary", lambda: Path("claude"))
    monkeypatch.setattr(recorder, "version", lambda binary: "1.1")
    moved = [Session("s", [body(("user", [words("a")]), ("system", "SECRET"))])]
    monkeypatch.setattr(recorder, "record", lambda folder, binary: moved)
    return kept


def test_one_command_reports_the_changes_and_keeps_the_new_shape(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = recording.read_text()
    assert record_shapes.main(["--check"]) == 1 and recording.read_text() == before
    report = capsys.readouterr().out
    assert 'claude_code: was "1.0", is "1.1"' in report and "system: words" in report
    assert record_shapes.main([]) == 0 and capsys.readouterr().out == report
    after = json.loads(recording.read_text())
    assert after["sessions"]["s"][0]["messages"] == ["user: text", "system: words"] and "SECRET" not in str(after)
    assert record_shapes.main(["--check"]) == 0
    assert "nothing has changed (Claude Code 1.1)" in capsys.readouterr().out


def test_a_failed_recording_leaves_the_kept_shape(
    recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(folder: Path, binary: Path) -> list[Session]:
        raise recorder.RecordingError("session tools: 1 of 5 requests arrived")

    monkeypatch.setattr(recorder, "record", fails)
    before = recording.read_text()
    assert record_shapes.main([]) == 2 and recording.read_text() == before
    assert "1 of 5 requests arrived" in capsys.readouterr().err


@pytest.mark.integration
def test_claude_code_sends_the_requests_that_the_templates_were_checked_with(sessions: list[Session]) -> None:
    """If this fails, Claude Code has changed: read the lines, then run ``python -m tests.chat.record_shapes``."""
    recorded = shape(recorder.version(recorder.claude_binary()), sessions)
    assert differences(json.loads(KEPT.read_text()), recorded) == []
