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
from tests.manager.stand import TOKEN, Manager, report, running

pytestmark = pytest.mark.slow


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with ScriptedRouter("small", "large", "tiny", "broken") as router, Manager(tmp_path, router) as manager:
        router.fails.add("broken")
        until(lambda: manager.state() == "ready")
        yield manager


def typed(manager: Manager, words: str, **env: str) -> str:
    """What the user reads after ``/switch WORDS``."""
    told = hook(manager, {"command_name": "switch", "command_args": words}, **env)
    assert told["continue"] is False, "no model may see the command"
    return str(told["stopReason"])


def hook(manager: Manager, given: dict[str, Any], **env: str) -> Any:
    """The hook's answer."""
    variables = {"CLAUDE_LOCAL_MANAGER": str(manager.port), "ANTHROPIC_AUTH_TOKEN": TOKEN, **env}
    done = subprocess.run(
        [sys.executable, "-I", "-S", switch_command.__file__], input=json.dumps(given), env=variables,
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return json.loads(done.stdout)


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


def test_a_conversation_that_the_window_cannot_hold_is_to_be_compacted_first(manager: Manager) -> None:
    with running(manager, ("/home/a/app", "")) as (process,):
        report(manager, process, 9_109)
        told = typed(manager, "tiny")
        assert "9,109" in told and "/compact" in told and manager.router.alias() == "small"


@pytest.mark.parametrize(
    ("model", "tokens", "asked"), [("tiny", 9_109, True), ("tiny", 3_000, False), ("elsewhere", 9_109, False),
                                   ("claude-local", 9_109, True)],
)  # fmt: skip
def test_model_asks_before_a_conversation_gets_a_window_that_cannot_hold_it(
    manager: Manager, model: str, tokens: int, asked: bool
) -> None:
    chosen = {"hook_event_name": "PreModelSwitch", "to_model": model, "context_tokens": tokens}
    told = hook(manager, chosen).get("hookSpecificOutput", {})
    assert told.get("permissionDecision") == ("ask" if asked else None)
    assert ("9,109" in told.get("permissionDecisionReason", "")) is asked
    assert hook(manager, chosen, CLAUDE_LOCAL_MANAGER="") == {}
