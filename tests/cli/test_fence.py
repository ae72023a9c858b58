"""llama-local fence why."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from claude_local.cli.__main__ import main
from claude_local.fence.command_end import PREFIX
from claude_local.fence.refusals import history
from tests.cli.documented import example, lacks


def transcript(home: Path, name: str, *results: tuple[str, Any]) -> Path:
    """A transcript as Claude Code writes it: of each tool result when it came, and its content."""
    path = home / ".claude-local" / "projects" / "-work-app" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"type": "queue-operation", "content": PREFIX}, {"type": "user", "message": {"content": f"{PREFIX}x"}}]
    for when, content in results:
        block = {"type": "tool_result", "tool_use_id": "t", "content": content}
        lines.append({"type": "user", "timestamp": when, "cwd": "/home/ada/app", "message": {"content": [block]}})
    path.write_text("\n".join([*map(json.dumps, lines), "{cut off " + PREFIX, ""]))
    stamp = max((when for when, _ in results), default="2026-01-01T00:00:00Z")
    seconds = datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
    os.utime(path, (seconds, seconds))
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_it_lists_time_workspace_target_and_setting(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = f"curl: (56)\n{PREFIX}pypi.org:443 (setting fence_domains)\n"
    outside = (
        "/etc/x is outside /home/ada/app; the permissions.x setting blocks writes outside the working directories."
    )
    denied = "deny network-outbound pypi.org:80 (host is not on the allow list)\n"
    transcript(home, "a", ("2026-11-29T10:00:00.123Z", refused), ("2026-11-29T10:01:00Z", denied * 2))
    transcript(home, "b", ("2026-11-29T09:00:00Z", [{"type": "text", "text": outside}]))
    assert main(["fence", "why", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "when": "2026-11-29T09:00:00.000+00:00", "workspace": "/home/ada/app",
            "what": "/etc/x (outside the workspace: claude-local --add-dir /etc)",
        },
        {
            "when": "2026-11-29T10:00:00.123+00:00", "workspace": "/home/ada/app",
            "what": "pypi.org:443 (setting fence_domains)",
        },
        {
            "when": "2026-11-29T10:01:00.000+00:00", "workspace": "/home/ada/app",
            "what": "pypi.org:80 (setting fence_domains)",
        },
    ]  # fmt: skip
    assert main(["fence", "why", "--json"]) == 0
    assert lacks(example("fence why"), json.loads(capsys.readouterr().out)) == []
    assert main(["fence", "why"]) == 0
    shown = capsys.readouterr().out
    assert "pypi.org:443 (setting fence_domains)" in shown and "/home/ada/app" in shown


def test_only_the_newest_are_shown_and_old_transcripts_are_not_read(home: Path) -> None:
    for hour in range(5):
        transcript(home, f"s{hour}", (f"2026-11-29T1{hour}:00:00Z", f"{PREFIX}host{hour}:443 (setting fence_domains)"))
    (home / ".claude-local" / "projects" / "-work-app" / "s0.jsonl").chmod(0)
    found = history(str(home / ".claude-local" / "projects"), 2)
    assert [each.what.partition(":")[0] for each in found] == ["host3", "host4"]


def test_refusals_within_a_second_keep_their_order(home: Path) -> None:
    words = "".join(f"{PREFIX}{name}\n" for name in "zyx")
    transcript(home, "a", ("2026-11-29T10:00:00.900Z", words), ("2026-11-29T10:00:00.100Z", f"{PREFIX}first"))
    assert [each.what for each in history(str(home / ".claude-local" / "projects"), 9)] == ["first", "z", "y", "x"]


def test_what_a_session_wrote_cannot_send_codes_to_the_terminal(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transcript(home, "a", ("2026-11-29T10:00:00Z", f"{PREFIX}\x1b]0;title\x07 [red]x"))
    assert main(["fence", "why"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\\x1b]0;title\\x07 [red]x" in shown


def test_nothing_refused_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fence", "why"]) == 0
    assert "no session" in capsys.readouterr().out
