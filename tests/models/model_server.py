"""A loopback file server and model hub that can fail in the ways real ones do."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Metadata = tuple[int, dict[str, str]]


class Handler(BaseHTTPRequestHandler):
    """Answers GET by the server's behaviours and HEAD by its metadata."""

    protocol_version = "HTTP/1.1"
    server: ModelServer

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        behaviour = self.server.behaviours.get(self.path.split("?")[0])
        if behaviour is None:
            self.answer(404, b"not here", {"Content-Type": "text/plain"})
        else:
            behaviour(self)

    def do_HEAD(self) -> None:
        self.server.heads.append((self.path, self.headers.get("Authorization")))
        path = self.path.split("?")[0]
        answer = self.server.metadata.get(path, (405 if path in self.server.behaviours else 404, {}))
        status, headers = answer() if callable(answer) else answer
        self.answer(status, b"", headers)

    def answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, promised: int | None = None
    ) -> None:
        """Send ``body`` but promise ``promised`` bytes; a shorter body is a cut connection."""
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if promised is None else promised))
        self.end_headers()
        self.server.sent += len(body)
        self.wfile.write(body)
        if promised is not None and promised != len(body):
            self.wfile.flush()
            self.close_connection = True

    def start(self) -> int:
        """The first byte asked for."""
        return self.span()[0]

    def span(self) -> tuple[int, int | None]:
        """The first byte asked for and the one after the last; None: up to the end."""
        first, _, last = (self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")
        return int(first), int(last) + 1 if last else None


class ModelServer(ThreadingHTTPServer):
    """A server on loopback; a context manager. ``requests``: path, Range and Authorization of each GET."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None, str | None]] = []
        # HEAD requests: path and Authorization. ``metadata`` has their answers; without one a server knows no HEAD.
        self.heads: list[tuple[str, str | None]] = []
        self.metadata: dict[str, Metadata | Callable[[], Metadata]] = {}
        # Bytes of bodies that were sent.
        self.sent = 0
        self.behaviours: dict[str, Callable[[Handler], None]] = {}
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    def __enter__(self) -> ModelServer:
        self.thread.start()
        return self

    def __exit__(self, *arguments: Any) -> None:
        self.shutdown()
        self.thread.join(10)
        self.server_close()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of each GET."""
        return [header for _, header, _ in self.requests]


def linked(sha256: str, size: int, location: str = "https://elsewhere.invalid/x", **more: str) -> Metadata:
    """A hub's answer to HEAD for a big file: what it is, and a redirect to where its bytes are."""
    headers = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(size), "X-Repo-Commit": "0" * 40}
    return 302, {**headers, "Location": location, **more}


def whole(
    content: bytes, *, cut: list[int] | None = None, resumable: bool = True, headers: dict[str, str] | None = None
) -> Callable[[Handler], None]:
    """Serve ``content`` with ranges; the first ``len(cut)`` answers end after so many bytes of the rest.

    ``headers`` come with each answer.
    """
    cuts = list(cut or [])

    def behave(handler: Handler) -> None:
        start, end = handler.span() if resumable else (0, None)
        if start >= len(content) > 0:
            handler.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        rest = content[start:end]
        sent = rest[: cuts.pop(0)] if cuts else rest
        if start or end is not None:
            span = f"bytes {start}-{start + len(rest) - 1}/{len(content)}"
            handler.answer(206, sent, {"Content-Range": span, **(headers or {})}, promised=len(rest))
        else:
            handler.answer(200, sent, headers, promised=len(rest))

    return behave


def sparse(path: Path) -> Callable[[Handler], None]:
    """Serve a file of any size with ranges, by sendfile: holes are read, never held in memory."""

    def behave(handler: Handler) -> None:
        start = handler.start()
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            handler.send_response(206 if start else 200)
            if start:
                handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            handler.send_header("Content-Length", str(size - start))
            handler.end_headers()
            handler.wfile.flush()
            while start < size:
                count = os.sendfile(handler.connection.fileno(), file.fileno(), start, min(size - start, 1 << 24))
                handler.server.sent += count
                start += count

    return behave
