"""Carries connections from a session's network namespace to the few ports outside that it may reach."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from contextlib import suppress

# What is read at once, and what may wait for a slow reader, in bytes.
PIECE, WAITING = 65536, 1 << 20
# Seconds that a connection outside may take to come about.
CONNECT = 10.0
# Connections at once, of all ports: three descriptors each, and a process often has no more than 1024.
CONNECTIONS = 256
_ROOM = threading.BoundedSemaphore(CONNECTIONS)

# What a request's head may be, in bytes.
HEAD = 65536


def authorised(head: bytes, stand_in: bytes, token: bytes) -> bytes:
    """A request's head with the token in the place of the session's stand-in, for one request: it asks for the
    connection to be closed, because only the first head of a connection is looked at."""
    first, *lines = head.split(b"\r\n")
    kept = [first, b"Connection: close"]
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"authorization" and value.strip() == b"Bearer " + stand_in:
            line = b"Authorization: Bearer " + token
        elif name.lower() == b"x-api-key" and value.strip() == stand_in:
            line = b"x-api-key: " + token
        if name.lower() not in (b"connection", b"keep-alive"):
            kept.append(line)
    return b"\r\n".join(kept)


class _Way:
    """One direction of a connection: from ``source`` to ``target``."""

    def __init__(self, source: socket.socket, target: socket.socket, swap: tuple[bytes, bytes] | None = None) -> None:
        self.source, self.target = source, target
        self.waiting = bytearray()
        self.swap = swap  # until the first request's head is complete
        self.ended = False  # the source has said its last word
        self.closed = False  # and the target has been told

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
        if self.swap is not None:
            end = self.waiting.find(b"\r\n\r\n")
            if end < 0 and not self.ended and len(self.waiting) < HEAD:
                return
            if end >= 0:
                self.waiting[:end] = authorised(bytes(self.waiting[:end]), *self.swap)
            self.swap = None
        with suppress(BlockingIOError):
            while self.waiting:
                del self.waiting[: self.target.send(self.waiting)]
        if self.ended and not self.waiting and not self.closed:
            self.closed = True
            with suppress(OSError):
                self.target.shutdown(socket.SHUT_WR)


def _carry(inside: socket.socket, outside: socket.socket, swap: tuple[bytes, bytes] | None = None) -> None:
    """Carry both directions until both have ended or one breaks."""
    ways = (_Way(inside, outside, swap), _Way(outside, inside))
    with selectors.DefaultSelector() as selector, inside, outside:
        for end in (inside, outside):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not all(way.closed for way in ways):
            interest = {inside: 0, outside: 0}
            for way in ways:
                if not way.ended and len(way.waiting) < WAITING:
                    interest[way.source] |= selectors.EVENT_READ
                if way.waiting and way.swap is None:
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
                for way in ways:
                    way.write()
            except OSError:
                return


def _serve(
    listener: socket.socket,
    address: tuple[str, int],
    room: threading.BoundedSemaphore,
    swap: tuple[bytes, bytes] | None,
) -> None:
    def connect(inside: socket.socket) -> None:
        try:
            carry(inside)
        finally:
            room.release()

    def carry(inside: socket.socket) -> None:
        try:
            outside = socket.create_connection(address, timeout=CONNECT)
        except OSError:
            # As a port that nobody listens on: the connection is reset.
            inside.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            inside.close()
            return
        _carry(inside, outside, swap)

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
        threading.Thread(target=connect, args=(inside,), daemon=True).start()


def relay(
    listener: socket.socket,
    address: tuple[str, int],
    room: threading.BoundedSemaphore = _ROOM,
    swap: tuple[bytes, bytes] | None = None,
) -> None:
    """Answer ``listener`` (made in the session's network namespace) with connections to ``address`` in ours.

    ``room``: one place for each connection; without a place they wait. Returns at once; the threads are daemons and end
    with the program.
    """
    threading.Thread(target=_serve, args=(listener, address, room, swap), daemon=True).start()
