"""The management API over HTTP: paths, statuses, who may ask, and server-sent events. ``openapi.json`` describes it."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from claude_local.fence.server_requests import SESSION
from claude_local.manager.log import follow, last_lines, shorten
from claude_local.manager.sessions import fits, public
from claude_local.manager.switch import Running, SwitchError
from claude_local.manager.switching import Switchboard
from claude_local.server.client import ServerError
from claude_local.server.log import PROXIED

OPENAPI = Path(__file__).with_name("openapi.json")
# Bytes of the largest request body, lines of the largest answer to GET /logs, and of one without ?lines=.
BODY, MOST_LINES, LINES = 65536, 1000, 100
# Seconds between two looks at the state for GET /events, between two of its comments, and between two of settle's:
# usually, and while it waits for the end of a load.
STATE, PING, SETTLE, LOADING = 1.0, 15.0, 5.0, 0.3
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

Event = tuple[str, Any]


class Guard:
    """Refuses what a web page of another origin could send, a request that changes something without the token, and a
    body that is too long."""

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self.app = app
        self.hosts = {f"{name}:{port}" for name in LOOPBACK}
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self.refusal(scope["method"], Headers(scope=scope))):
            await refusal(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def refusal(self, method: str, headers: Headers) -> Response | None:
        """The answer to a request that goes no further, None for all others."""
        if headers.get("host", "") not in self.hosts:
            return problem(403, f"this is not http://{sorted(self.hosts)[0]}")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc not in self.hosts:
            return problem(403, "requests from web pages of other origins are refused")
        if method in ("GET", "HEAD"):
            return None
        if not _holds_token(headers, self.token):
            return problem(401, "the header Authorization: Bearer TOKEN is missing or wrong")
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdigit() or int(length) > BODY:
            return problem(413, f"a body has at most {BODY} bytes and a Content-Length")
        return None


def _holds_token(headers: Headers, token: str) -> bool:
    return hmac.compare_digest(headers.get("authorization", "").encode(), f"Bearer {token}".encode())


def problem(status: int, message: str, **more: Any) -> JSONResponse:
    """An error: ``{"error": message, ...}``."""
    return JSONResponse({"error": message, **more}, status)


def application(board: Switchboard, log: Path, port: int, token: str) -> Starlette:
    """The whole API. ``log``: llama-server's log file. ``port``: the one that clients see."""
    routes = [
        Route("/models", _answer(lambda request: _models(board, request))),
        Route("/status", _answer(lambda _: board.status())),
        Route("/slots", _answer(lambda _: _slots(board))),
        Route("/switch", _answer(lambda request: _switch(board, request)), methods=["POST"]),
        Route("/switch/cancel", _answer(lambda request: _cancel(board, request)), methods=["POST"]),
        Route("/stop", _answer(lambda request: _stop(board, request)), methods=["POST"]),
        Route("/start", _answer(lambda request: _start(board, request)), methods=["POST"]),
        Route("/sessions", _answer(lambda request: _sessions(board, _holds_token(request.headers, token)))),
        Route("/sessions", _answer(lambda request: _report(board, request)), methods=["POST"]),
        Route("/logs", _answer(lambda request: _logs(log, request))),
        Route("/events", _answer(lambda _: _events(board, log))),
        Route("/metrics", _answer(lambda _: _metrics(board))),
        Route("/openapi.json", _answer(lambda _: _openapi())),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(_look_after(board, log))
        yield
        task.cancel()

    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _http_error})
    app.add_middleware(Guard, port=port, token=token)
    return app


async def _look_after(board: Switchboard, log: Path) -> None:
    """Keep the server what the user wants, and its log short."""
    while True:
        loading = False
        with suppress(ServerError, OSError, ValueError):
            loading = await board.settle()
        with suppress(OSError):
            shorten(log)
        await asyncio.sleep(LOADING if loading else SETTLE)


def _answer(
    handle: Callable[[Request], Awaitable[Any]],
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint from a function that returns JSON data or a Response, or raises what can go wrong."""

    async def endpoint(request: Request) -> Response:
        try:
            result = await handle(request)
        except SwitchError as error:
            return problem(error.status, str(error), **error.more)
        except ServerError as error:
            return problem(503, f"llama-server: {error}")
        except (OSError, ValueError) as error:
            return problem(500, str(error))
        return result if isinstance(result, Response) else JSONResponse(result)

    return endpoint


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail)


async def _body(request: Request, members: dict[str, type], optional: dict[str, type] | None = None) -> dict[str, Any]:
    """The JSON object of a request: all ``members``, any of ``optional``, and no others. Raises SwitchError (400)."""
    text = await request.body()
    try:
        body = json.loads(text or b"{}")
    except ValueError as error:
        raise SwitchError(400, f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise SwitchError(400, "the body is not a JSON object")
    known = {**members, **(optional or {})}
    if unknown := sorted(body.keys() - known.keys()):
        raise SwitchError(400, f"unknown member {unknown[0]!r}; known: {', '.join(known) or 'none'}")
    for name, kind in known.items():
        if (name in members or name in body) and not isinstance(body.get(name), kind):
            raise SwitchError(400, f"{name} is missing or not a {'string' if kind is str else kind.__name__}")
    return body


def _who(request: Request) -> str:
    """For whom a switch is, as the others see it."""
    return request.headers.get("user-agent", "a client")[:80]


async def _models(board: Switchboard, request: Request) -> dict[str, Any]:
    tokens = request.query_params.get("tokens", "0")
    if not tokens.isdigit():
        raise SwitchError(400, f"tokens is {tokens!r}, expected a number")
    return {"models": [{**each, "fits": fits(int(tokens), each["ctx_size"])} for each in await board.models()]}


async def _slots(board: Switchboard) -> dict[str, Any]:
    return {"slots": await board.slots()}


def _session(request: Request) -> int | None:
    """The session that asks, as the process in its record; the fence adds it. None for all other clients."""
    process = request.headers.get(SESSION, "")
    return int(process) if process.isdigit() else None


async def _sessions(board: Switchboard, private: bool) -> dict[str, Any]:
    sessions = board.sessions.entries(board.wish.active)
    return {"sessions": sessions if private else [public(each) for each in sessions]}


async def _report(board: Switchboard, request: Request) -> dict[str, Any]:
    body = await _body(request, {"tokens": int})
    if (process := _session(request)) is None:
        raise SwitchError(400, "only a session behind the fence can report its tokens")
    board.sessions.report(process, body["tokens"])
    return {}


async def _switch(board: Switchboard, request: Request) -> Any:
    body = await _body(request, {"model": str}, {"force": bool})
    session = _session(request)
    if session is not None and (await board.status())["state"] == "stopped":
        raise SwitchError(409, "the user has stopped the server", fix="llama-local start")
    running = board.begin(body["model"], _who(request), session=session, force=body.get("force", False))
    if "text/event-stream" in request.headers.get("accept", ""):
        return _stream(_stages(running))
    return await running.answer()


async def _stages(running: Running) -> AsyncIterator[Event]:
    """The stages of a switch, then its answer or its error."""
    async for stage in running.stages():
        yield "stage", stage.as_data()
    try:
        yield "done", await running.answer()
    except SwitchError as error:
        yield "error", {"status": error.status, "error": str(error), **error.more}


async def _cancel(board: Switchboard, request: Request) -> dict[str, Any]:
    await _body(request, {})
    return {"cancelled": board.cancel(session=_session(request) is not None)}


async def _stop(board: Switchboard, request: Request) -> dict[str, Any]:
    await _body(request, {})
    await board.stop()
    return await board.status()


async def _start(board: Switchboard, request: Request) -> dict[str, Any]:
    await _body(request, {})
    return await board.begin(board.wish.active, _who(request)).answer()


async def _logs(log: Path, request: Request) -> Response:
    count = request.query_params.get("lines", str(LINES))
    if not count.isdigit() or int(count) > MOST_LINES:
        raise SwitchError(400, f"lines is {count!r}, expected a number up to {MOST_LINES}")
    lines, end = last_lines(log, int(count))
    text = "".join(f"{line}\n" for line in lines)
    if request.query_params.get("follow") not in ("1", "true"):
        return PlainTextResponse(text)

    async def all_lines() -> AsyncIterator[str]:
        yield text
        async for line in follow(log, end):
            yield f"{line}\n"

    return StreamingResponse(all_lines(), media_type="text/plain")


async def _events(board: Switchboard, log: Path) -> Response:
    active = asyncio.Event()
    return _stream(_merged(_states(board, active), _lines(log, active)))


async def _states(board: Switchboard, active: asyncio.Event) -> AsyncIterator[Event]:
    """The status, whenever it changes, and the slots while a model is loaded and something happens.

    The router logs each look at the slots, and would write 10 MB a day for nothing. ``active``: the log has news.
    """
    before: dict[str, Any] | None = None
    while True:
        status = await board.status()
        if status != before:
            yield "status", status
            before = status
            active.set()
        if status["state"] == "ready" and active.is_set():
            active.clear()
            if slots := await board.slots():
                yield "metrics", {"slots": slots}
                if any(slot["busy"] for slot in slots):
                    active.set()
        await asyncio.sleep(STATE)


async def _lines(log: Path, active: asyncio.Event) -> AsyncIterator[Event]:
    async for line in follow(log, last_lines(log, 0)[1]):
        if PROXIED not in line:
            active.set()
        yield "log", {"line": line}


async def _merged(*sources: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """The events of all sources as they come."""
    queue: asyncio.Queue[Event] = asyncio.Queue(maxsize=1000)

    async def pump(source: AsyncIterator[Event]) -> None:
        async for event in source:
            await queue.put(event)

    pumps = [asyncio.create_task(pump(source)) for source in sources]
    try:
        while True:
            yield await queue.get()
    finally:
        for each in pumps:
            each.cancel()


def _stream(events: AsyncIterator[Event]) -> Response:
    async def text() -> AsyncIterator[str]:
        following = asyncio.ensure_future(anext(events, None))
        try:
            while True:
                done, _ = await asyncio.wait({following}, timeout=PING)
                if not done:
                    yield ": still here\n\n"
                    continue
                event = following.result()
                if event is None:
                    return
                yield f"event: {event[0]}\ndata: {json.dumps(event[1])}\n\n"
                following = asyncio.ensure_future(anext(events, None))
        finally:
            following.cancel()

    return StreamingResponse(text(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _metrics(board: Switchboard) -> Response:
    return PlainTextResponse(await board.prometheus(), media_type="text/plain; version=0.0.4")


async def _openapi() -> Response:
    return Response(OPENAPI.read_text(), media_type="application/json")
