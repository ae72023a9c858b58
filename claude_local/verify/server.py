"""Rows about llama-server's door (health, key, origin, the loaded model), and the one place that speaks HTTP to it."""

from __future__ import annotations

import time
from typing import Any

import requests

from claude_local.server.wait import BUSY
from claude_local.verify.checks import Check, Failed
from claude_local.verify.configuration import token
from claude_local.verify.workbench import Workbench

MODEL = "claude-local"
FOREIGN_ORIGIN = "http://evil.example"
# Seconds: for an answer that needs no model, for one that does (a long prompt on two cores), for loading a model.
QUICK, ANSWER, LOAD = 20.0, 300.0, 600.0


class Server:
    """llama-server on loopback, without any proxy of the environment."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url
        self._headers = {"Connection": "close"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"

    def _ask(self, method: str, path: str, timeout: float, **more: Any) -> requests.Response:
        # A connection a request: the server ends idle ones, and a POST must not meet one that has just ended.
        session = requests.Session()
        session.trust_env = False
        session.headers.update(self._headers)
        return session.request(method, self.url + path, timeout=timeout, **more)

    def get(self, path: str, *, timeout: float = QUICK, **headers: str) -> requests.Response:
        return self._ask("GET", path, timeout, headers=headers)

    def options(self, path: str, **headers: str) -> requests.Response:
        return self._ask("OPTIONS", path, QUICK, headers=headers)

    def post(
        self, path: str, body: dict[str, Any], *, timeout: float = ANSWER, stream: bool = False
    ) -> requests.Response:
        return self._ask("POST", path, timeout, json=body, stream=stream)


def server(bench: Workbench) -> Server:
    """The installed server, with the user's token."""
    return bench.once("server", lambda: Server(bench.parameters.server_url, token(bench)))


def refusal(response: requests.Response) -> str:
    """An HTTP error in one line: status and the server's own message."""
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text[:200]
    return f"HTTP {response.status_code}: {message}"


def _health(bench: Workbench) -> str:
    door = Server(bench.parameters.server_url, None)
    until = time.monotonic() + LOAD
    while (response := door.get("/health")).status_code == 503 and time.monotonic() < until:
        bench.say("the server is still loading")
        time.sleep(1)
    if response.status_code != 200:
        raise Failed(f"/health: {refusal(response)}", bench.logs_command)
    return f"{bench.parameters.server_url}/health: {response.text.strip()}"


def _wrong_key(bench: Workbench) -> str:
    for name, key in (("a wrong", "wrong-" + bench.marker), ("no", None)):
        for path in ("/v1/models", "/props"):
            response = Server(bench.parameters.server_url, key).get(path)
            if response.status_code != 401:
                raise Failed(f"{path} with {name} API key: HTTP {response.status_code} instead of 401")
    return "401 with a wrong key and with none"


def _right_key(bench: Workbench) -> str:
    response = server(bench).get("/v1/models")
    if response.status_code != 200:
        raise Failed(f"the token in {bench.paths.token} is not accepted: {refusal(response)}")
    return "200 with the user's token"


def _origin(bench: Workbench) -> str:
    door = server(bench)
    asked = {"Origin": FOREIGN_ORIGIN, "Access-Control-Request-Method": "POST"}
    for what, response in (
        ("GET /health", door.get("/health", Origin=FOREIGN_ORIGIN)),
        ("OPTIONS /v1/messages", door.options("/v1/messages", **asked)),
    ):
        allowed = response.headers.get("Access-Control-Allow-Origin", "")
        if allowed == "*" or FOREIGN_ORIGIN in allowed:
            raise Failed(
                f"{what} from {FOREIGN_ORIGIN}: Access-Control-Allow-Origin is {allowed}: any web page may ask"
            )
    return f"{FOREIGN_ORIGIN} is not allowed" + (f" (only {allowed})" if allowed else "")


def model_status(bench: Workbench, model: str) -> dict[str, Any] | None:
    """What the router says of ``model``: ``{"value": "loaded"}`` or another state; None when it does not know it."""
    response = server(bench).get("/v1/models")
    response.raise_for_status()
    for entry in response.json().get("data", []):
        if entry.get("id") == model:
            status = entry.get("status")
            return status if isinstance(status, dict) else {"value": "loaded"}
    return None


def load(bench: Workbench, model: str, seconds: float = LOAD) -> float:
    """Have ``model`` loaded (the router may unload another); the seconds that took. Raises Failed."""
    begin = time.monotonic()
    asked = False
    while True:
        status = model_status(bench, model)
        if status is None:
            raise Failed(f"the server does not know the model {model}")
        state = str(status.get("value"))
        if state in ("loaded", "sleeping"):
            return time.monotonic() - begin
        if status.get("failed") or (asked and state == "unloaded" and time.monotonic() - begin > 30):
            raise Failed(f"{model} cannot be loaded (exit {status.get('exit_code', 'unknown')})", bench.logs_command)
        if state == "unloaded" and not asked:
            response = server(bench).post("/models/load", {"model": model}, timeout=QUICK)
            if BUSY in response.text:  # another profile is answering somebody: its turn ends
                state = "waiting for another model to finish"
            elif response.status_code not in (200, 400):
                raise Failed(f"loading {model}: {refusal(response)}", bench.logs_command)
            else:
                asked = True
        if time.monotonic() - begin > seconds:
            raise Failed(f"{model} is not loaded after {seconds:.0f} s: {state}", bench.logs_command)
        bench.say(f"{model}: {state}")
        time.sleep(0.5)


def context_window(bench: Workbench, model: str = MODEL) -> int:
    """The server's n_ctx of ``model`` in tokens."""
    response = server(bench).get(f"/props?model={model}", timeout=ANSWER)
    if response.status_code != 200:
        raise Failed(f"/props?model={model}: {refusal(response)}", bench.logs_command)
    found = response.json().get("default_generation_settings", {}).get("n_ctx")
    if not isinstance(found, int) or found <= 0:
        raise Failed(f"/props?model={model} names no context window")
    return found


def _loaded(bench: Workbench) -> str:
    took = load(bench, MODEL)
    window = bench.once("window", lambda: context_window(bench))
    after = f", loaded in {took:.0f} s" if took > 1 else ""
    return f"{MODEL} ({bench.parameters.default}): context window {window} tokens{after}"


def checks(default: str) -> list[Check]:
    """The rows of this subject, in order."""
    door = ("server.health",)
    return [
        Check("server.health", "llama-server answers", _health, needs=("container.running",), limit=LOAD + 30),
        Check("server.key.wrong", "a wrong API key is refused", _wrong_key, needs=door),
        Check("server.key", "the user's token is accepted", _right_key, needs=("server.health", "token")),
        Check("server.origin", "other web sites may not ask", _origin, needs=("server.key",)),
        Check(
            "server.model",
            "the default model is loaded",
            _loaded,
            needs=("server.key", f"model.{default}"),
            limit=LOAD + 30,
        ),
    ]
