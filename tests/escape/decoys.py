"""The targets of attempts: listeners that record what they receive, and processes outside that can be changed."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nyes\n"


class Listeners:
    """Sockets that accept anything; ``heard`` holds (name of the listener, first bytes) of each connection."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._sockets: list[socket.socket] = []

    def tcp(self, name: str, address: str, port: int = 0) -> int:
        """Listen on ``address``; the port."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = socket.create_server((address, port), family=family)
        self._serve(name, made)
        return int(made.getsockname()[1])

    def unix(self, name: str, path: str, uid: int = -1) -> None:
        """Listen on a path, or on an abstract name (``path`` begins with a null byte)."""
        made = socket.socket(socket.AF_UNIX)
        made.bind(path)
        made.listen()
        if not path.startswith("\0"):
            Path(path).chmod(0o666)
        self._serve(name, made)

    def udp(self, name: str, address: str, port: int = 0) -> int:
        """Receive datagrams on ``address``; the port."""
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, port))
        self._sockets.append(made)
        threading.Thread(target=self._datagrams, args=(name, made), daemon=True).start()
        return int(made.getsockname()[1])

    def close(self) -> None:
        for each in self._sockets:
            each.close()

    def find(self, *words: str, but: str = "") -> str | None:
        """The listener, other than ``but``, that received all of ``words`` in one connection."""
        for name, said in list(self.heard):
            if name != but and all(each.encode() in said for each in words):
                return f"{name} heard it"
        return None

    def reached(self, name: str) -> str | None:
        """Whether anybody connected to the listener ``name``."""
        return next((f"{name}: connected, {said[:24]!r}" for who, said in list(self.heard) if who == name), None)

    def _serve(self, name: str, made: socket.socket) -> None:
        self._sockets.append(made)
        threading.Thread(target=self._accept, args=(name, made), daemon=True).start()

    def _accept(self, name: str, made: socket.socket) -> None:
        while True:
            try:
                peer, _ = made.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(name, peer), daemon=True).start()

    def _answer(self, name: str, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            peer.settimeout(1.0)
            said = b""
            with contextlib.suppress(TimeoutError):
                while b"\r\n\r\n" not in said and len(said) < 20000 and (piece := peer.recv(4096)):
                    said += piece
            self.heard.append((name, said))
            if b" /redirect/" in said:
                to = said.split(b" /redirect/", 1)[1].split(b" ", 1)[0]
                peer.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://%s\r\nContent-Length: 0\r\n\r\n" % to)
            else:
                peer.sendall(REPLY)

    def _datagrams(self, name: str, made: socket.socket) -> None:
        while True:
            try:
                self.heard.append((name, made.recv(4096)))
            except OSError:
                return
