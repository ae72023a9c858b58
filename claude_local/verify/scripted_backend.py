"""A stand-in for llama-server that speaks the Messages API on loopback and replays a fixed script.

It answers the n-th main request with the n-th turn of its script, whatever the request says, and records all requests.
It drives the real Claude Code through the real wrapper and fences without a model; the files on disk are the evidence.
As a program it serves shell tests::

    python -m claude_local.verify.scripted_backend --script turns.json --port 0 --record requests.jsonl

A script is a JSON list of turns (or ``{"n_ctx": 32768, "turns": [...]}``); a turn is one block or a list of blocks; a
block is ``{"type": "text", "text": "..."}``, ``{"type": "tool_use", "name": "Write", "input": {...}}``,
``{"type": "thinking", "thinking": "..."}`` or, alone, ``{"type": "error", "status": 500, "message": "..."}``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TypeAlias

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Block: TypeAlias = dict[str, Any]
Turn: TypeAlias = Block | Sequence[Block]

BLOCK_TYPES = ("text", "tool_use", "thinking", "error")
AFTER_THE_SCRIPT = "The script is finished."
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class ScriptError(ValueError):
    """A script that cannot be replayed; the message names the turn and its fault."""


def text(content: str) -> Block:
    """A block of plain text."""
    return {"type": "text", "text": content}


def thinking(content: str) -> Block:
    """A block of thinking."""
    return {"type": "thinking", "thinking": content}


def tool_use(name: str, arguments: dict[str, Any]) -> Block:
    """A call of the tool ``name``; the id is made when the turn is played."""
    return {"type": "tool_use", "name": name, "input": arguments}


def error(status: int, message: str, kind: str = "api_error") -> Block:
    """A turn that answers with an HTTP error in llama-server's form."""
    return {"type": "error", "status": status, "message": message, "kind": kind}


def parse_script(raw: Any) -> tuple[list[Turn], int | None]:
    """The turns of a decoded script file and its ``n_ctx`` in tokens, if it names one. Raises ScriptError."""
    n_ctx = None
    if isinstance(raw, dict):
        n_ctx = raw.get("n_ctx")
        if n_ctx is not None and not (isinstance(n_ctx, int) and n_ctx > 0):
            raise ScriptError(f"n_ctx is {n_ctx!r}; it must be a positive number of tokens")
        raw = raw.get("turns")
    if not isinstance(raw, list):
        raise ScriptError('a script is a list of turns, or {"n_ctx": 32768, "turns": [...]}')
    for number, turn in enumerate(raw, 1):
        _blocks(turn, f"turn {number}")
    return raw, n_ctx


def _blocks(turn: Turn, where: str) -> list[Block]:
    blocks = [turn] if isinstance(turn, dict) else list(turn) if isinstance(turn, list | tuple) else None
    if not blocks:
        raise ScriptError(f"{where}: {turn!r} is neither a block nor a list of blocks")
    for block in blocks:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind not in BLOCK_TYPES:
            raise ScriptError(f"{where}: {block!r} is not a block; its type must be one of {', '.join(BLOCK_TYPES)}")
        if kind == "tool_use" and not (isinstance(block.get("name"), str) and isinstance(block.get("input"), dict)):
            raise ScriptError(f"{where}: a tool_use block needs a name and an input object, found {block!r}")
        if kind in ("text", "thinking") and not isinstance(block.get(kind), str):
            raise ScriptError(f"{where}: a {kind} block needs a string under {kind!r}, found {block!r}")
        if kind == "error" and (len(blocks) > 1 or not isinstance(block.get("status"), int)):
            raise ScriptError(f"{where}: an error stands alone in its turn and needs a status, found {blocks!r}")
    return blocks


def is_background(body: Any) -> bool:
    """Whether a ``/v1/messages`` body is one of Claude Code's side requests, which take no turn of a script.

    2.1.330 sends them when non-essential traffic is on: a quota probe (``max_tokens`` 1) and a title request
    (``output_config.format`` is a JSON schema with a ``title``); neither carries tools.
    """
    if not isinstance(body, dict) or body.get("tools"):
        return False
    if body.get("max_tokens") == 1:
        return True
    output_format = (body.get("output_config") or {}).get("format") or {}
    return "title" in ((output_format.get("schema") or {}).get("properties") or {})


def estimate_tokens(body: Any) -> int:
    """Tokens of a request, at four characters a token: only a number that grows with the prompt."""
    if not isinstance(body, dict):
        return 1
    counted = {key: body[key] for key in ("system", "messages", "tools") if key in body}
    return max(1, len(json.dumps(counted, ensure_ascii=False)) // 4)


class ScriptedBackend:
    """A loopback server that replays ``turns``; a context manager.

    ``n_ctx``: the context window that it reports, in tokens. ``models``: the names that it knows; it answers 400 for
    others, as llama-server's router does (None: it knows every name). ``token``: it answers 401 without it (None: no
    check). ``loading``: it answers so many requests with 503 "Loading model" first. ``record``: a file that gets one
    JSON line a request. ``port`` 0: any free one.

    ``requests`` has ``{"method", "path", "query", "headers", "body"}`` of each request, header names in lower case,
    ``body`` decoded if it is JSON. Raises ScriptError for a bad script, OSError when the port is taken.
    """

    def __init__(
        self,
        turns: Sequence[Turn] = (),
        n_ctx: int = 32768,
        *,
        models: Sequence[str] | None = None,
        token: str | None = None,
        loading: int = 0,
        port: int = 0,
        record: str | Path | None = None,
    ) -> None:
        self.turns = [_blocks(turn, f"turn {number}") for number, turn in enumerate(turns, 1)]
        self.n_ctx = n_ctx
        self.models = list(models) if models is not None else None
        self.token = token
        self.requests: list[dict[str, Any]] = []
        self.played = 0
        self._loading = loading
        self._made = 0
        self._record = Path(record) if record is not None else None
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", port), backlog=64)
        self.port: int = self._socket.getsockname()[1]
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=METHODS)])
        config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="scripted-backend", daemon=True
        )

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def main_requests(self) -> list[dict[str, Any]]:
        """The recorded requests that took a turn of the script, in order."""
        return [r for r in self.requests if _is_messages(r["method"], r["path"]) and not is_background(r["body"])]

    def start(self) -> ScriptedBackend:
        """Begin to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop answering, and free the port."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self._socket.close()

    def __enter__(self) -> ScriptedBackend:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    async def _answer(self, request: Request) -> Response:
        raw = await request.body()
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = raw.decode("utf-8", "replace")
        path = request.url.path
        self._keep(request, body)
        if self._loading > 0:
            self._loading -= 1
            return _refusal(503, "Loading model", "unavailable_error")
        if request.method == "GET" and path in ("/health", "/v1/health"):
            return JSONResponse({"status": "ok"})
        if self.token is not None and not self._authorised(request):
            return _refusal(401, "Invalid API Key", "authentication_error")
        if request.method == "GET" and path == "/props":
            return self._props(request.query_params.get("model"))
        if request.method == "GET" and path in ("/v1/models", "/models"):
            return JSONResponse({"object": "list", "data": [_model(name) for name in self._names()]})
        if _is_messages(request.method, path):
            return self._messages(body)
        if request.method == "POST" and path == "/v1/messages/count_tokens":
            return JSONResponse({"input_tokens": estimate_tokens(body)})
        return _refusal(404, "File Not Found", "not_found_error")

    def _keep(self, request: Request, body: Any) -> None:
        entry = {
            "method": request.method,
            "path": request.url.path,
            "query": dict(request.query_params),
            "headers": dict(request.headers),
            "body": body,
        }
        with self._lock:
            self.requests.append(entry)
            if self._record is not None:
                with self._record.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def _authorised(self, request: Request) -> bool:
        key = request.headers.get("authorization") or request.headers.get("x-api-key") or ""
        return key.removeprefix("Bearer ") == self.token

    def _names(self) -> list[str]:
        return self.models if self.models is not None else ["claude-local"]

    def _unknown(self, model: Any) -> Response | None:
        if self.models is None or model in self.models:
            return None
        return _refusal(400, f"model '{model}' not found", "invalid_request_error")

    def _props(self, model: str | None) -> Response:
        if model is not None and (refused := self._unknown(model)):
            return refused
        return JSONResponse(
            {
                "default_generation_settings": {"n_ctx": self.n_ctx, "params": {}},
                "total_slots": 1,
                "model_alias": model or self._names()[0],
                "build_info": "scripted-backend",
            }
        )

    def _messages(self, body: Any) -> Response:
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
            return _refusal(400, "the body is not a JSON object with a list of messages", "invalid_request_error")
        if refused := self._unknown(body.get("model")):
            return refused
        blocks = [text('{"title": "A scripted session"}')] if is_background(body) else self._next_turn()
        if blocks[0]["type"] == "error":
            return _refusal(blocks[0]["status"], blocks[0].get("message", ""), blocks[0].get("kind", "api_error"))
        message = self._message(body, blocks)
        if body.get("stream"):
            return StreamingResponse(stream(message), media_type="text/event-stream")
        return JSONResponse(message)

    def _next_turn(self) -> list[Block]:
        with self._lock:
            number = self.played
            self.played += 1
        return self.turns[number] if number < len(self.turns) else [text(AFTER_THE_SCRIPT)]

    def _message(self, body: dict[str, Any], blocks: list[Block]) -> dict[str, Any]:
        with self._lock:
            self._made += 1
            number = self._made
        content = []
        for place, block in enumerate(blocks):
            if block["type"] == "tool_use":
                call_id = block.get("id", f"toolu_scripted_{number:04d}_{place}")
                content.append({"type": "tool_use", "id": call_id, "name": block["name"], "input": block["input"]})
            elif block["type"] == "thinking":
                content.append({"type": "thinking", "thinking": block["thinking"], "signature": ""})
            else:
                content.append({"type": "text", "text": block["text"]})
        calls = any(block["type"] == "tool_use" for block in blocks)
        return {
            "id": f"msg_scripted_{number:04d}",
            "type": "message",
            "role": "assistant",
            "model": body.get("model") or self._names()[0],
            "content": content,
            "stop_reason": "tool_use" if calls else "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": estimate_tokens(body),
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": max(1, len(json.dumps(content)) // 4),
            },
        }


async def stream(message: dict[str, Any]) -> AsyncIterator[bytes]:
    """The server-sent events of a complete message, as the Messages API streams them; text in small pieces."""
    usage = message["usage"]
    opening = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield _event("message_start", message=opening)
    yield _event("ping")
    for index, block in enumerate(message["content"]):
        if block["type"] == "tool_use":
            start, pieces = {**block, "input": {}}, json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": ""}]
            deltas += [{"type": "input_json_delta", "partial_json": piece} for piece in _pieces(pieces)]
        elif block["type"] == "thinking":
            start = {**block, "thinking": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        else:
            start = {**block, "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
        yield _event("content_block_start", index=index, content_block=start)
        for delta in deltas:
            yield _event("content_block_delta", index=index, delta=delta)
            await asyncio.sleep(0)
        yield _event("content_block_stop", index=index)
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]}
    yield _event("message_delta", delta=ending, usage=usage)
    yield _event("message_stop")


def _pieces(content: str, size: int = 24) -> list[str]:
    return [content[at : at + size] for at in range(0, len(content), size)]


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n".encode()


def _is_messages(method: str, path: str) -> bool:
    return method == "POST" and path == "/v1/messages"


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "owned_by": "llamacpp", "created": 0, "status": {"value": "loaded"}}


def _refusal(status: int, message: str, kind: str) -> JSONResponse:
    """An HTTP error in llama-server's form."""
    return JSONResponse({"error": {"code": status, "message": message, "type": kind}}, status_code=status)


def main(argv: Sequence[str] | None = None, wait: Callable[[threading.Event], Any] = threading.Event.wait) -> int:
    """Serve a script until SIGINT or SIGTERM; the first line on stdout is the address. Exit 2: a bad script."""
    parser = argparse.ArgumentParser(prog="scripted_backend", description="Replay a script as a loopback llama-server.")
    parser.add_argument("--script", type=Path, help="JSON file with the turns; none: every answer is a plain text")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: any free one")
    parser.add_argument("--record", type=Path, help="file that gets one JSON line a request")
    parser.add_argument("--n-ctx", type=int, help="context window in tokens (default: the script's, else 32768)")
    parser.add_argument("--token-file", type=Path, help="refuse requests without the token in this file")
    parser.add_argument("--loading", type=int, default=0, help="answer this many requests with 503 first")
    options = parser.parse_args(argv)
    try:
        raw = json.loads(options.script.read_text(encoding="utf-8")) if options.script else []
        turns, n_ctx = parse_script(raw)
        backend = ScriptedBackend(
            turns,
            options.n_ctx or n_ctx or 32768,
            token=options.token_file.read_text(encoding="utf-8").strip() if options.token_file else None,
            loading=options.loading,
            port=options.port,
            record=options.record,
        )
    except (OSError, ValueError) as problem:
        print(f"scripted_backend: {options.script or 'no script'}: {problem}", file=sys.stderr)
        return 2
    done = threading.Event()

    def leave(number: int, frame: FrameType | None) -> None:
        done.set()

    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)
    with backend:
        print(backend.url, flush=True)
        wait(done)
    return 0


if __name__ == "__main__":
    sys.exit(main())
