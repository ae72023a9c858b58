"""The scripted backend speaks what Anthropic's SDK and Claude Code expect."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest
import requests

from claude_local.verify.scripted_backend import (
    AFTER_THE_SCRIPT,
    ScriptedBackend,
    ScriptError,
    error,
    is_background,
    parse_script,
    text,
    thinking,
    tool_use,
)

ASK = {"model": "claude-local", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    turns = [[thinking("Let me see."), tool_use("Write", {"file_path": "/é", "content": "☃\n" * 40})], text("Done ☃.")]
    with ScriptedBackend(turns, token="t", models=["claude-local"]) as running:
        yield running


def client(backend: ScriptedBackend, token: str = "t") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=backend.url, auth_token=token, api_key=None, max_retries=0)


def test_turns_are_streamed_in_order_as_the_sdk_expects(backend: ScriptedBackend) -> None:
    with client(backend).messages.stream(**ASK) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_message()
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 2
    assert message.stop_reason == "tool_use" and message.usage.output_tokens > 1
    assert [block.type for block in message.content] == ["thinking", "tool_use"]
    assert message.content[1].input == {"file_path": "/é", "content": "☃\n" * 40}
    with client(backend).messages.stream(**ASK) as stream:
        assert stream.get_final_text() == "Done ☃."


def test_plain_answers_hold_the_same_turns_and_a_last_text_follows(backend: ScriptedBackend) -> None:
    first, second, third = (client(backend).messages.create(**ASK) for _ in range(3))
    assert first.content[1].name == "Write" and first.stop_reason == "tool_use"
    assert second.content[0].text == "Done ☃." and second.stop_reason == "end_turn"
    assert third.content[0].text == AFTER_THE_SCRIPT
    assert len({first.id, second.id, third.id}) == 3


def test_everything_is_recorded_with_headers_and_body(backend: ScriptedBackend) -> None:
    client(backend).messages.create(**ASK)
    requests.head(backend.url + "/api/hello", timeout=60)
    message, hello = backend.requests
    assert (message["method"], message["path"]) == ("POST", "/v1/messages")
    assert message["headers"]["authorization"] == "Bearer t"
    assert message["body"]["messages"] == ASK["messages"]
    assert (hello["method"], hello["path"], hello["body"]) == ("HEAD", "/api/hello", None)
    assert backend.main_requests == [message]


def test_it_answers_like_llama_server(backend: ScriptedBackend) -> None:
    auth = {"Authorization": "Bearer t"}
    assert requests.get(backend.url + "/health", timeout=60).json() == {"status": "ok"}
    props = requests.get(backend.url + "/props?model=claude-local", headers=auth, timeout=60).json()
    assert props["default_generation_settings"]["n_ctx"] == 32768
    models = requests.get(backend.url + "/v1/models", headers=auth, timeout=60).json()
    assert [model["id"] for model in models["data"]] == ["claude-local"]
    assert client(backend).messages.count_tokens(model="claude-local", messages=ASK["messages"]).input_tokens > 0
    unknown = requests.get(backend.url + "/props?model=other", headers=auth, timeout=60)
    assert (unknown.status_code, unknown.json()["error"]["message"]) == (400, "model 'other' not found")
    assert requests.get(backend.url + "/nowhere", headers=auth, timeout=60).status_code == 404


def test_a_wrong_token_is_refused(backend: ScriptedBackend) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        client(backend, "wrong").messages.create(**ASK)
    assert backend.played == 0


def test_a_longer_prompt_counts_more_tokens(backend: ScriptedBackend) -> None:
    def count(words: str) -> int:
        messages = [{"role": "user", "content": words}]
        return client(backend).messages.count_tokens(model="claude-local", messages=messages).input_tokens

    assert count("x" * 4000) - count("x") == pytest.approx(1000, abs=2)


def test_loading_and_errors_can_be_played() -> None:
    with ScriptedBackend([error(529, "busy", "overloaded_error"), text("then")], loading=1) as backend:
        assert requests.get(backend.url + "/health", timeout=60).status_code == 503
        assert requests.get(backend.url + "/health", timeout=60).status_code == 200
        answer = requests.post(backend.url + "/v1/messages", json=ASK, timeout=60)
        assert (answer.status_code, answer.json()["error"]["type"]) == (529, "overloaded_error")
        assert requests.post(backend.url + "/v1/messages", json=ASK, timeout=60).json()["content"][0]["text"] == "then"


def test_a_title_request_takes_no_turn() -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    title = ASK | {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    assert is_background(title) and not is_background(ASK) and not is_background(title | {"tools": [{}]})
    with ScriptedBackend([text("first")]) as backend:
        requests.post(backend.url + "/v1/messages", json=title, timeout=60)
        assert requests.post(backend.url + "/v1/messages", json=ASK, timeout=60).json()["content"][0]["text"] == "first"


@pytest.mark.parametrize(
    "raw",
    [
        {"n_ctx": -1, "turns": []},
        {"no": 1},
        [[]],
        ["x"],
        [{"type": "tool_use", "name": "Write"}],
        [{"type": "text"}],
        [[{"type": "error", "status": 500}, {"type": "text", "text": "x"}]],
    ],
)
def test_a_bad_script_is_refused_with_its_place(raw: object) -> None:
    with pytest.raises(ScriptError):
        parse_script(raw)


def test_as_a_program_it_prints_its_address_serves_and_records(tmp_path: Path) -> None:
    script, record = tmp_path / "script.json", tmp_path / "requests.jsonl"
    script.write_text(json.dumps({"n_ctx": 4096, "turns": [{"type": "text", "text": "from a file"}]}))
    command = [sys.executable, "-m", "claude_local.verify.scripted_backend", "--script", script, "--record", record]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert requests.post(url + "/v1/messages", json=ASK, timeout=60).json()["content"][0]["text"] == "from a file"
        assert requests.get(url + "/props", timeout=60).json()["default_generation_settings"]["n_ctx"] == 4096
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    assert [json.loads(line)["path"] for line in record.read_text().splitlines()] == ["/v1/messages", "/props"]


def test_as_a_program_a_bad_script_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('["x"]')
    command = [sys.executable, "-m", "claude_local.verify.scripted_backend", "--script", tmp_path / "bad.json"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "turn 1" in done.stderr
