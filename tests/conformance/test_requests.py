"""What our patches of llama.cpp promise of /v1/messages (files/image/patches): each test fails without its patch."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from claude_local.server.client import ANSWER, LlamaClient
from claude_local.server.presets import ACTIVE
from tests.conformance.test_llama_server import server, token, user

__all__ = ["server", "token"]

pytestmark = pytest.mark.integration

TOOL = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
WEATHER = user("Call get_weather for Paris now.", 60, tools=[TOOL], temperature=0)
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}


def said_by(role: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def document(kind: str, **source: Any) -> dict[str, Any]:
    return {"type": "document", "source": {"type": kind, **source}}


def ask(server: LlamaClient, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer."""
    response = server.request("POST", "/v1/messages", body, timeout=ANSWER)
    return response.status_code, response.json()


def refusal(server: LlamaClient, body: dict[str, Any]) -> str:
    """The message of a request that is the client's error, in the shape that Anthropic documents."""
    status, answer = ask(server, body)
    assert status == 400 and answer["type"] == "error" and answer["error"]["type"] == "invalid_request_error", answer
    return str(answer["error"]["message"])


def answer_text(answer: dict[str, Any]) -> str:
    return "".join(block["text"] for block in answer["content"] if block["type"] == "text")


def test_a_picture_for_a_model_without_a_projector_is_refused_at_once(server: LlamaClient) -> None:
    body = {**user(""), "messages": [said_by("user", PNG, text("What is this?"))]}
    message = refusal(server, body)
    # Claude Code takes the picture out of the conversation when it reads these words.
    assert "could not process image" in message and "MMPROJ" in message


CODE = "The code is pelican."
TEXT_DOCUMENTS = {
    "plain text": document("text", media_type="text/plain", data=CODE),
    "base64": document("base64", media_type="text/plain", data=base64.b64encode(CODE.encode()).decode()),
    "blocks": document("content", content=[text(CODE)]),
    "string": document("content", content=CODE),
}


@pytest.mark.parametrize("block", TEXT_DOCUMENTS.values(), ids=TEXT_DOCUMENTS.keys())
def test_a_document_that_is_text_reaches_the_model_as_text(server: LlamaClient, block: dict[str, Any]) -> None:
    """Counted, not asked: a small model's answer would test the model."""

    def count(*blocks: dict[str, Any]) -> int:
        body = {"model": ACTIVE, "messages": [said_by("user", *blocks, text("What is the code?"))]}
        return int(server.json("POST", "/v1/messages/count_tokens", body)["input_tokens"])

    assert count(block) == count(text(CODE)) > count()


PDF = document("base64", media_type="application/pdf", data="JVBERi0=")


def test_a_document_that_cannot_be_read_is_refused_by_its_type(server: LlamaClient) -> None:
    body = {**user(""), "messages": [said_by("user", PDF, text("Sum it up."))]}
    message = refusal(server, body)
    # Claude Code takes the document out of the conversation when it reads these words.
    assert "could not process PDF" in message and "application/pdf" in message


def test_a_document_in_a_tools_result_is_refused_too(server: LlamaClient) -> None:
    call = {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Paris"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [PDF]}
    messages = [said_by("user", text("Go.")), said_by("assistant", call), said_by("user", result)]
    assert "application/pdf" in refusal(server, {**WEATHER, "messages": messages})


def test_tool_choice_none_calls_no_tool(server: LlamaClient) -> None:
    status, answer = ask(server, {**WEATHER, "tool_choice": {"type": "none"}})
    assert status == 200 and {block["type"] for block in answer["content"]} == {"text"}


def test_tool_choice_names_the_tool_that_is_called(server: LlamaClient) -> None:
    other = {**TOOL, "name": "get_time", "description": "The time in a city."}
    body = {**WEATHER, "tools": [other, TOOL], "tool_choice": {"type": "tool", "name": "get_time"}}
    status, answer = ask(server, body)
    assert status == 200 and [b["name"] for b in answer["content"] if b["type"] == "tool_use"][:1] == ["get_time"]


def test_tool_choice_with_a_name_that_nobody_offers_is_refused(server: LlamaClient) -> None:
    assert "no_such_tool" in refusal(server, {**WEATHER, "tool_choice": {"type": "tool", "name": "no_such_tool"}})


def test_a_stop_sequence_is_the_stop_reason(server: LlamaClient) -> None:
    status, answer = ask(server, user("Say hello world.", 40, stop_sequences=["o"], temperature=0))
    assert status == 200 and (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "o")


SCHEMAS: dict[str, dict[str, Any]] = {
    "true": {"type": "object", "properties": {"value": True}, "required": ["value"]},
    "items true": {"type": "object", "properties": {"values": {"type": "array", "items": True}}},
    "items false": {"type": "object", "properties": {"values": {"type": "array", "items": False}}},
    "a property false": {"type": "object", "properties": {"city": {"type": "string"}, "never": False}},
    "true among alternatives": {"type": "object", "properties": {"x": {"anyOf": [True, {"type": "string"}]}}},
    "a reference to itself": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["name"],
    },
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_a_tool_may_have_every_legal_schema(server: LlamaClient, schema: dict[str, Any]) -> None:
    status, answer = ask(server, {**WEATHER, "tools": [{**TOOL, "input_schema": schema}]})
    assert status == 200, answer


def test_a_schema_that_cannot_be_used_names_its_tool(server: LlamaClient) -> None:
    broken = {**TOOL, "input_schema": {"type": "object", "properties": {"city": 3}}}
    assert "get_weather" in refusal(server, {**WEATHER, "tools": [broken]})


def test_a_request_without_messages_is_refused(server: LlamaClient) -> None:
    without = {key: value for key, value in user("").items() if key != "messages"}
    assert "messages" in refusal(server, without)
    assert "messages" in refusal(server, {**without, "messages": []})


def test_an_error_has_anthropics_shape_wherever_it_comes_from(server: LlamaClient) -> None:
    wrong_token = LlamaClient(server.url, "wrong").request("POST", "/v1/messages", user("Hello."))
    assert wrong_token.status_code == 401 and wrong_token.json()["type"] == "error"
    assert wrong_token.json()["error"]["type"] == "authentication_error"
    no_such_path = server.request("GET", "/v1/nothing")
    assert no_such_path.status_code == 404 and no_such_path.json()["type"] == "error"
    assert refusal(server, {**user("Hello."), "model": "no-such-model"})
