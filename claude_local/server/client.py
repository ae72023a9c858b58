"""The one HTTP client for llama-server in router mode: base URL, token, timeouts, and one exception."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import requests

from claude_local.server import router
from claude_local.server.router import Model as Model

# Seconds: for an answer that needs no model, for one that does (a long prompt on two cores), and for a connection.
QUICK, ANSWER, CONNECT = 20.0, 300.0, 5.0
# Seconds for an answer that waits until a model is unloaded; the router kills one that takes longer than 10.
UNLOAD = 60.0
# What the router (b11434) answers while --models-max models are loaded and none of them is idle.
BUSY = "model limit reached"

Event: TypeAlias = tuple[str, dict[str, Any]]
Reason = Literal["refused", "timeout", "broken", "status", "format"]


class ServerError(Exception):
    """A request that failed; the message is one line that names the server or the path, and what happened.

    ``reason``: "refused" (nothing listens), "timeout", "broken" (the connection ended early), "status" (an HTTP error)
    or "format" (llama-server answers otherwise). ``status``: the HTTP status, None when there was no answer. ``fix``:
    what helps, if the management API says so.
    """

    def __init__(self, message: str, reason: Reason, status: int | None = None, fix: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.fix = fix


@dataclass(frozen=True)
class Slot:
    """One place for a conversation in a loaded model. All counts are tokens: ``prompt`` of the request, ``processed``
    of it so far, ``cached`` of it without reading, ``decoded`` of the answer so far."""

    id: int
    busy: bool
    prompt: int
    processed: int
    cached: int
    decoded: int

    def as_data(self) -> dict[str, Any]:
        """The slot for JSON."""
        return asdict(self)


class LlamaClient:
    """llama-server at ``url`` (``http://127.0.0.1:8080``); ``token`` is its API key, None: ask without one.

    No proxy of the environment is used. Each request has a connection of its own: the server closes idle ones, and a
    POST must not meet one that has just been closed.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        self._headers = {"Connection": "close"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def request(
        self, method: str, path: str, body: Any = None, *, timeout: float = QUICK, headers: dict[str, str] | None = None
    ) -> requests.Response:
        """The answer, whatever its status; ``timeout``: seconds between two bytes. Raises ServerError."""
        with requests.Session() as session:
            return self._send(session, method, path, body, timeout, headers or {})

    def json(self, method: str, path: str, body: Any = None, *, timeout: float = QUICK) -> Any:
        """The decoded body of an answer with status 200. Raises ServerError."""
        response = self.request(method, path, body, timeout=timeout)
        _check_status(path, response)
        try:
            return response.json()
        except ValueError:
            raise ServerError(f"{path}: the answer is not JSON: {response.text[:120]!r}", "format", 200) from None

    def events(self, path: str, body: Any, *, timeout: float = ANSWER) -> list[Event]:
        """POST ``body`` and read the streamed answer to its end: (name, data) of each event. Raises ServerError."""
        return list(self.stream(path, body, timeout=timeout))

    def stream(self, path: str, body: Any, *, timeout: float = ANSWER) -> Iterator[Event]:
        """POST ``body``: (name, data) of each event of the answer as it comes. Raises ServerError."""
        with requests.Session() as session:
            headers = {"Accept": "text/event-stream"}
            response = self._send(session, "POST", path, body, timeout, headers, stream=True)
            _check_status(path, response)
            kind = response.headers.get("Content-Type", "")
            if not kind.startswith("text/event-stream"):
                raise ServerError(f"{path}: Content-Type is {kind!r}, not text/event-stream", "format", 200)
            response.encoding = "utf-8"
            try:
                yield from read_sse(response.iter_lines(chunk_size=1, decode_unicode=True))
            except requests.RequestException as error:
                raise self._no_answer(error) from None

    def load(self, model: str) -> bool:
        """Ask the router to load ``model``; returns at once. False: busy models have all the places.

        Raises ServerError. A model that is being loaded already (HTTP 400) is no error.
        """
        response = self.request("POST", "/models/load", {"model": model})
        if BUSY in response.text:
            return False
        if response.status_code != 400:
            _check_status("/models/load", response)
        return True

    def router(self) -> dict[str, Model]:
        """Each section of presets.ini. Raises ServerError."""
        answer = self.json("GET", "/v1/models", timeout=10)
        try:
            return router.models(answer)
        except ValueError:
            raise ServerError(f"{self.url} is not llama-server in router mode", "format", 200) from None

    def models_at_once(self) -> int:
        """How many models the router keeps in memory. Raises ServerError."""
        answer = self.json("GET", "/props", timeout=10)
        count = answer.get("max_instances") if isinstance(answer, dict) else None
        if not isinstance(count, int):
            raise ServerError("/props: not what a router answers", "format", 200)
        return count

    def activate(self, model: str, alias: str, load: bool = True) -> bool:
        """Let ``alias`` mean ``model`` from now on, and load it; returns when the load has begun.

        False: the name has moved, but busy models have all the places. Raises ServerError.
        """
        body = {"model": model, "alias": alias, "load": load}
        response = self.request("POST", "/models/load", body, timeout=UNLOAD)
        if BUSY in response.text:
            return False
        _check_status("/models/load", response)
        return True

    def unload(self, model: str) -> None:
        """Unload a model that is loaded; returns when it begins to end. Raises ServerError."""
        self.json("POST", "/models/unload", {"model": model}, timeout=UNLOAD)

    def slots(self, model: str) -> list[Slot]:
        """The slots of a loaded model. Wakes up one that sleeps. Raises ServerError."""
        answer = self.json("GET", f"/slots?model={model}&autoload=false")
        try:
            return [_slot(each) for each in answer]
        except (KeyError, TypeError, AttributeError, IndexError):
            raise ServerError("/slots: not what llama-server answers", "format", 200) from None

    def metrics(self, model: str) -> str:
        """The metrics of a loaded model in Prometheus's text format. Raises ServerError."""
        response = self.request("GET", f"/metrics?model={model}&autoload=false")
        _check_status("/metrics", response)
        return response.text

    def context_window(self, model: str) -> int:
        """The context window of ``model`` in tokens; loads the model if need be. Raises ServerError."""
        path = f"/props?model={model}"
        answer = self.json("GET", path, timeout=ANSWER)
        n_ctx = answer.get("default_generation_settings", {}).get("n_ctx") if isinstance(answer, dict) else None
        if not isinstance(n_ctx, int) or n_ctx <= 0:
            raise ServerError(f"{path} reports no context window", "format", 200)
        return n_ctx

    def _send(
        self, session: requests.Session, method: str, path: str, body: Any, timeout: float, headers: dict[str, str],
        stream: bool = False,
    ) -> requests.Response:  # fmt: skip
        session.trust_env = False
        session.headers.update(self._headers)
        try:
            return session.request(
                method, self.url + path, json=body, headers=headers, timeout=(CONNECT, timeout), stream=stream,
                allow_redirects=False,
            )  # fmt: skip
        except requests.RequestException as error:
            raise self._no_answer(error) from None

    def _no_answer(self, error: requests.RequestException) -> ServerError:
        if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
            return ServerError(f"{self.url} did not answer in time", "timeout")
        if "refused" in str(error):
            return ServerError(f"nothing listens on {self.url}", "refused")
        return ServerError(f"the connection to {self.url} broke: {error}", "broken")


def _slot(entry: dict[str, Any]) -> Slot:
    """One entry of GET /slots (b11434)."""
    following = (entry.get("next_token") or [{}])[0]
    return Slot(
        id=entry["id"],
        busy=entry["is_processing"],
        prompt=entry.get("n_prompt_tokens", 0),
        processed=entry.get("n_prompt_tokens_processed", 0),
        cached=entry.get("n_prompt_tokens_cache", 0),
        decoded=following.get("n_decoded", 0),
    )


def error_message(response: requests.Response) -> str:
    """An HTTP error in one line: the status and llama-server's own message."""
    try:
        error = response.json()["error"]
        message = error if isinstance(error, str) else error["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text[:200]
    return f"HTTP {response.status_code}: {message}"


def _check_status(path: str, response: requests.Response) -> None:
    if response.status_code != 200:
        raise ServerError(f"{path}: {error_message(response)}", "status", response.status_code, _fix(response))


def _fix(response: requests.Response) -> str:
    try:
        return str(response.json().get("fix") or "")
    except (ValueError, AttributeError):
        return ""


def read_sse(lines: Iterable[str]) -> Iterator[Event]:
    """Server-sent events from the lines of a body: (event name, decoded data). Comments are dropped.

    Raises ServerError for a field that the format does not have, data that is not a JSON object, or a cut-off event.
    """
    name = ""
    data: list[str] = []
    for number, line in enumerate(lines, 1):
        if line == "":
            if data:
                yield name or "message", _data(name, data, number)
            name, data = "", []
            continue
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "event":
            name = value
        elif key == "data":
            data.append(value)
        elif key not in ("", "id", "retry"):
            raise ServerError(f"line {number} of the stream is not part of an event: {line[:60]!r}", "format", 200)
    if data or name:
        raise ServerError("the stream ends in the middle of an event", "format", 200)


def _data(name: str, lines: list[str], number: int) -> dict[str, Any]:
    try:
        value = json.loads("\n".join(lines))
    except ValueError as error:
        raise ServerError(f"line {number}: the data of event {name!r} is not JSON ({error})", "format", 200) from None
    if not isinstance(value, dict):
        raise ServerError(f"line {number}: the data of event {name!r} is not a JSON object", "format", 200)
    return value
