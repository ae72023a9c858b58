"""Wait until the default profile answers: ``python -m claude_local.server.wait --port P --token FILE``.

Prints one line every five seconds. Exit status 0 when the model has answered a one-token message, 1 with the reason
otherwise; a model that fails to load ends the wait at once.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from claude_local.server.client import LlamaClient, Model, ServerError
from claude_local.server.presets import ACTIVE

# A router listens within a second of its start; one that does not has ended.
SILENT_SECONDS = 45.0
# A load that the router has accepted begins at once; this is for a slow machine.
BEGIN_SECONDS = 10.0
PROGRESS_SECONDS = 5.0
READY = "ready"


class NotReady(Exception):
    """The server will not answer; the message says why."""


class _Load:
    """One model on its way: ``step`` asks the router for its state, and asks it once to load the model."""

    def __init__(self, client: LlamaClient, model: str, clock: Callable[[], float]) -> None:
        self.client, self.model, self.clock = client, model, clock
        self.last_answer = clock()
        self.asked: float | None = None
        self.began = False

    def step(self) -> str:
        """The state now. Raises NotReady when the model will not be loaded."""
        try:
            models = self.client.router().values()
            self.last_answer = self.clock()
            model = next((each for each in models if self.model in (each.id, *each.aliases)), None)
            if model is None:
                raise NotReady(f"the server has no profile {self.model}: it was started without our presets.ini")
            return self._next(model)
        except ServerError as error:
            return self._without_answer(error)

    def _next(self, model: Model) -> str:
        if model.ready or model.state in ("loading", "downloading"):
            self.began = self.began or self.asked is not None
            return READY if model.ready else model.state
        if self.asked is None:  # a failure from an earlier time is worth another try
            if not self.client.load(self.model):
                return "waiting for another model to finish"
            self.asked = self.clock()
        elif self.began or model.failed or self.clock() - self.asked > BEGIN_SECONDS:
            exit_code = f" (llama-server exited with {model.exit_code})" if model.exit_code else ""
            raise NotReady(f"{self.model} failed to load{exit_code}")
        return "loading"

    def _without_answer(self, error: ServerError) -> str:
        if error.status == 401:
            raise NotReady("the server refuses the token: another server listens there, or it runs with an older key")
        if error.reason == "timeout":
            return "busy"
        if error.status not in (None, 503):
            raise NotReady(str(error))
        if self.clock() - self.last_answer > SILENT_SECONDS:
            raise NotReady(f"nothing has listened on {self.client.url} for {SILENT_SECONDS:.0f} s: the server crashed")
        return "starting"


def load(
    client: LlamaClient,
    model: str,
    seconds: float,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Have ``model`` loaded within ``seconds``; the seconds that it took. ``say`` gets the state twice a second.

    The router may unload an idle model for it; it waits for a busy one. Raises NotReady with the reason.
    """
    begin = clock()
    model_load = _Load(client, model, clock)
    while (state := model_load.step()) != READY:
        if clock() - begin >= seconds:
            raise NotReady(f"{model} is still {state} after {clock() - begin:.0f} s")
        say(state)
        sleep(0.5)
    return clock() - begin


def wait(
    client: LlamaClient,
    seconds: float,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when the default profile has answered a one-token message. ``say`` gets a line every PROGRESS_SECONDS.

    Raises NotReady with the reason, also after ``seconds``.
    """
    begin = last_line = clock()

    def progress(state: str) -> None:
        nonlocal last_line
        if clock() - last_line >= PROGRESS_SECONDS:
            last_line = clock()
            say(f"{state}, {clock() - begin:.0f} s")

    took = load(client, ACTIVE, seconds, progress, clock, sleep)
    question = {"model": ACTIVE, "max_tokens": 1, "messages": [{"role": "user", "content": "Say yes."}]}
    try:
        client.json("POST", "/v1/messages", question, timeout=max(1.0, seconds - took))
    except ServerError as error:
        raise NotReady(f"the model is loaded but does not answer: {error}") from None


def main(arguments: list[str] | None = None) -> int:
    """Run the program; see the module's docstring for the exit status."""
    parser = argparse.ArgumentParser(prog="server_wait", description="Wait until the default profile answers.")
    parser.add_argument("--port", type=int, required=True, help="the server's port on 127.0.0.1")
    parser.add_argument("--token", type=Path, required=True, help="file with the API token")
    parser.add_argument("--timeout", type=float, default=600, help="seconds")
    options = parser.parse_args(arguments)
    try:
        token = options.token.read_text().strip()
    except OSError as error:
        print(f"the token cannot be read: {error}", file=sys.stderr)
        return 1
    client = LlamaClient(f"http://127.0.0.1:{options.port}", token)
    begin = time.monotonic()
    try:
        wait(client, options.timeout, lambda line: print(f"[server] {line}", flush=True))
    except NotReady as error:
        print(f"[server] {error}", flush=True)
        return 1
    print(f"[server] the default profile answers after {time.monotonic() - begin:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
