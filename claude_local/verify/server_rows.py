"""Rows about llama-server itself: its health, its API key, foreign web sites, and the loaded model."""

from __future__ import annotations

import time

from claude_local.server import wait
from claude_local.server.client import LlamaClient, error_message
from claude_local.server.presets import ACTIVE
from claude_local.verify.checks import Check, Failed
from claude_local.verify.workbench import Workbench

FOREIGN_ORIGIN = "http://evil.example"
# Seconds that loading a model may take.
LOAD = 600.0


def load(bench: Workbench, model: str) -> float:
    """Have ``model`` loaded (the router may unload another one); the seconds that took. Raises Failed."""
    try:
        return wait.load(bench.server, model, LOAD, bench.say)
    except wait.NotReady as reason:
        raise Failed(str(reason), bench.logs_command) from None


def loaded_in(seconds: float) -> str:
    """The end of an evidence: how long a load took, empty for a model that was loaded already."""
    return f", loaded in {seconds:.0f} s" if seconds > 1 else ""


def _health(bench: Workbench) -> str:
    anyone = LlamaClient(bench.parameters.server_url)
    until = time.monotonic() + LOAD
    while (response := anyone.request("GET", "/health")).status_code == 503 and time.monotonic() < until:
        bench.say("the server is still loading")
        time.sleep(1)
    if response.status_code != 200:
        raise Failed(f"/health: {error_message(response)}", bench.logs_command)
    return f"{anyone.url}/health: {response.text.strip()}"


def _wrong_key(bench: Workbench) -> str:
    for name, key in (("a wrong", "wrong-" + bench.marker), ("no", None)):
        client = LlamaClient(bench.parameters.server_url, key)
        for path in ("/v1/models", "/props"):
            status = client.request("GET", path).status_code
            if status != 401:
                raise Failed(f"{path} with {name} API key: HTTP {status} instead of 401")
    return "401 with a wrong key and without a key"


def _right_key(bench: Workbench) -> str:
    response = bench.server.request("GET", "/v1/models")
    if response.status_code != 200:
        raise Failed(f"the server refuses the token in {bench.paths.token}: {error_message(response)}")
    return "200 with the user's token"


def _origin(bench: Workbench) -> str:
    origin = {"Origin": FOREIGN_ORIGIN}
    preflight = {**origin, "Access-Control-Request-Method": "POST"}
    for method, path, headers in (("GET", "/health", origin), ("OPTIONS", "/v1/messages", preflight)):
        response = bench.server.request(method, path, headers=headers)
        allowed = response.headers.get("Access-Control-Allow-Origin", "")
        if allowed == "*" or FOREIGN_ORIGIN in allowed:
            raise Failed(
                f"{method} {path} from {FOREIGN_ORIGIN}: Access-Control-Allow-Origin is {allowed}, "
                "so any web page can use the server"
            )
    return f"{FOREIGN_ORIGIN} is not allowed" + (f" (only {allowed})" if allowed else "")


def _model(bench: Workbench) -> str:
    took = load(bench, ACTIVE)
    names = f"{bench.active}, also {ACTIVE}"
    return f"{names}: context window {bench.context_window} tokens{loaded_in(took)}"


def _restored(bench: Workbench) -> str:
    took = load(bench, ACTIVE)
    return f"{bench.active} was loaded again in {took:.0f} s" if took > 1 else f"{bench.active} is loaded"


def checks(default: str) -> list[Check]:
    """The rows of this subject, in order; ``default`` is the default profile."""
    answers = ("server.health",)
    model = ("server.key", f"model.{default}")
    return [
        Check("server.health", "llama-server answers", _health, needs=("container.running",), limit=LOAD + 30),
        Check("server.key.wrong", "the server refuses a wrong API key", _wrong_key, needs=answers),
        Check("server.key", "the server accepts the user's token", _right_key, needs=(*answers, "token")),
        Check("server.origin", "other web sites cannot use the server", _origin, needs=("server.key",)),
        Check("server.model", "the default model is loaded", _model, needs=model, limit=LOAD + 30),
    ]


def last_checks() -> list[Check]:
    """The row that comes after those that load other models."""
    return [
        Check(
            "server.restored", "the default model is loaded again", _restored, needs=("server.model",), limit=LOAD + 30
        )
    ]
