"""server_idle_unload on the real server, with seconds for minutes: nothing that looks on keeps a model in memory."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import requests

from claude_local.server.client import ServerError
from tests.two_containers import Pair, two_containers

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

IDLE = 3
# What the dashboard, status, Prometheus, the health check and the start of a session ask for.
LOOKS = ("/status", "/models", "/slots", "/metrics", "/sessions")


def state(pair: Pair) -> str:
    return pair.llama.router()["alpha"].state


def look_on(pair: Pair, ended: threading.Event) -> None:
    """Ask for everything, again and again."""
    while not ended.wait(0.3):
        for path in LOOKS:
            assert requests.get(pair.api + path, timeout=10).status_code == 200
        assert pair.llama.context_window("alpha") == 8192
        assert pair.llama.request("GET", "/health").status_code == 200


def holds_weights(pair: Pair) -> bool:
    """Whether a process of the server has the model's file in its memory."""
    return any("alpha.gguf" in Path(f"/proc/{number}/maps").read_text() for number in pair.processes())


def test_an_idle_model_leaves_the_memory_while_everybody_looks_on_and_the_first_request_brings_it_back(
    tmp_path: Path,
) -> None:
    with two_containers(tmp_path, ["alpha"], options=f"sleep-idle-seconds = {IDLE}\n") as pair:
        ended = threading.Event()
        looking = threading.Thread(target=look_on, args=(pair, ended))
        with requests.get(f"{pair.api}/events", stream=True, timeout=60):
            looking.start()
            try:
                pair.ask()
                assert holds_weights(pair)
                pair.until(lambda: state(pair) == "sleeping")
                time.sleep(2)
                assert state(pair) == "sleeping" and not holds_weights(pair)
                assert pair.get("/status")["state"] == "ready"
                began = time.monotonic()
                assert pair.ask() == "alpha" and holds_weights(pair)
                print(f"awake after {time.monotonic() - began:.1f} s")
            finally:
                ended.set()
                looking.join(60)
        assert not looking.is_alive()
        pair.until(lambda: state(pair) == "sleeping")
        file = pair.folder / "models/alpha.gguf"
        file.rename(file.with_suffix(".away"))
        with pytest.raises(ServerError):
            pair.ask()
        pair.until(lambda: "/models/alpha.gguf is missing" in pair.get("/status")["status"])
        with pytest.raises(ServerError, match="/models/alpha.gguf is missing"):
            pair.ask()
        file.with_suffix(".away").rename(file)
        assert pair.ask() == "alpha"
        pair.until(lambda: pair.get("/status")["state"] == "ready")
