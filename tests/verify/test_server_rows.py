"""Each row about the server: green against a good one, red against one that misbehaves in just that way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from claude_local.server.client import ServerError
from claude_local.verify.catalogue import catalogue
from claude_local.verify.checks import Check, run
from claude_local.verify.scripted_backend import ScriptedBackend, error, text, thinking, tool_use
from claude_local.verify.workbench import Workbench
from tests.verify.verify_lab import TOKEN, Silent, deployed

MODELS = ["claude-local", "small"]


def row(bench: Workbench, name: str) -> Check:
    return next(check for check in catalogue(bench.parameters) if check.id == name)


def bench_for(home: Path, url: str) -> Workbench:
    return deployed(home, server_port=int(url.rpartition(":")[2]))


# --- green against the scripted backend -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "turns", "words"),
    [
        ("server.health", [], "/health"),
        ("server.key.wrong", [], "401"),
        ("server.key", [], "200"),
        ("server.origin", [], "not allowed"),
        ("server.model", [], "context window 4096 tokens"),
        ("server.restored", [], "loaded"),
        ("messages.plain", [text("Hello.")], "'Hello.', 9 tokens, stop reason end_turn"),
        ("messages.stream", [text("Hello, world.")], "'Hello, world.', 10 tokens, stop reason end_turn"),
        ("messages.count", [], "tokens for one word"),
        ("messages.thinking", [text("4")], "small does not think"),
        ("messages.tool", [tool_use("Read", {"file_path": "notes.txt"})], "Read('notes.txt')"),
        ("messages.tool", [text("I will."), tool_use("Read", {"file_path": "notes.txt"})], "second attempt"),
        ("messages.mid-system.small", [text("Hello, Ada.")], "'Hello, Ada.'"),
    ],
)
def test_a_good_server_passes(tmp_path: Path, name: str, turns: list[Any], words: str) -> None:
    with (
        ScriptedBackend(turns, n_ctx=4096, models=MODELS, token=TOKEN) as backend,
        bench_for(tmp_path, backend.url) as b,
    ):
        evidence = row(b, name).run(b)
    assert words in evidence


def test_the_thinking_of_a_model_that_thinks_is_counted(tmp_path: Path) -> None:
    turns = [[thinking("Two and two."), text("4")]]
    with ScriptedBackend(turns, models=MODELS, token=TOKEN) as backend, bench_for(tmp_path, backend.url) as b:
        evidence = row(b, "messages.thinking").run(b)
    assert "12 characters of thinking, then '4'" in evidence


@pytest.mark.slow
def test_a_loading_server_is_waited_for(tmp_path: Path) -> None:
    with ScriptedBackend([], models=MODELS, token=TOKEN, loading=2) as backend, bench_for(tmp_path, backend.url) as b:
        assert row(b, "server.health").run(b)


def test_the_mid_conversation_row_really_sends_a_system_message_in_the_middle(tmp_path: Path) -> None:
    with ScriptedBackend([text("hi")], models=MODELS, token=TOKEN) as backend, bench_for(tmp_path, backend.url) as b:
        row(b, "messages.mid-system.small").run(b)
        body = backend.main_requests[0]["body"]
    assert [message["role"] for message in body["messages"]] == ["user", "system", "user"] and body["model"] == "small"


# --- red against a server that misbehaves ---------------------------------------------------------------------------

Reply = tuple[int, dict[str, str], bytes]


def answer(value: Any, status: int = 200, **headers: str) -> Reply:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return status, {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}, body


def sse(*events: dict[str, Any], kind: str = "text/event-stream") -> Reply:
    lines = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return 200, {"Content-Type": kind}, lines.encode()


class Misbehaving:
    """A loopback server whose reply to ``METHOD /path`` the test chooses; everything else is answered 404."""

    def __init__(self, replies: dict[str, Reply | Callable[[dict[str, str]], Reply]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                found = replies.get(
                    f"{self.command} {self.path.split('?')[0]}", answer({"error": {"message": "?"}}, 404)
                )
                status, headers, body = found(dict(self.headers)) if callable(found) else found
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_OPTIONS = _any

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Misbehaving:
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()


USAGE = {"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 0}
MESSAGE = {
    "id": "chatcmpl-1", "type": "message", "role": "assistant", "model": "m",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": USAGE,
}  # fmt: skip
OPENING = {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}}
ERROR = {"type": "error", "code": 500, "message": "boom"}
CLOSING = (
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 1},
    },
    {"type": "message_stop"},
)
BLOCK = (
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
    {"type": "content_block_stop", "index": 0},
)
LIST = answer(
    {"data": [{"id": "claude-local", "status": {"value": "loaded"}}, {"id": "small", "status": {"value": "loaded"}}]}
)
SYSTEM = answer(
    {"error": {"message": "System message must be at the beginning", "type": "server_error", "code": 500}}, 500
)


def state(value: str, **more: Any) -> Reply:
    return answer({"data": [{"id": "claude-local", "status": {"value": value, **more}}]})


@pytest.mark.parametrize(
    ("name", "replies", "words"),
    [
        ("server.health", {"GET /health": answer({"error": {"message": "no"}}, 500)}, "HTTP 500: no"),
        ("server.key.wrong", {"GET /v1/models": LIST}, "HTTP 200 instead of 401"),
        ("server.key", {"GET /v1/models": answer({"error": {"message": "Invalid API Key"}}, 401)}, "Invalid API Key"),
        (
            "server.origin",
            {"GET /health": lambda h: answer({}, Access_Control_Allow_Origin=h["Origin"])},
            "GET /health from http://evil.example",
        ),
        (
            "server.origin",
            {"OPTIONS /v1/messages": answer({}, Access_Control_Allow_Origin="*")},
            "OPTIONS /v1/messages",
        ),
        ("server.model", {"GET /v1/models": answer({"data": []})}, "no profile claude-local"),
        (
            "server.model",
            {"GET /v1/models": state("unloaded", failed=True, exit_code=1), "POST /models/load": answer({})},
            "failed to load (llama-server exited with 1)",
        ),
        ("messages.plain", {"POST /v1/messages": SYSTEM}, "HTTP 500"),
        ("messages.plain", {"POST /v1/messages": answer(b"<html>")}, "not JSON"),
        ("messages.plain", {"POST /v1/messages": answer({"choices": []})}, "not a message"),
        ("messages.plain", {"POST /v1/messages": answer({**MESSAGE, "role": "user"})}, "not a message"),
        ("messages.plain", {"POST /v1/messages": answer({**MESSAGE, "content": []})}, "no text"),
        ("messages.stream", {"POST /v1/messages": sse(OPENING, *BLOCK, *CLOSING, kind="text/plain")}, "Content-Type"),
        ("messages.stream", {"POST /v1/messages": sse(*BLOCK, OPENING, *CLOSING)}, "not one whole message"),
        ("messages.stream", {"POST /v1/messages": sse(OPENING, *BLOCK)}, "not one whole message"),
        ("messages.stream", {"POST /v1/messages": sse(OPENING, *CLOSING)}, "no text"),
        (
            "messages.stream",
            {"POST /v1/messages": (200, {"Content-Type": "text/event-stream"}, b"event: ping\ndata: {")},
            "middle of an event",
        ),
        ("messages.stream", {"POST /v1/messages": sse(OPENING, ERROR)}, "reports an error"),
        ("messages.stream", {"POST /v1/messages": sse(OPENING, *BLOCK[1:], *CLOSING)}, "not a message"),
        ("messages.count", {"POST /v1/messages/count_tokens": answer({"tokens": 3})}, "input_tokens"),
        ("messages.count", {"POST /v1/messages/count_tokens": answer({"input_tokens": 3})}, "3 tokens for one word, 3"),
        ("messages.thinking", {"POST /v1/messages": answer([])}, "Content-Type"),
        ("messages.thinking", {"POST /v1/messages": sse(OPENING, *CLOSING)}, "neither thinking nor text"),
        ("messages.tool", {"POST /v1/messages": sse(OPENING, *BLOCK, *CLOSING)}, "no tool call in 2 attempts"),
        (
            "messages.mid-system.small",
            {"GET /v1/models": LIST, "POST /v1/messages": SYSTEM},
            "System message must be at the beginning",
        ),
        (
            "server.restored",
            {"GET /v1/models": state("unloaded", failed=True), "POST /models/load": answer({})},
            "failed to load",
        ),
    ],
)
def test_each_row_is_red_for_its_own_fault(tmp_path: Path, name: str, replies: dict[str, Any], words: str) -> None:
    with Misbehaving(replies) as server, bench_for(tmp_path, server.url) as bench:
        result = run([replace(row(bench, name), needs=())], bench, Silent())[0]
    assert result.status == "FAIL" and words in result.evidence
    assert result.fix


@pytest.mark.slow
def test_a_model_that_is_not_loaded_is_loaded_and_waited_for(tmp_path: Path) -> None:
    states = iter(["unloaded", "unloaded", "loading", "loaded", "loaded"])
    asked: list[dict[str, str]] = []

    def load(headers: dict[str, str]) -> Reply:
        asked.append(headers)
        return answer({"success": True})

    replies = {"GET /v1/models": lambda headers: state(next(states)), "POST /models/load": load}
    with Misbehaving(replies) as server, bench_for(tmp_path, server.url) as bench:
        assert row(bench, "server.restored").run(bench)
    assert len(asked) == 1 and asked[0]["Authorization"] == f"Bearer {TOKEN}"


def test_an_error_of_the_real_form_is_read(tmp_path: Path) -> None:
    with (
        ScriptedBackend([error(500, "boom")], models=MODELS, token=TOKEN) as backend,
        bench_for(tmp_path, backend.url) as b,
        pytest.raises(ServerError, match="HTTP 500: boom"),
    ):  # fmt: skip
        row(b, "messages.plain").run(b)


@pytest.fixture(autouse=True)
def no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A proxy and a cloud key in the environment must not matter to any of these rows."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    yield
