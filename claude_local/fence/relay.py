"""Carries connections from a session's network namespace to the few ports outside that it may reach."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from claude_local.fence.server_requests import RequestRefused

# Bytes that are read at once.
PIECE = 65536
# Seconds to wait for a connection outside.
CONNECT = 10.0
# Connections at once, over all ports. Each takes three descriptors, and a process often may have 1024.
CONNECTIONS = 256
_ROOM = threading.BoundedSemaphore(CONNECTIONS)
# Bytes of the largest head of a request.
HEAD = 65536


def closing(head: bytes) -> bytes:
    """A reply's head that tells the client that the connection is closed after it."""
    first, *lines = head.split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].lower() not in (b"connection", b"keep-alive")]
    return b"\r\n".join([first, b"Connection: close", *kept])


def carry(
    inside: socket.socket,
    outside: socket.socket,
    request: Callable[[bytes], bytes] | None = None,
    reply: Callable[[bytes], bytes] | None = None,
    first: bytes = b"",
) -> None:
    """Carry both directions, a thread each, until both have ended or one breaks; then close both.

    ``request``, ``reply``: change the first HTTP head of their direction; ``request`` may raise RequestRefused, and
    nothing passes without a head for it. ``first``: bytes already read from ``inside``.
    """
    with inside, outside:
        for end in (inside, outside):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers = threading.Thread(target=_carry, args=(outside, inside, reply), daemon=True)
        answers.start()
        try:
            _carry(inside, outside, request, first, must_have_head=True)
        except RequestRefused as refused:
            refuse(inside, refused.reply)
            _break(outside)
        answers.join()


def _carry(
    source: socket.socket,
    target: socket.socket,
    rewrite: Callable[[bytes], bytes] | None,
    first: bytes = b"",
    *,
    must_have_head: bool = False,
) -> None:
    """Carry one direction to its end. Where the other end is gone, both connections break."""
    try:
        if rewrite is not None:
            while (end := first.find(b"\r\n\r\n")) < 0 and len(first) < HEAD and (piece := source.recv(PIECE)):
                first += piece
            if end >= 0:
                first = rewrite(first[:end]) + first[end:]
            elif first and must_have_head:
                raise RequestRefused("something without a complete HTTP head")
        target.sendall(first)
        while piece := source.recv(PIECE):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        _break(source)
        _break(target)


def _break(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def refuse(inside: socket.socket, reply: bytes) -> None:
    """Send ``reply`` and close. What the client still sends is read: unread bytes would reset the connection, and the
    client would lose the reply."""
    with suppress(OSError):
        inside.settimeout(1)
        inside.sendall(reply)
        inside.shutdown(socket.SHUT_WR)
        for _ in range(256):
            if not inside.recv(PIECE):
                return


def answer(
    listener: socket.socket,
    handle: Callable[[socket.socket], None],
    room: threading.BoundedSemaphore = _ROOM,
) -> None:
    """Call ``handle`` with each connection to ``listener``, in a thread of its own, and close the connection
    afterwards.

    ``room``: one place for each connection; further connections wait. Returns at once; the threads end with the
    program.
    """

    def one(inside: socket.socket) -> None:
        try:
            with inside:
                handle(inside)
        finally:
            room.release()

    def serve() -> None:
        while True:
            room.acquire()
            try:
                inside, _ = listener.accept()
            except OSError:
                room.release()
                if listener.fileno() < 0:
                    return
                time.sleep(0.1)
                continue
            threading.Thread(target=one, args=(inside,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()


def relay(
    listener: socket.socket,
    address: tuple[str, int],
    room: threading.BoundedSemaphore = _ROOM,
    request: Callable[[bytes], bytes] | None = None,
) -> None:
    """Connect each connection to ``listener`` (in the session's network namespace) to ``address`` in ours. Returns at
    once.

    ``request``: see ``carry``.
    """

    def handle(inside: socket.socket) -> None:
        try:
            outside = socket.create_connection(address, timeout=CONNECT)
        except OSError:
            # Reset the connection, as a port does on which nothing listens.
            inside.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return
        carry(inside, outside, request)

    answer(listener, handle, room)
