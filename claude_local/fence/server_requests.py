"""Which requests to llama-server and to the management API leave a session.

To llama-server those of a client of a model: nothing that manages models, slots or the server. To the management API
those that read, the switch to another model, and what a session reports about itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial

# What a session may ask llama-server for, by method; with any query. Written exactly like this: no other spelling of a
# path passes.
_READ = frozenset({"/", "/health", "/v1/health", "/models", "/v1/models", "/props"})
_PATHS = {
    "GET": _READ,
    "HEAD": _READ,
    "POST": frozenset({
        "/v1/messages", "/v1/messages/count_tokens",
        "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/completion",
        "/tokenize", "/detokenize", "/apply-template",
    }),
}  # fmt: skip
_MANAGER_READ = frozenset({
    "/models", "/status", "/slots", "/sessions", "/logs", "/events", "/metrics", "/openapi.json",
})  # fmt: skip
_MANAGER_PATHS = {
    "GET": _MANAGER_READ,
    "HEAD": _MANAGER_READ,
    "POST": frozenset({"/switch", "/switch/cancel", "/sessions"}),
}
# The header that tells the management API which session asks: the process id in its record.
SESSION = "Claude-Local-Session"
_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.[01]")


class RequestRefused(Exception):
    """A request that must not leave the session. ``reply``: the whole HTTP answer to it."""

    def __init__(self, what: str, program: str = "llama-server") -> None:
        super().__init__(what)
        message = f"claude-local: a session may not ask {program} for {what} (docs/fence.md)"
        error = {"type": "error", "error": {"type": "permission_error", "message": message}}
        body = json.dumps(error).encode()
        self.reply = (
            b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n"
            b"\r\n%s" % (len(body), body)
        )


def filter_for(swap: tuple[bytes, bytes] | None) -> Callable[[bytes], bytes]:
    """What changes the head of a request to llama-server, or raises RequestRefused. ``swap``: see ``filtered``."""
    return partial(filtered, swap=swap)


def filtered(head: bytes, swap: tuple[bytes, bytes] | None) -> bytes:
    """A request's head as it may go to llama-server. Raises RequestRefused when the session must not make the request.

    It asks the server to close the connection after this request, because only a connection's first head is looked at.
    ``swap``: the session's stand-in for the token, and the token that takes its place.
    """
    first, lines = _allowed(head, _PATHS, "llama-server")
    kept = [first, b"Connection: close"]
    for line in lines:
        name, _, value = line.partition(b":")
        if swap is not None and name.lower() == b"authorization" and value.strip() == b"Bearer " + swap[0]:
            line = b"Authorization: Bearer " + swap[1]
        elif swap is not None and name.lower() == b"x-api-key" and value.strip() == swap[0]:
            line = b"x-api-key: " + swap[1]
        if name.strip().lower() not in (b"connection", b"keep-alive"):
            kept.append(line)
    return b"\r\n".join(kept)


def manager_filter(token: bytes | None, process: int) -> Callable[[bytes], bytes]:
    """What changes the head of a request to the management API, or raises RequestRefused. ``token``: the real one,
    which is put into a POST; a session knows none. What it reads is what everybody may read. ``process``: the
    process id in the session's record."""
    return partial(_manager_filtered, token=token, process=process)


def _manager_filtered(head: bytes, token: bytes | None, process: int) -> bytes:
    first, lines = _allowed(head, _MANAGER_PATHS, "the management API")
    session = SESSION.encode()
    ours = (b"connection", b"keep-alive", b"authorization", session.lower())
    kept = [line for line in lines if line.partition(b":")[0].strip().lower() not in ours]
    added = [b"Connection: close", session + b": %d" % process]
    if token and first.startswith(b"POST "):
        added.append(b"Authorization: Bearer " + token)
    return b"\r\n".join([first, *added, *kept])


def _allowed(head: bytes, paths: Mapping[str, frozenset[str]], program: str) -> tuple[bytes, list[bytes]]:
    """The request line and the other lines of a head. Raises RequestRefused for a request that is not in ``paths``."""
    first, *lines = head.split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(first)
    if request is None or re.search(rb"[\r\n\0]", b"".join([first, *lines])):
        raise RequestRefused(repr(first[:80].decode("ascii", "replace")), program)
    method, path = request[1].decode(), request[2].partition(b"?")[0].decode()
    if path not in paths.get(method, ()):
        raise RequestRefused(f"{method} {path[:80]}", program)
    return first, lines
