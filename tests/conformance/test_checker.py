"""Which answers of the Messages API count as right, and which deviations of llama-server are accepted by name."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from claude_local.server.client import read_sse
from claude_local.verify.scripted_backend import stream
from tests.conformance.checker import LATE_STOPS, SCHEMA, check_events, check_message, check_token_count

Events = list[dict[str, Any]]
USAGE = {"input_tokens": 9, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 3, "output_tokens": 1}


def start(**message: Any) -> dict[str, Any]:
    opening = {
        "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-local", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": dict(USAGE), **message,
    }  # fmt: skip
    return {"type": "message_start", "message": opening}


def block(index: int, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": content or {"type": "text", "text": ""}}


def delta(index: int, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": content or {"type": "text_delta", "text": "hi"}}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def end(reason: str = "end_turn") -> Events:
    return [
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": 7},
        },
        {"type": "message_stop"},
    ]


TOOL = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {}}
THINKING = {"type": "thinking", "thinking": "", "signature": ""}


def said() -> Events:
    return [start(), block(0), delta(0), delta(0), stop(0), *end()]


def everything() -> Events:
    return [
        start(), {"type": "ping"},
        block(0, **THINKING), delta(0, type="thinking_delta", thinking="hm"),
        delta(0, type="signature_delta", signature="abc"), stop(0),
        block(1), delta(1), stop(1),
        block(2, **TOOL), delta(2, type="input_json_delta", partial_json='{"file_'),
        delta(2, type="input_json_delta", partial_json='path": "a"}'), stop(2),
        *end("tool_use"),
    ]  # fmt: skip


def check(events: Events) -> Any:
    return check_events((event["type"], event) for event in events)


def test_the_schema_is_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_a_stream_with_all_kinds_of_blocks_is_right_and_put_together() -> None:
    checked = check(everything())
    assert checked.problems == [] and checked.deviations == []
    assert (checked.thinking, checked.text) == ("hm", "hi")
    assert checked.tools == [{**TOOL, "input": {"file_path": "a"}}]
    assert checked.stop_reason == "tool_use" and checked.usage["output_tokens"] == 7


def test_the_scripted_backends_own_stream_is_right() -> None:
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
        "stop_sequence": None, "usage": dict(USAGE),
        "content": [{"type": "text", "text": "Grüße ☃ " * 9}, {**TOOL, "input": {"file_path": "x" * 90}}],
    }  # fmt: skip

    async def collect() -> bytes:
        return b"".join([chunk async for chunk in stream(message)])

    events = list(read_sse(asyncio.run(collect()).decode().split("\n")[:-1]))
    checked = check_events(events)
    assert checked.problems == [] and checked.text == "Grüße ☃ " * 9
    assert check_message(message).problems == []


def without(events: Events, position: int) -> Events:
    return events[:position] + events[position + 1 :]


def swapped(events: Events, one: int, other: int) -> Events:
    events[one], events[other] = events[other], events[one]
    return events


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (without(said(), 0), "before message_start"),
        ([start(), *said()], "second message_start"),
        (without(said(), 1), "has not started"),
        (without(said(), 4), "is open"),
        (without(said(), 5), "without a message_delta"),
        (without(said(), 6), "without message_stop"),
        ([], "no event"),
        (swapped(said(), 3, 4), "which is closed"),
        (swapped(said(), 4, 5), "is open"),
        ([*said(), {"type": "ping"}], "after message_stop"),
        ([start(), block(1), stop(1), *end()], "0 was expected"),
        ([start(), block(0), stop(0), block(0), stop(0), *end()], "1 was expected"),
        ([start(), end()[0], block(0), stop(0), end()[1]], "after message_delta"),
        (
            [start(), block(0), delta(0, type="input_json_delta", partial_json="{}"), stop(0), *end()],
            "for a text block",
        ),
        ([start(), block(0, **TOOL), delta(0), stop(0), *end("tool_use")], "for a tool_use block"),
        ([start(), block(0, **THINKING), stop(0), *end()], "without its signature_delta"),
        (
            [
                start(),
                block(0, **TOOL),
                delta(0, type="input_json_delta", partial_json='{"a'),
                stop(0),
                *end("tool_use"),
            ],
            "are no JSON",
        ),
        (
            [
                start(),
                block(0, **TOOL),
                delta(0, type="input_json_delta", partial_json="[1]"),
                stop(0),
                *end("tool_use"),
            ],
            "no JSON object",
        ),
        ([start(), block(0), stop(0), *end("tool_use")], "no tool_use block"),
        ([start(), block(0, **TOOL), stop(0), *end()], "stop_reason is end_turn"),
        ([start(), {"type": "error", "error": {"type": "api_error", "message": "broken"}}], "reports an error: broken"),
        ([start(), {"type": "surprise"}], "no event of the Messages API"),
    ],
)
def test_a_wrong_order_is_named(events: Events, words: str) -> None:
    problems = check(events).problems
    assert any(words in problem for problem in problems), problems


def changed(change: Callable[[Events], object], events: Callable[[], Events] = everything) -> Events:
    copied = copy.deepcopy(events())
    change(copied)
    return copied


@pytest.mark.parametrize(
    "events",
    [
        changed(lambda e: e[0]["message"].pop("id")),
        changed(lambda e: e[0]["message"].update(id="1234")),
        changed(lambda e: e[0]["message"].update(role="user")),
        changed(lambda e: e[0]["message"].update(stop_reason="end_turn")),
        changed(lambda e: e[0]["message"].update(content=[{"type": "text", "text": "early"}])),
        changed(lambda e: e[0]["message"]["usage"].pop("input_tokens")),
        changed(lambda e: e[0]["message"]["usage"].update(input_tokens=-1)),
        changed(lambda e: e[0]["message"]["usage"].update(input_tokens="9")),
        changed(lambda e: e[0]["message"].update(surprise=1)),
        changed(lambda e: e[2].pop("index")),
        changed(lambda e: e[2].update(index=-1)),
        changed(lambda e: e[2]["content_block"].update(thinking="early")),
        changed(lambda e: e[2]["content_block"].update(type="image")),
        changed(lambda e: e[6]["content_block"].update(text="early")),
        changed(lambda e: e[7]["delta"].pop("text")),
        changed(lambda e: e[7]["delta"].update(type="word_delta")),
        changed(lambda e: e[9]["content_block"].update(input={"a": 1})),
        changed(lambda e: e[9]["content_block"].pop("name")),
        changed(lambda e: e[10]["delta"].update(partial_json={})),
        changed(lambda e: e[-2]["delta"].update(stop_reason="finished")),
        changed(lambda e: e[-2]["delta"].update(stop_reason=None)),
        changed(lambda e: e[-2].pop("usage")),
        changed(lambda e: e[-1].update(usage={})),
    ],
)
def test_a_wrong_field_is_a_problem(events: Events) -> None:
    assert check(events).problems


def test_the_event_name_has_to_agree_with_the_type() -> None:
    events = [(event["type"], event) for event in said()]
    events[2] = ("content_block_stop", events[2][1])
    assert any("is named" in problem for problem in check_events(events).problems)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda e: e[0]["message"].update(id="chatcmpl-abc"), "message id starts with chatcmpl-"),
        (lambda e: e[9]["content_block"].update(id="4rT9"), "tool id without toolu_"),
        (
            lambda e: e[0]["message"]["usage"].pop("cache_creation_input_tokens"),
            "usage without cache_creation_input_tokens",
        ),
        (lambda e: e[4]["delta"].update(signature=""), "empty thinking signature"),
        (lambda e: e[2]["content_block"].pop("signature"), "thinking block starts without a signature field"),
        (lambda e: e[9]["content_block"].pop("input"), "tool_use block starts without input"),
    ],
)
def test_each_known_deviation_is_accepted_and_named(change: Callable[[Events], object], name: str) -> None:
    checked = check(changed(change))
    assert checked.problems == []
    assert checked.deviations == [name]


def test_blocks_that_close_late_are_accepted_and_named() -> None:
    checked = check([start(), block(0), delta(0), block(1, **TOOL), stop(0), stop(1), *end("tool_use")])
    assert checked.problems == [] and checked.deviations == [LATE_STOPS]


def test_an_error_event_in_llama_servers_form_is_reported() -> None:
    checked = check_events(
        [("message_start", start()), ("error", {"code": 500, "message": "boom", "type": "server_error"})]
    )
    assert checked.problems == ["event 2 (error): the server reports an error: boom"]


def whole(**more: Any) -> dict[str, Any]:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
        "content": [{"type": "text", "text": "hi"}],
        "stop_reason": "end_turn", "stop_sequence": None, "usage": dict(USAGE), **more,
    }  # fmt: skip


def test_a_whole_message_is_right() -> None:
    checked = check_message(whole())
    assert checked.problems == [] and checked.text == "hi"


@pytest.mark.parametrize(
    "value",
    [
        [], None, {}, whole(type="completion"), whole(stop_reason=None), whole(stop_reason="tool_use"),
        whole(content=[{"type": "text"}]), whole(content=[{"type": "picture"}]), whole(content="hi"),
        whole(content=[{**TOOL}]), whole(usage={}), whole(choices=[]),
        whole(content=[{"type": "thinking", "thinking": "hm"}]),
    ],
)  # fmt: skip
def test_a_wrong_message_is_a_problem(value: Any) -> None:
    assert check_message(value).problems


@pytest.mark.parametrize("value", [{}, {"input_tokens": 0}, {"input_tokens": "3"}, {"input_tokens": 3, "x": 1}, [3]])
def test_a_wrong_token_count_is_a_problem(value: Any) -> None:
    assert check_token_count(value)


def test_a_token_count_is_right() -> None:
    assert check_token_count({"input_tokens": 3}) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


KEYS = ["type", "message", "index", "delta", "content_block", "usage", "error"]
NAMES = ["message_start", "content_block_delta", "error", "x"]
EVENTS = st.tuples(st.sampled_from(NAMES), st.dictionaries(st.sampled_from(KEYS), json_values))


@settings(max_examples=15, deadline=None)
@given(st.lists(EVENTS, max_size=8))
def test_any_events_are_judged_without_an_exception(events: list[tuple[str, dict[str, Any]]]) -> None:
    assert check_events(events).problems


def test_order_problems_survive_json() -> None:
    # The report is JSON: every problem has to be printable as it is.
    assert json.dumps(check([start(), delta(5), *end()]).problems)
