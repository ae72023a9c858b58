"""What Claude Code is told of the model and the server: what fits, when to compact, how long to wait."""

from __future__ import annotations

import pytest

from claude_local.claude.session_variables import model_variables, session_variables

OUTPUT, READ = "CLAUDE_CODE_MAX_OUTPUT_TOKENS", "CLAUDE_CODE_FILE_READ_MAX_OUTPUT_TOKENS"
NEVER, WHEN_FULL = "DISABLE_AUTO_COMPACT", "CLAUDE_CODE_DISABLE_UNKNOWN_MODEL_WINDOW_ENFORCEMENT"


@pytest.mark.parametrize(
    ("window", "small", "output"),
    [(16384, False, 2048), (32768, False, 4096), (131072, False, 8192), (16384, True, 1024), (131072, True, 2048)],
)
def test_an_answer_leaves_room_for_the_prompt_and_a_small_models_answer_is_short(
    window: int, small: bool, output: int
) -> None:
    assert model_variables(window, small)[OUTPUT] == str(output)


@pytest.mark.parametrize(("window", "most"), [(16384, 4096), (32768, 8192), (262144, 25000)])
def test_one_file_takes_a_quarter_of_the_window_at_most(window: int, most: int) -> None:
    assert model_variables(window, False)[READ] == str(most)


@pytest.mark.parametrize(
    ("window", "when"), [(16384, NEVER), (32768, WHEN_FULL), (65536, WHEN_FULL), (131072, None), (262144, None)]
)
def test_a_window_is_compacted_when_most_of_it_is_used(window: int, when: str | None) -> None:
    """By itself Claude Code compacts 13000 tokens and an answer before the end."""
    assert {NEVER, WHEN_FULL} & set(model_variables(window, False, largest=window)) == ({when} if when else set())


def test_a_larger_window_after_a_switch_is_used_to_its_end() -> None:
    assert WHEN_FULL in model_variables(131072, False, largest=262144)


def waits(**env: str) -> dict[str, int]:
    """The time-outs of a session, in seconds."""
    paths = {"config_dir": "/c", "bash_env": "/b", "native_claude": "/n"}
    made = session_variables(env, server="http://127.0.0.1:1", token="t", model="m", **paths)
    return {name: int(value) // 1000 for name, value in made.items() if name.endswith("_TIMEOUT_MS")}


def test_a_long_wait_for_the_first_word_is_allowed_and_a_dead_connection_is_noticed() -> None:
    dead = "CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS"
    long = {name: seconds for name, seconds in waits().items() if name != dead}
    # llama-server sends a comment every 30 seconds while it reads.
    assert 2 * 30 < waits()[dead] <= 200 and set(long.values()) == {1800}
    assert {"CLAUDE_STREAM_FIRST_BYTE_TIMEOUT_MS", "API_TIMEOUT_MS"} <= set(long)
    assert waits(**{dead: "9000"})[dead] == 9


def test_a_small_model_is_asked_for_a_short_summary() -> None:
    """Claude Code takes an order of its own where this one has no <summary>."""
    order = "CLAUDE_CODE_CURRIED_TRINKET"
    small = model_variables(32768, True)[order]
    assert "<summary>\n" in small and "120 words" in small and len(small) < 400
    assert order not in model_variables(32768, False)
