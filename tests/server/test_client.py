"""The HTTP client for llama-server: the token is sent, no proxy is used, and every failure is one plain line."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.server.client import BUSY, LlamaClient, Model, ServerError, read_sse

Reply = tuple[int, str, bytes]


@contextmanager
def serving(*replies: Reply) -> Iterator[tuple[LlamaClient, list[dict[str, str]]]]:
    """A loopback server that gives one reply after the other (status, content type, body), and the headers it got."""
    pending, headers = list(replies), list[dict[str, str]]()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers.append(dict(self.headers))
            status, kind, body = pending.pop(0)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _any

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield LlamaClient(f"http://127.0.0.1:{server.server_port}", "secret"), headers
    finally:
        server.shutdown()
        server.server_close()


def answer(value: Any, status: int = 200) -> Reply:
    return status, "application/json", json.dumps(value).encode()


def failure(client: LlamaClient, path: str = "/x", **more: Any) -> ServerError:
    with pytest.raises(ServerError) as caught:
        client.json("GET", path, **more)
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_token_is_sent_and_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serving(answer({"a": 1})) as (client, headers):
        assert client.json("GET", "/x") == {"a": 1}
    assert headers[0]["Authorization"] == "Bearer secret"


def test_an_http_error_has_its_status_and_the_servers_own_message() -> None:
    with serving(answer({"error": {"message": "Loading model"}}, 503)) as (client, _):
        error = failure(client)
    assert (error.reason, error.status) == ("status", 503) and "HTTP 503: Loading model" in str(error)


def test_a_body_that_is_not_json_is_an_error() -> None:
    with serving((200, "text/html", b"<html>")) as (client, _):
        assert failure(client).reason == "format"


def test_a_port_where_nothing_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert failure(LlamaClient(f"http://127.0.0.1:{port}")).reason == "refused"


def test_a_server_that_does_not_answer_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert failure(LlamaClient(f"http://127.0.0.1:{silent.getsockname()[1]}"), timeout=0.1).reason == "timeout"


def test_a_connection_that_ends_without_an_answer_is_broken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        threading.Thread(target=lambda: closing.accept()[0].close(), daemon=True).start()
        assert failure(LlamaClient(f"http://127.0.0.1:{closing.getsockname()[1]}")).reason == "broken"


def test_the_models_of_a_router_are_listed_with_their_status() -> None:
    small = {"id": "small", "aliases": ["claude-local"], "status": {"value": "loaded"}}
    listed = {"data": [small, {"id": "large", "aliases": [], "status": {"value": "unloaded"}}]}
    with serving(answer(listed), answer({"data": [{"id": "x"}]}), answer([])) as (client, _):
        assert client.router() == {
            "small": Model("small", "loaded", frozenset({"claude-local"})), "large": Model("large", "unloaded"),
        }  # fmt: skip
        for _ in range(2):
            with pytest.raises(ServerError, match="not llama-server in router mode"):
                client.router()


def test_a_load_is_accepted_or_waits_for_a_busy_model_or_fails() -> None:
    busy, running = {"error": {"message": BUSY}}, {"error": {"message": "already running"}}
    with serving(answer({}), answer(busy, 500), answer(running, 400), answer({}, 404)) as (client, _):
        assert [client.load("small") for _ in range(3)] == [True, False, True]
        with pytest.raises(ServerError):
            client.load("small")


@pytest.mark.parametrize("props", [{}, [], {"default_generation_settings": {"n_ctx": 0}}])
def test_a_context_window_is_a_positive_number(props: Any) -> None:
    with serving(answer({"default_generation_settings": {"n_ctx": 4096}}), answer(props)) as (client, _):
        assert client.context_window("small") == 4096
        with pytest.raises(ServerError):
            client.context_window("small")


def test_a_stream_is_read_to_its_end() -> None:
    good = (200, "text/event-stream", b': hi\nevent: ping\ndata: {"text": "\xe2\x98\x83"}\n\n')
    cut = (200, "text/event-stream", b"event: ping\ndata: {")
    with serving(good, cut, (200, "text/plain", b""), answer({}, 500)) as (client, _):
        assert client.events("/v1/messages", {}) == [("ping", {"text": "☃"})]
        for _ in range(3):
            with pytest.raises(ServerError):
                client.events("/v1/messages", {})


def test_comments_and_several_data_lines_are_read() -> None:
    lines = [":", "event: ping", 'data: {"type":', 'data: "ping"}', "", ": keep-alive", "id: 7", "retry: 5", ""]
    assert list(read_sse(lines)) == [("ping", {"type": "ping"})]


@pytest.mark.parametrize(
    "lines", [["data: {", ""], ["data: []", ""], ["nonsense", ""], ["data: {}"], ["event: ping"]], ids=str
)
def test_a_malformed_event_is_an_error(lines: list[str]) -> None:
    with pytest.raises(ServerError):
        list(read_sse(lines))


@given(st.lists(st.text(alphabet=st.characters(blacklist_characters="\n\r"))))
def test_any_lines_are_read_or_refused(lines: list[str]) -> None:
    try:
        list(read_sse(lines))
    except ServerError as error:
        assert str(error)
