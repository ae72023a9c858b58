"""Wait until the server's active profile answers: ``python -m claude_local.server.wait --port P --token FILE``.

Prints one line every five seconds while it waits. Exit status 0 when a one-token message was answered, 1 with the reason
otherwise; a model that fails to load ends the wait at once. ``--check`` only looks: 0 when the router runs and has a
model ready (the active one, or another that somebody asked for).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

ACTIVE = "claude-local"
# A router listens within a second of its start; one that does not has ended.
SILENT_SECONDS = 45
PROGRESS_SECONDS = 5.0


# What the router (b11434) answers while --models-max models are loaded and none of them is idle.
BUSY = "model limit reached"


class NotReady(Exception):
    """The server will not answer; the message says why."""


class Server:
    """llama-server in router mode on a loopback port, with the token that it wants."""

    def __init__(self, port: int, token: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.session = requests.Session()
        # No proxy of the environment belongs between two programs on one machine.
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {token}"

    def models(self) -> dict[str, dict[str, Any]]:
        """Section -> its status ({"value": "loaded", ...}). Raises requests.RequestException, NotReady on a wrong key."""
        answer = self.session.get(f"{self.url}/models", timeout=10)
        if answer.status_code == 401:
            raise NotReady("the server refuses the token: something else listens there, or it runs with an older key")
        answer.raise_for_status()
        try:
            return {entry["id"]: entry["status"] for entry in answer.json()["data"]}
        except (ValueError, KeyError, TypeError):
            raise NotReady(f"{self.url} is not llama-server in router mode") from None

    def load(self, model: str) -> bool:
        """Ask for a model; returns at once. False: another model has the only place and is answering somebody."""
        answer = self.session.post(f"{self.url}/models/load", json={"model": model}, timeout=10)
        return BUSY not in answer.text

    def answers(self, model: str, seconds: float) -> requests.Response:
        """One token from the model; waits at most ``seconds``."""
        question = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Say yes."}]}
        return self.session.post(f"{self.url}/v1/messages", json=question, timeout=(5, max(1.0, seconds)))


def ready(server: Server) -> bool:
    """Whether the router runs, knows the active profile and has a model loaded (or asleep: it wakes by itself)."""
    try:
        models = server.models()
    except (requests.RequestException, NotReady):
        return False
    return ACTIVE in models and any(status.get("value") in ("loaded", "sleeping") for status in models.values())


def wait(
    server: Server,
    seconds: float,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when the active profile has answered a one-token message. Raises NotReady with the reason."""
    begun = clock()
    spoken, asked, heard = begun, False, False
    while True:
        waited = clock() - begun
        state = "starting"
        try:
            models = server.models()
            heard = True
            if ACTIVE not in models:
                raise NotReady(f"the server has no profile {ACTIVE}: it was started without presets.ini")
            status = models[ACTIVE]
            state = str(status.get("value"))
            if state in ("loaded", "sleeping"):
                answer = server.answers(ACTIVE, seconds - waited)
                if answer.ok:
                    return
                raise NotReady(f"the model is loaded but answers with an error: {answer.text[:300]}")
            if state not in ("loading", "downloading"):
                if asked:
                    raise NotReady("the model failed to load")
                # A failure of an earlier time is worth another try.
                asked = server.load(ACTIVE)
        except requests.Timeout:
            state = "busy"
        except requests.RequestException:
            if not heard and waited > SILENT_SECONDS:
                raise NotReady(f"nothing listens on {server.url}: the server ends right after its start") from None
        if waited >= seconds:
            raise NotReady(f"it is still {state} after {waited:.0f} s")
        if clock() - spoken >= PROGRESS_SECONDS:
            spoken = clock()
            say(f"{state}, {clock() - begun:.0f} s")
        sleep(0.5)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="server_wait", description="Wait until the server's active profile answers.")
    parser.add_argument("--port", type=int, required=True, help="the server's port on 127.0.0.1")
    parser.add_argument("--token", type=Path, required=True, help="file with the API token")
    parser.add_argument("--timeout", type=float, default=600, help="seconds")
    parser.add_argument("--check", action="store_true", help="do not wait; status 0 when a model is ready")
    options = parser.parse_args(arguments)
    try:
        token = options.token.read_text().strip()
    except OSError as error:
        print(f"the token cannot be read: {error}", file=sys.stderr)
        return 1
    server = Server(options.port, token)
    if options.check:
        return 0 if ready(server) else 1
    begun = time.monotonic()
    try:
        wait(server, options.timeout, lambda line: print(f"[server] {line}", flush=True))
    except NotReady as error:
        print(f"[server] {error}", flush=True)
        return 1
    print(f"[server] the default profile answers after {time.monotonic() - begun:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
