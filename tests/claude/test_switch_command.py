"""``/switch`` in a session: what its hook asks the management API, and what the user reads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_local.claude import switch_command
from tests.manager.scripted_router import ScriptedRouter, until
from tests.manager.stand import TOKEN, Manager

pytestmark = pytest.mark.slow


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with ScriptedRouter("small", "large", "tiny", "broken") as router, Manager(tmp_path, router) as manager:
        router.fails.add("broken")
        until(lambda: manager.state() == "ready")
        yield manager


def typed(manager: Manager, words: str, transcript: Path | None = None, **env: str) -> str:
    """What the user reads after ``/switch WORDS``."""
    given = {"command_name": "switch", "command_args": words, "transcript_path": str(transcript)}
    variables = {"CLAUDE_LOCAL_MANAGER": str(manager.port), "ANTHROPIC_AUTH_TOKEN": TOKEN, **env}
    done = subprocess.run(
        [sys.executable, "-I", "-S", switch_command.__file__], input=json.dumps(given), env=variables,
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["continue"] is False, "no model may see the command"
    return str(told["stopReason"])


def test_without_a_name_it_lists_the_profiles_and_marks_the_active_one(manager: Manager) -> None:
    _, *lines = typed(manager, "").splitlines()
    assert [line.split()[0] for line in lines] == ["*", "large", "tiny", "broken"] and "small" in lines[0]


def test_with_a_name_it_switches_and_says_what_becomes_of_the_window(manager: Manager) -> None:
    assert "large answers from now on" in typed(manager, "large") and manager.router.alias() == "large"
    smaller = typed(manager, " tiny ")
    assert "4,000 tokens of context after 5,000" in smaller and "compacted" in smaller
    assert "--model large" in typed(manager, "small", ANTHROPIC_MODEL="large")


def test_a_name_that_is_not_there_names_those_that_are(manager: Manager) -> None:
    assert "small" in typed(manager, "huge") and manager.router.alias() == "small"


def test_a_model_that_does_not_load_shows_the_servers_words(manager: Manager) -> None:
    assert typed(manager, "broken").splitlines()[-1] == "ready" and manager.router.alias() == "small"


@pytest.mark.parametrize(
    ("port", "words"), [("", "does not use"), ("1", "llama-local doctor"), ("evil.example", "does not")]
)
def test_it_says_so_where_there_is_no_management_api(manager: Manager, port: str, words: str) -> None:
    assert words in typed(manager, "large", CLAUDE_LOCAL_MANAGER=port)


def test_a_conversation_that_the_window_cannot_hold_is_to_be_compacted_first(manager: Manager, tmp_path: Path) -> None:
    """Claude Code does not get it into the window afterwards."""
    counted = {
        "input_tokens": 9000,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 100,
        "output_tokens": 9,
    }
    told = [{"type": "assistant", "message": {"usage": counted}}, {"type": "user"}]
    transcript = tmp_path / "transcript.jsonl"
    transcript.write_text("".join(json.dumps(each) + "\n" for each in told) + "half a li")
    assert "9,109" in (answer := typed(manager, "tiny", transcript)) and "/compact" in answer
    assert manager.router.alias() == "small"
    told.append({"type": "system", "subtype": "compact_boundary"})
    transcript.write_text("".join(json.dumps(each) + "\n" for each in told))
    assert "tiny answers from now on" in typed(manager, "tiny", transcript)
