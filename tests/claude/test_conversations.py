"""A conversation that goes on: how long it is, and what a start of claude-local says if the model cannot take it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from claude_local.claude import start
from claude_local.claude.arguments import read
from claude_local.claude.conversations import conversation_tokens
from claude_local.claude.profiles import Profiles

LONG, SHORT, OTHER = "11111111-aaaa", "22222222-bbbb", "33333333-cccc"
BOUNDARY = {"type": "system", "subtype": "compact_boundary"}


def answer(tokens: int, **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": tokens - 30, "cache_read_input_tokens": 20, "output_tokens": 10, "server_tool_use": {}}
    return {"type": "assistant", "isSidechain": False, "message": {"usage": usage}, **more}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two conversations of a workspace, the short one newer; and the workspace as the current directory."""
    work = tmp_path / "a.b c"
    work.mkdir()
    monkeypatch.chdir(work)
    write(tmp_path, LONG, [answer(900), answer(60_000), answer(5, isSidechain=True), {"type": "user", "usage": 1}], 1)
    write(
        tmp_path, SHORT, [answer(60_000), BOUNDARY, answer(2_000), {"type": "assistant", "message": {"usage": {}}}], 2
    )
    return tmp_path


def write(config: Path, conversation: str, entries: list[dict[str, Any]], age: int) -> None:
    path = config / "projects" / "".join(each if each.isalnum() else "-" for each in os.getcwd())
    path.mkdir(parents=True, exist_ok=True)
    file = path / f"{conversation}.jsonl"
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + "half a li")
    os.utime(file, (age, age))


def test_the_last_answer_of_a_transcript_tells_its_length(config: Path) -> None:
    assert conversation_tokens(str(config), os.getcwd(), LONG) == 60_000
    assert conversation_tokens(str(config), os.getcwd(), "") == 2_000, "the newest"


@pytest.mark.parametrize("entries", [[answer(60_000), BOUNDARY], [], [{"type": "assistant", "message": "usage"}]])
def test_after_a_compaction_and_without_an_answer_the_length_is_unknown(
    config: Path, entries: list[dict[str, Any]]
) -> None:
    write(config, OTHER, entries, 3)
    assert conversation_tokens(str(config), os.getcwd(), OTHER) == 0
    assert conversation_tokens(str(config), "/nowhere", "") == conversation_tokens(str(config), os.getcwd(), "x") == 0


@pytest.mark.parametrize(
    ("words", "conversation"),
    [
        ("-p go --continue", ""), ("-c", ""), ("-pc go", ""), (f"-p go -r {LONG}", LONG), (f"--resume={LONG}", LONG),
        ("--resume", None), ("-r -p go", None), ("go", None), ("-- -c", None),
    ],
)  # fmt: skip
def test_the_arguments_say_which_conversation_goes_on(words: str, conversation: str | None) -> None:
    assert read(words.split()).conversation == conversation


PROFILES = Profiles("small", {}, windows={"small": 32_768, "large": 65_536})


def refusal(config: Path, words: str, capsys: pytest.CaptureFixture[str], profiles: Profiles = PROFILES) -> str:
    """What claude-local says; empty when it goes on."""
    try:
        start.check_conversation(read(words.split()), profiles.active, profiles, str(config))
    except SystemExit as end:
        assert end.code == 1
    return capsys.readouterr().err


def test_a_conversation_that_is_too_long_is_refused_with_its_length_and_a_way_on(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(config, f"-p go --resume {LONG}", capsys)
    assert "small takes 32,768 tokens, but this conversation has 60,000" in said
    assert f"Fix: claude-local --model large --resume {LONG} -p /compact" in said
    os.utime(next((config / "projects").glob(f"*/{LONG}.jsonl")), (9, 9))
    assert "Fix: claude-local --model large --continue -p /compact" in refusal(config, "-c", capsys)
    none = Profiles("small", {}, windows={"small": 32_768, "large": 40_000})
    assert "(begins a new conversation)" in refusal(config, "-c", capsys, none)


def test_all_others_go_on(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(config, "-p go -c", capsys) == "", "the newest one is short"
    assert refusal(config, "-p go", capsys) == ""
    for active, windows in (("large", PROFILES.windows), ("small", {"small": 0}), ("new", {})):
        assert refusal(config, f"--resume {LONG}", capsys, Profiles(active, {}, windows=windows)) == ""
