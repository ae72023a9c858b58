"""A loopback server of verify's own: it answers everything with one line, and counts the connections."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from types import TracebackType

from claude_local.verify.checks import Failed


class PortTaken(Exception):
    """Another program already listens on the port."""


class Listener:
    """Listens on 127.0.0.1; a context manager. ``port`` 0: any free one. Answers any HTTP request with ``line``.

    ``connections`` counts them, whatever was sent. Raises PortTaken when another program listens on the port.
    """

    def __init__(self, line: str, port: int = 0) -> None:
        body = line.encode() + b"\n"
        self._answer = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        ) + body
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("127.0.0.1", port))
        except OSError as error:
            self._socket.close()
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(port) from None
            raise Failed(f"verify cannot listen on 127.0.0.1:{port}: {error.strerror}") from None
        self._socket.listen(16)
        self.port: int = self._socket.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._reply, args=(connection,), daemon=True).start()

    def _reply(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            with contextlib.suppress(OSError):
                if connection.recv(65536):
                    connection.sendall(self._answer)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        # Closing alone does not wake a thread that waits in accept.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
