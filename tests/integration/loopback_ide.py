"""An IDE as the VS Code extension is one to Claude Code: a WebSocket MCP server on loopback with a lock file."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

HEADER = "x-claude-code-ide-authorization"
DIAGNOSTIC = "the loopback IDE says: line 3 is wrong"
TOOLS = [
    {
        "name": "getDiagnostics",
        "description": "Get language diagnostics from the editor",
        "inputSchema": {"type": "object", "properties": {"uri": {"type": "string"}}},
    },
    {
        "name": "openDiff",
        "description": "Open a diff",
        "inputSchema": {"type": "object", "properties": {"old_file_path": {"type": "string"}}},
    },
]


class LoopbackIde:
    """A WebSocket MCP server on a port of its own; a context manager.

    ``refused`` counts connections without the right token, ``methods`` are the JSON-RPC methods of authorised ones in
    order, ``calls`` the names of the tools that were called.
    """

    def __init__(self, name: str = "Visual Studio Code") -> None:
        self.name = name
        self.token = secrets.token_hex(16)
        self.refused = 0
        self.methods: list[str] = []
        self.calls: list[str] = []
        self._server: Server = serve(
            self._talk, "127.0.0.1", 0, process_request=self._admit, subprotocols=[Subprotocol("mcp")], compression=None
        )
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="loopback-ide", daemon=True)

    def lock(self, workspaces: Sequence[Path], pid: int | None = None) -> str:
        """What the extension writes into PORT.lock; ``pid`` is the editor's, by default one that is alive."""
        return json.dumps(
            {
                "pid": pid or os.getpid(),
                "workspaceFolders": [str(path) for path in workspaces],
                "ideName": self.name,
                "transport": "ws",
                "runningInWindows": False,
                "authToken": self.token,
            }
        )

    def __enter__(self) -> LoopbackIde:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join(timeout=5)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.headers.get(HEADER) == self.token:
            return None
        self.refused += 1
        return connection.respond(HTTPStatus.UNAUTHORIZED, "no\n")

    def _talk(self, connection: ServerConnection) -> None:
        for raw in connection:
            message: dict[str, Any] = json.loads(raw)
            method = message.get("method")
            if method is None:
                continue
            self.methods.append(method)
            if "id" in message:
                answer = self._answer(method, message.get("params") or {})
                connection.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}))

    def _answer(self, method: str, given: dict[str, Any]) -> dict[str, Any]:
        if method == "initialize":
            return {
                "result": {
                    "protocolVersion": given["protocolVersion"],
                    "capabilities": {"tools": {"listChanged": True}},
                    "serverInfo": {"name": self.name, "version": "1"},
                }
            }
        if method == "tools/list":
            return {"result": {"tools": TOOLS}}
        if method == "tools/call":
            self.calls.append(given["name"])
            return {"result": {"content": [{"type": "text", "text": DIAGNOSTIC}]}}
        return {"error": {"code": -32601, "message": f"there is no method {method}"}}
