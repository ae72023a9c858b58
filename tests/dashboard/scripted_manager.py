"""A stand-in for the management API on loopback: it tells what the test gives it, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.manager.scripted_router import until

LOOK = 0.01


class ScriptedManager:
    """A context manager. ``status``, ``models``, ``slots``, ``sessions`` and ``log`` are what it tells; sessions None:
    404. ``posts``: path and body of each POST. ``answers``: path -> status and body of the answer to a POST."""

    def __init__(self, port: int = 0, **told: Any) -> None:
        self.status: dict[str, Any] = told.get("status", {})
        self.models: list[dict[str, Any]] = told.get("models", [])
        self.slots: list[dict[str, Any]] | None = told.get("slots")
        self.sessions: list[dict[str, Any]] | None = told.get("sessions")
        self.log: list[str] = told.get("log", [])
        self.posts: list[tuple[str, Any]] = []
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        routes = [Route("/{path}", self._get), Route("/{path:path}", self._post, methods=["POST"])]
        config = uvicorn.Config(
            Starlette(routes=routes), log_level="critical", timeout_graceful_shutdown=0, lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> ScriptedManager:
        self._thread.start()
        until(lambda: self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(5)
        with suppress(OSError):
            self._socket.close()

    async def _get(self, request: Request) -> Response:
        path = request.path_params["path"]
        self.asked.append(path)
        match path:
            case "events":
                return StreamingResponse(self._events(), media_type="text/event-stream")
            case "logs":
                return PlainTextResponse("".join(f"{line}\n" for line in self.log))
            case "models":
                return JSONResponse({"models": self.models})
            case "sessions" if self.sessions is not None:
                return JSONResponse({"sessions": self.sessions})
        return JSONResponse({"error": "Not Found"}, 404)

    async def _post(self, request: Request) -> Response:
        path = "/" + request.path_params["path"]
        self.posts.append((path, await request.json()))
        status, body = self.answers.get(path, (200, {}))
        return JSONResponse(body, status)

    async def _events(self) -> AsyncIterator[str]:
        told: dict[str, Any] = {}
        lines = len(self.log)
        while not self._server.should_exit:
            slots = None if self.slots is None else {"slots": self.slots}
            for name, data in (("status", self.status), ("metrics", slots)):
                if data is not None and json.dumps(data) != told.get(name):
                    told[name] = json.dumps(data)
                    yield f"event: {name}\ndata: {told[name]}\n\n"
            for line in self.log[lines:]:
                yield f"event: log\ndata: {json.dumps({'line': line})}\n\n"
            lines = len(self.log)
            await asyncio.sleep(LOOK)
