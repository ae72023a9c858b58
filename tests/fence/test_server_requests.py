"""Which requests to llama-server leave a session."""

from __future__ import annotations

import pytest

from claude_local.fence.server_requests import RequestRefused, filtered, manager_filter

SWAP = (b"stand-in", b"token")


@pytest.mark.parametrize(
    "line",
    [
        "POST /v1/messages?beta=true HTTP/1.1", "POST /v1/messages/count_tokens HTTP/1.1", "GET /v1/models HTTP/1.1",
        "GET /props?model=claude-local HTTP/1.1", "GET /health HTTP/1.0", "HEAD / HTTP/1.1",
        "POST /v1/chat/completions HTTP/1.1",
    ],
)  # fmt: skip
def test_a_client_of_a_model_gets_what_it_needs(line: str) -> None:
    head = f"{line}\r\nAuthorization: Bearer stand-in\r\nConnection: keep-alive".encode()
    assert filtered(head, SWAP) == f"{line}\r\nConnection: close\r\nAuthorization: Bearer token".encode()


@pytest.mark.parametrize(
    "line",
    [
        "POST /models HTTP/1.1", "POST /models/load HTTP/1.1", "POST /models/unload HTTP/1.1",
        "DELETE /models HTTP/1.1",
        "POST /props HTTP/1.1", "GET /slots HTTP/1.1", "POST /slots/0?action=save HTTP/1.1",
        "POST /lora-adapters HTTP/1.1", "GET /metrics HTTP/1.1", "POST /v1/models HTTP/1.1",
        "POST //models HTTP/1.1", "POST /v1/../models HTTP/1.1", "POST /v1/messages/../../models HTTP/1.1",
        "POST /%6dodels HTTP/1.1", "POST http://127.0.0.1/models HTTP/1.1", "GET /v1/messages HTTP/1.1",
        "post /models HTTP/1.1", "POST  /v1/messages HTTP/1.1", "POST /v1/messages", "PRI * HTTP/2.0",
        "POST /v1/messages HTTP/1.1\nPOST /models HTTP/1.1", "POST /v1/messages#x HTTP/1.1",
        "POST /v1/messages HTTP/1.1\r\nX: y\nz", "",
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_anthropics_shape(line: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        filtered(line.encode() + b"\r\nAuthorization: Bearer stand-in", SWAP)
    head, _, body = refused.value.reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 ") and b'{"type": "error", "error": {"type": "permission_error"' in body


@pytest.mark.parametrize(
    ("line", "with_token"),
    [("GET /status HTTP/1.1", False), ("GET /logs?lines=5 HTTP/1.1", False), ("POST /switch HTTP/1.1", True)],
)
def test_a_session_switches_the_model_without_knowing_the_token_and_reads_without_it(
    line: str, with_token: bool
) -> None:
    head = f"{line}\r\nHost: 127.0.0.1:8081\r\nAuthorization: Bearer stand-in\r\nConnection: keep-alive".encode()
    assert manager_filter(b"token", 42)(head).split(b"\r\n") == [
        line.encode(), b"Connection: close", b"Claude-Local-Session: 42",
        *([b"Authorization: Bearer token"] if with_token else []), b"Host: 127.0.0.1:8081",
    ]  # fmt: skip


def test_a_session_cannot_pass_for_another_one() -> None:
    head = manager_filter(b"token", 42)(b"POST /sessions HTTP/1.1\r\nclaude-local-session: 7")
    assert b": 42\r\n" in head and b"7" not in head


@pytest.mark.parametrize("line", ["POST /stop HTTP/1.1", "POST /start HTTP/1.1", "POST /models/load HTTP/1.1", "x"])
def test_a_session_does_not_stop_the_server(line: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        manager_filter(b"token", 42)(line.encode())
    assert b"the management API" in refused.value.reply
