"""The deployed management API on the real server: a switch that sessions see, and a stop."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from claude_local.manager.container import container_name
from claude_local.paths import Paths
from claude_local.server.client import ANSWER, LlamaClient, ServerError
from tests.integration.machine import HOME, docker

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

SERVER, MANAGER = "claude-local-server", container_name("claude-local-server")
PATHS = Paths(home=str(HOME), model_dir=str(HOME), bin_dir=str(HOME / "bin"))
SMALL, DEFAULT = "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"


class Api:
    def __init__(self) -> None:
        with open(PATHS.token) as file:
            self.token = file.read().strip()
        self.server = LlamaClient("http://127.0.0.1:8080", self.token)

    def get(self, path: str) -> Any:
        return requests.get(f"http://127.0.0.1:8081{path}", timeout=60).json()

    def post(self, path: str, body: Any = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return requests.post(f"http://127.0.0.1:8081{path}", json=body, headers=headers, timeout=ANSWER)

    def switch(self, model: str) -> requests.Response:
        return self.post("/switch", {"model": model})

    def ask(self, max_tokens: int = 1) -> str:
        """The model that answers a session's name for the active profile."""
        question = {"role": "user", "content": "Count from 1 to 300."}
        body = {"model": "claude-local", "max_tokens": max_tokens, "messages": [question]}
        return str(self.server.json("POST", "/v1/messages", body, timeout=ANSWER)["model"])

    def until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except (requests.RequestException, ServerError, ValueError):
                pass
            assert time.monotonic() < end, self.get("/status")
            time.sleep(0.05)


@pytest.fixture
def api() -> Iterator[Api]:
    """The API; the default profile is active before and after."""
    api = Api()
    api.until(lambda: api.get("/status")["state"] != "down")
    assert api.switch(DEFAULT).status_code == 200
    yield api
    api.until(lambda: api.switch(DEFAULT).status_code == 200)


def test_a_switch_changes_what_answers_and_nothing_of_a_running_answer_is_lost(api: Api) -> None:
    running: list[str] = []
    thread = threading.Thread(target=lambda: running.append(api.ask(max_tokens=80)))
    thread.start()
    api.until(lambda: any(slot.busy for slot in api.server.slots(DEFAULT)))
    answer = api.switch(SMALL)
    thread.join()
    print(json.dumps(answer.json()))
    assert answer.status_code == 200 and answer.json()["previous"] == DEFAULT
    assert running == [DEFAULT]
    assert api.ask() == SMALL


def test_an_unknown_profile_is_404_with_the_placed_ones(api: Api) -> None:
    answer = api.switch("no-such")
    assert answer.status_code == 404 and {SMALL, DEFAULT} <= set(answer.json()["known"])


def test_stop_frees_the_memory_and_a_request_brings_the_model_back(api: Api) -> None:
    assert api.post("/stop").json()["state"] == "stopped"
    assert {model.state for model in api.server.router().values()} == {"unloaded"}
    assert api.ask() == DEFAULT


def test_the_choice_outlives_a_restart_of_the_server(api: Api) -> None:
    assert api.switch(SMALL).status_code == 200
    subprocess.run([docker(), "restart", SERVER], check=True, capture_output=True, timeout=60)
    api.until(lambda: api.get("/status")["state"] == "ready")
    assert api.ask() == SMALL


def test_it_is_small_and_quick(api: Api) -> None:
    words = [docker(), "stats", "--no-stream", "--format", "{{.MemUsage}}", MANAGER]
    used = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("MiB")[0]
    assert float(used) < 60
