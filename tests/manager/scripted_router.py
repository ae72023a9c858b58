"""A stand-in for llama-server's router with a few places for models: loads take time, can fail, can be kept waiting."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

# Seconds that a load takes unless the test says otherwise.
LOAD = 0.3


class ScriptedRouter:
    """A context manager. ``url``; ``models``: name -> entry of GET /v1/models; ``fails``: models that do not load;
    ``missing``: models without their file; ``evicted``: models that lose their place once, right after their load;
    ``busy``: a model that answers a request and cannot be unloaded; ``asked``: the bodies of POST /models/load;
    ``loads``: the models whose load began; ``metrics``: the answer to GET /metrics; ``slots_asked``: GET /slots;
    ``windows``: in tokens. ``at_once``: the places."""

    def __init__(self, *names: str, load_seconds: float = LOAD, at_once: int = 1) -> None:
        self.models: dict[str, dict[str, Any]] = {
            name: {"id": name, "aliases": [], "status": {"value": "unloaded"}} for name in names
        }
        self.load_seconds = load_seconds
        self.unload_seconds = 0.0
        self.at_once = at_once
        self.fails: set[str] = set()
        self.missing: set[str] = set()
        self.evicted: set[str] = set()
        self.loads: list[str] = []
        self.metrics = "llamacpp:requests_processing 1\n"
        self.slots_asked = 0
        self.reads = True
        self.busy: str | None = None
        self.windows = {name: 1000 * len(name) for name in names}
        self.asked: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> ScriptedRouter:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.shutdown()
        self.close()

    def close(self) -> None:
        """Nothing listens any more."""
        self._server.server_close()

    def state(self, name: str) -> str:
        return str(self.models[name]["status"]["value"])

    def alias(self) -> str:
        """The model that ``claude-local`` means."""
        return next((name for name, entry in self.models.items() if "claude-local" in entry["aliases"]), "")

    def _load(self, body: dict[str, Any]) -> tuple[int, Any]:
        self.asked.append(body)
        name = body["model"]
        if name not in self.models:
            return 404, {"error": {"message": "model is not found"}}
        if name in self.missing and body.get("load") is not False:
            return 500, {"error": {"message": f"the file {name}.gguf is missing"}}
        with self._lock:
            for other, entry in self.models.items():
                entry["aliases"] = [body["alias"]] if other == name else []
            if body.get("load") is False or self.state(name) != "unloaded":
                return 200, {"success": True}
            held = [other for other in self.models if self.state(other) != "unloaded"]
            if len(held) >= self.at_once:
                idle = [other for other in held if other != self.busy]
                if not idle:
                    return 500, {"error": {"message": "model limit reached, try again later"}}
                time.sleep(self.unload_seconds)
                self.models[min(idle, key=self._last_load)]["status"] = {"value": "unloaded"}
            self.models[name]["status"] = {"value": "loading", "progress": {"value": 0.5}}
            self.loads.append(name)
        threading.Timer(self.load_seconds, self._loaded, [name]).start()
        return 200, {"success": True}

    def _last_load(self, name: str) -> int:
        return max((number for number, each in enumerate(self.loads) if each == name), default=-1)

    def _loaded(self, name: str) -> None:
        with self._lock:
            failed = name in self.fails
            if name in self.evicted:
                self.evicted.remove(name)
                self.models[name]["status"] = {"value": "unloaded"}
                return
            self.models[name]["status"] = (
                {"value": "unloaded", "failed": True, "exit_code": 1} if failed else {"value": "loaded"}
            )

    def _answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        match method, path:
            case "GET", "/v1/models":
                return 200, {"data": list(self.models.values())}
            case "POST", "/models/load":
                return self._load(body)
            case "POST", "/models/unload":
                self.models[body["model"]]["status"] = {"value": "unloaded"}
                return 200, {"success": True}
            case "GET", "/props" if not query:
                return 200, {"role": "router", "max_instances": self.at_once}
            case "GET", "/props":
                return 200, {"default_generation_settings": {"n_ctx": self.windows[query["model"][0]]}}
            case "GET", "/slots":
                self.slots_asked += 1
                return 200, [
                    {"id": 0, "is_processing": self.reads, "n_prompt_tokens": 100, "n_prompt_tokens_processed": 40}
                ]
            case "GET", "/metrics":
                return 200, self.metrics
        return 404, {"error": {"message": "no such path"}}

    def _handler(router) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = urlsplit(self.path)
                body = json.loads(text) if text else None
                status, data = router._answer(self.command, parts.path, parse_qs(parts.query), body)
                reply = (data if isinstance(data, str) else json.dumps(data)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            do_GET = do_POST = _any

            def log_message(self, format: str, *args: Any) -> None: ...

        return Handler


def until(condition: Any, seconds: float = 60.0) -> None:
    """Wait until ``condition()`` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.02)
