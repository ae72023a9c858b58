"""Carries connections from a session's network namespace to the few ports outside that it may reach."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from claude_local.fence.server_requests import RequestRefused

# Bytes that are read at once, and bytes that may wait for a slow reader.
PIECE, WAITING = 65536, 1 << 20
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


class _Way:
    """One direction of a connection, from ``source`` to ``target``. ``rewrite``: changes the first head.
    ``must_have_head``: nothing passes without one."""

    def __init__(
        self,
        source: socket.socket,
        target: socket.socket,
        rewrite: Callable[[bytes], bytes] | None = None,
        *,
        must_have_head: bool = False,
    ) -> None:
        self.source, self.target = source, target
        self.must_have_head = must_have_head
        self.waiting = bytearray()
        self.rewrite = rewrite  # until the first head is complete
        self.ended = False  # the source sends no more
        self.closed = False  # and the target knows

    def read(self) -> None:
        try:
            piece = self.source.recv(PIECE)
        except BlockingIOError:
            return
        if piece:
            self.waiting += piece
        else:
            self.ended = True

    def write(self) -> None:
        if self.rewrite is not None:
            end = self.waiting.find(b"\r\n\r\n")
            if end < 0 and not self.ended and len(self.waiting) < HEAD:
                return
            if end >= 0:
                self.waiting[:end] = self.rewrite(bytes(self.waiting[:end]))
            elif self.must_have_head and self.waiting:
                raise RequestRefused("something without a complete HTTP head")
            self.rewrite = None
        with suppress(BlockingIOError):
            while self.waiting:
                del self.waiting[: self.target.send(self.waiting)]
        if self.ended and not self.waiting and not self.closed:
            self.closed = True
            with suppress(OSError):
                self.target.shutdown(socket.SHUT_WR)


def carry(
    inside: socket.socket,
    outside: socket.socket,
    request: Callable[[bytes], bytes] | None = None,
    reply: Callable[[bytes], bytes] | None = None,
    first: bytes = b"",
) -> None:
    """Carry both directions until both have ended or one breaks.

    ``request``, ``reply``: change the first HTTP head of their direction; ``request`` may raise RequestRefused, and
    nothing passes without a head for it. ``first``: bytes already read from ``inside``.
    """
    ways = (_Way(inside, outside, request, must_have_head=True), _Way(outside, inside, reply))
    ways[0].waiting += first
    with selectors.DefaultSelector() as selector, inside, outside:
        for end in (inside, outside):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                for way in ways:
                    way.write()
                if all(way.closed for way in ways):
                    return
            except RequestRefused as refused:
                _refuse(inside, refused.reply)
                return
            except OSError:
                return
            interest = {inside: 0, outside: 0}
            for way in ways:
                if not way.ended and len(way.waiting) < WAITING:
                    interest[way.source] |= selectors.EVENT_READ
                if way.waiting and way.rewrite is None:
                    interest[way.target] |= selectors.EVENT_WRITE
            for end, events in interest.items():
                known = selector.get_map().get(end)
                if known is None and events:
                    selector.register(end, events)
                elif known is not None and not events:
                    selector.unregister(end)
                elif known is not None and known.events != events:
                    selector.modify(end, events)
            try:
                for key, events in selector.select():
                    for way in ways:
                        if way.source is key.fileobj and events & selectors.EVENT_READ:
                            way.read()
            except OSError:
                return


def _refuse(inside: socket.socket, reply: bytes) -> None:
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
