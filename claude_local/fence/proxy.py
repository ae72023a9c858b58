"""The HTTP proxy through which a session's commands reach llama-server and the ports of ``fence_ports``.

Claude Code starts a proxy of its own when the settings name none, and its first request waits for that
(docs/decisions/0007). Its own knows domains, prompts and certificates. Where only ports of this machine are allowed (no
``fence_domains``), this one takes its place. It listens in the session's network namespace and connects outside, to
127.0.0.1 and an allowed port only, whatever name it is asked for.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from claude_local.fence.relay import CONNECT, HEAD, PIECE, answer, carry, closing, refuse

# The names of this machine in a request, as in the session's settings.
HOSTS = ("127.0.0.1", "localhost")

# What a SOCKS 5 server says that accepts no method (RFC 1928): what is reached here is reached through HTTP too.
_NO_SOCKS = b"\5\xff"


class _Denied(Exception):
    """A request that is refused. ``status``: the HTTP status."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


# What changes the head of a request (relay.carry), by port.
Filters = Mapping[int, Callable[[bytes], bytes]]


@dataclass(frozen=True)
class _Rules:
    """What ``proxy`` was told."""

    ports: Collection[int]
    filters: Filters
    refused: Callable[[str, int], None]


def proxy(
    listener: socket.socket,
    ports: Collection[int],
    filters: Filters | None = None,
    refused: Callable[[str, int], None] = lambda host, port: None,
) -> None:
    """Serve ``listener`` (in the session's network namespace) as a proxy to ``ports`` of this machine. Returns at
    once. ``filters``: a port with one is reached with such requests only, also through CONNECT. ``refused``
    is called with each host and port that is not allowed, before the client knows."""
    answer(listener, partial(_answer, rules=_Rules(frozenset(ports), filters or {}, refused)))


def request(head: bytes) -> tuple[str, int, bytes]:
    """The host and port that a proxy request asks for, and the head to send there, which is empty for CONNECT.

    The head asks the server to close the connection: the next request may be for another server. Raises ValueError when
    this is no proxy request.
    """
    first, *lines = head.split(b"\r\n")
    method, target, version = first.split(b" ")
    if method == b"CONNECT":
        return *_place(target, 443), b""
    if not target.lower().startswith(b"http://"):
        raise ValueError("an address that begins with http:// is missing")
    authority, _, path = target[len(b"http://") :].partition(b"/")
    if b"?" in authority or b"#" in authority:
        raise ValueError("a path is missing")
    hop_by_hop = (b"host", b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization")
    kept = [line for line in lines if line.partition(b":")[0].strip().lower() not in hop_by_hop]
    own = [b" ".join((method, b"/" + path, version)), b"Host: " + authority, b"Connection: close"]
    return *_place(authority, 80), b"\r\n".join([*own, *kept])


def _place(authority: bytes, usual: int) -> tuple[str, int]:
    host, colon, port = authority.decode("ascii").rpartition(":")
    if not colon:
        return port, usual
    if not (port.isdigit() and len(port) < 6):
        raise ValueError("the port is no number")
    return host, int(port)


def _answer(inside: socket.socket, rules: _Rules) -> None:
    inside.settimeout(CONNECT)
    with suppress(OSError, EOFError):
        data = _more(inside, b"", 1)
        if data[:1] == b"\5":
            refuse(inside, _NO_SOCKS)
        else:
            _answer_http(inside, data, rules)


def _more(inside: socket.socket, data: bytes, size: int) -> bytes:
    """``data`` and what follows it, at least ``size`` bytes. Raises EOFError at the end of the stream."""
    while len(data) < size:
        piece = inside.recv(PIECE)
        if not piece:
            raise EOFError
        data += piece
    return data


def _connected(host: str, port: int, rules: _Rules) -> socket.socket:
    here = host.lower() in HOSTS
    if not here or port not in rules.ports:
        rules.refused(host, port)
        setting = "fence_ports" if here else "fence_domains"
        why = f"this session may not reach {host}:{port}; the setting {setting} allows it"
        raise _Denied("403 Forbidden", why)
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=CONNECT)
    except OSError as error:
        raise _Denied("502 Bad Gateway", f"nothing answers at {host}:{port} ({error.strerror})") from None


def _answer_http(inside: socket.socket, data: bytes, rules: _Rules) -> None:
    while (end := data.find(b"\r\n\r\n")) < 0 and len(data) < HEAD:
        data = _more(inside, data, len(data) + 1)
    try:
        try:
            host, port, head = request(data[: max(end, 0)])
        except ValueError as error:
            raise _Denied("400 Bad Request", f"this is no proxy request: {error}") from None
        outside = _connected(host, port, rules)
    except _Denied as denied:
        words = f"claude-local: {denied.why}\n".encode("ascii", "replace")
        refuse(inside, b"HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
               % (denied.status.encode(), len(words), words))  # fmt: skip
        return
    if head:
        carry(inside, outside, rules.filters.get(port), closing, head + data[end:])
    else:
        inside.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        carry(inside, outside, rules.filters.get(port), first=data[end + 4 :])
