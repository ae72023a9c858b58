"""The deployed llama-server speaks the Messages API: the documented format, and as Anthropic's SDK reads it.

A difference from the format that has no name in checker.DEVIATIONS is a failure.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from claude_local.paths import Paths
from claude_local.server.client import ANSWER, LlamaClient, ServerError
from claude_local.server.presets import ACTIVE
from claude_local.server.wait import load
from claude_local.verify.messages_rows import TOOL
from tests.conformance.checker import CheckedMessage, check_events, check_message, check_token_count
from tests.integration.machine import HOME

pytestmark = pytest.mark.integration


def user(prompt: str, max_tokens: int = 24, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": ACTIVE, "max_tokens": max_tokens, "messages": messages, **more}


HELLO = user("Say hello in one word.")
TOOL_CALL = user("Use the Read tool to read the file notes.txt.", 160, tools=[TOOL], tool_choice={"type": "auto"})
# The answer of the first turn as Claude Code sends it back, and the tool's result.
AFTER_A_TOOL = {
    **TOOL_CALL,
    "system": [{"type": "text", "text": "You are brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        *TOOL_CALL["messages"],
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "Read", "input": {"file_path": "notes.txt"}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "The word is walnut."}]},
    ],
}
SYSTEM_IN_THE_MIDDLE = {
    **HELLO,
    "messages": [
        {"role": "user", "content": "Good morning."},
        {"role": "system", "content": "The user's name is Ada."},
        {"role": "user", "content": "Say hello."},
    ],
}
THINKING = user("What is 2 + 2?", 1280, thinking={"type": "enabled", "budget_tokens": 1024})
REQUESTS = {
    "text": HELLO,
    "several lines": user("Count from 1 to 5, one number on each line.", 60),
    "not ASCII": user("Repeat exactly: Grüße ☃", 40),
    "cut off by max_tokens": user("Tell me a long story about a walnut.", 5),
    "stop sequence": user("Count from 1 to 9.", 60, stop_sequences=["3"]),
    "thinking": THINKING,
    "tool call": TOOL_CALL,
    "after a tool": AFTER_A_TOOL,
    "system message in mid-conversation": SYSTEM_IN_THE_MIDDLE,
}
each_request = pytest.mark.parametrize("body", REQUESTS.values(), ids=REQUESTS.keys())


@pytest.fixture(scope="module")
def token(server_url: str) -> str:
    home = str(HOME)
    with open(Paths(home=home, model_dir=home, bin_dir=home).token) as file:
        return file.read().strip()


@pytest.fixture(scope="module")
def server(server_url: str, token: str) -> LlamaClient:
    client = LlamaClient(server_url, token)
    load(client, ACTIVE, 600, print)
    return client


@pytest.fixture
def sdk(server: LlamaClient, token: str) -> Iterator[anthropic.Anthropic]:
    """A client for each test: llama-server closes idle connections, and a POST must not meet a closed one."""
    with anthropic.Anthropic(
        base_url=server.url, api_key=None, auth_token=token, max_retries=0, timeout=ANSWER
    ) as client:
        yield client


def accepted(checked: CheckedMessage) -> CheckedMessage:
    print(f"{checked.stop_reason}: {checked.text!r} {checked.tools}; deviations: {checked.deviations}")
    assert checked.problems == []
    return checked


@each_request
def test_a_plain_answer_has_the_documented_format(server: LlamaClient, body: dict[str, Any]) -> None:
    answer = accepted(check_message(server.json("POST", "/v1/messages", {**body, "temperature": 0}, timeout=ANSWER)))
    assert answer.usage["output_tokens"] >= 1


@each_request
def test_a_streamed_answer_has_the_documented_events_in_order(server: LlamaClient, body: dict[str, Any]) -> None:
    events = server.events("/v1/messages", {**body, "temperature": 0, "stream": True})
    assert accepted(check_events(events)).usage["output_tokens"] >= 1


def test_a_plain_and_a_streamed_answer_are_the_same(server: LlamaClient) -> None:
    body = {**user("Count from 1 to 5, one number on each line.", 60), "temperature": 0}
    plain = accepted(check_message(server.json("POST", "/v1/messages", body, timeout=ANSWER)))
    streamed = accepted(check_events(server.events("/v1/messages", {**body, "stream": True})))
    assert (plain.text, plain.stop_reason) == (streamed.text, streamed.stop_reason)
    assert plain.usage["output_tokens"] == streamed.usage["output_tokens"]


def test_an_answer_that_max_tokens_cuts_off_says_so(server: LlamaClient) -> None:
    body = {**REQUESTS["cut off by max_tokens"], "temperature": 0, "stream": True}
    assert accepted(check_events(server.events("/v1/messages", body))).stop_reason == "max_tokens"


def test_a_tool_is_called_with_its_arguments(server: LlamaClient) -> None:
    answer = accepted(check_events(server.events("/v1/messages", {**TOOL_CALL, "temperature": 0, "stream": True})))
    assert [(call["name"], call["input"]) for call in answer.tools] == [("Read", {"file_path": "notes.txt"})]
    assert answer.stop_reason == "tool_use"


def test_a_tools_result_reaches_the_model(server: LlamaClient) -> None:
    answer = accepted(
        check_message(server.json("POST", "/v1/messages", {**AFTER_A_TOOL, "temperature": 0}, timeout=300))
    )
    assert "walnut" in answer.text


def test_tokens_are_counted_and_agree_with_the_usage(server: LlamaClient) -> None:
    body = {key: HELLO[key] for key in ("model", "messages")}
    count = server.json("POST", "/v1/messages/count_tokens", body)
    assert check_token_count(count) == []
    usage = server.json("POST", "/v1/messages", HELLO, timeout=ANSWER)["usage"]
    assert count["input_tokens"] == usage["input_tokens"] + usage.get("cache_read_input_tokens", 0)


def test_the_sdk_reads_a_plain_answer(sdk: anthropic.Anthropic) -> None:
    message = sdk.messages.create(**HELLO)
    assert message.role == "assistant" and message.usage.output_tokens >= 1 and message.stop_reason == "end_turn"
    assert [block.type for block in message.content] == ["text"]


def test_the_sdk_reads_a_stream(sdk: anthropic.Anthropic) -> None:
    with sdk.messages.stream(**HELLO) as events:
        names = [event.type for event in events]
        message = events.get_final_message()
    assert names[0] == "message_start" and names[-1] == "message_stop"
    assert message.content[0].type == "text" and message.content[0].text.strip()


def test_the_sdk_reads_a_streamed_tool_call(sdk: anthropic.Anthropic) -> None:
    with sdk.messages.stream(**TOOL_CALL) as events:
        message = events.get_final_message()
    assert [block.input for block in message.content if block.type == "tool_use"] == [{"file_path": "notes.txt"}]


def test_the_sdk_counts_tokens(sdk: anthropic.Anthropic) -> None:
    assert sdk.messages.count_tokens(model=ACTIVE, messages=HELLO["messages"]).input_tokens > 0


def test_an_unknown_model_is_an_error_that_names_it(server: LlamaClient) -> None:
    with pytest.raises(ServerError, match="no-such-model") as caught:
        server.json("POST", "/v1/messages", {**HELLO, "model": "no-such-model"})
    assert caught.value.status == 400


def test_a_prompt_beyond_the_context_window_is_an_error_that_claude_code_understands(server: LlamaClient) -> None:
    prompt = "walnut " * (server.context_window(ACTIVE) + 100)
    with pytest.raises(ServerError, match="exceeds the available context size") as caught:
        server.json("POST", "/v1/messages", user(prompt), timeout=ANSWER)
    assert caught.value.status == 400


def test_while_the_server_reads_a_long_prompt_it_sends_comments(server: LlamaClient) -> None:
    """Claude Code takes three minutes of silence for a dead connection; the server's own interval is 30 seconds. Only
    this path takes another one, and it shares the code that sends them."""
    prompt = f"{secrets.token_hex(8)} " + "walnut " * 1000
    body = {**user(prompt, 1), "stream": True, "sse_ping_interval": 1}
    response = server.request("POST", "/v1/chat/completions", body, timeout=ANSWER)
    assert response.status_code == 200 and (response.text.startswith(":") or "\n:\n" in response.text)


def test_the_default_profile_is_one_model_under_its_id_and_its_other_name(server: LlamaClient) -> None:
    listed = server.json("GET", "/v1/models")["data"]
    (default,) = [entry["id"] for entry in listed if ACTIVE in entry["aliases"]]
    question = user(f"{secrets.token_hex(8)} " + "walnut " * 60, 1)
    read = [
        server.json("POST", "/v1/messages", {**question, "model": name}, timeout=ANSWER)["usage"]
        for name in (ACTIVE, default)
    ]
    assert read[0]["input_tokens"] > 60 > read[1]["input_tokens"], "the second one finds the prompt in the cache"
