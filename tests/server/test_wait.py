"""Waiting for the server: ends when it answers, and at once when it cannot."""

from typing import Any

import pytest
import requests

from claude_local.server import wait as server_wait
from claude_local.server.wait import NotReady, Server, ready, wait


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Scripted(Server):
    """A server whose active profile goes through ``states``; the last one stays. None: nothing listens."""

    def __init__(self, *states: str | None, status: int = 200, busy: int = 0) -> None:
        self.url = "http://127.0.0.1:1"
        self.states = list(states)
        self.status = status
        self.loads = 0
        self.busy = busy

    def models(self) -> dict[str, dict[str, Any]]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state is None:
            raise requests.ConnectionError
        return {"claude-local": {"value": state}, "other": {"value": "unloaded"}}

    def load(self, model: str) -> bool:
        self.loads += 1
        return self.loads > self.busy

    def answers(self, model: str, seconds: float) -> requests.Response:
        answer = requests.Response()
        answer.status_code = self.status
        answer._content = b"no slot"
        return answer


def waiting(server: Server, seconds: float = 100) -> list[str]:
    said: list[str] = []
    clock = Clock()
    wait(server, seconds, said.append, clock, clock.sleep)
    return said


def test_it_waits_through_start_and_load_with_a_line_every_five_seconds() -> None:
    said = waiting(Scripted(*[None] * 3, *["loading"] * 22, "loaded"))
    assert said == ["loading, 5 s", "loading, 10 s"]


def test_a_model_that_fails_ends_the_wait_after_one_more_try() -> None:
    server = Scripted("unloaded", "loading", "unloaded")
    with pytest.raises(NotReady, match="failed to load"):
        waiting(server)
    assert server.loads == 1


def test_an_unloaded_model_is_loaded() -> None:
    server = Scripted("unloaded", "loading", "loaded")
    waiting(server)
    assert server.loads == 1


def test_a_place_that_another_model_holds_is_waited_for() -> None:
    server = Scripted(*["unloaded"] * 4, "loading", "loaded", busy=3)
    waiting(server)
    assert server.loads == 4


def test_a_server_that_never_listens_is_given_up_long_before_the_timeout() -> None:
    with pytest.raises(NotReady, match="nothing listens on"):
        waiting(Scripted(None), seconds=100_000)


def test_a_load_that_takes_too_long_says_so() -> None:
    with pytest.raises(NotReady, match="still loading after 30 s"):
        waiting(Scripted("loading"), seconds=30)


def test_loaded_is_not_enough_it_must_answer() -> None:
    with pytest.raises(NotReady, match="answers with an error: no slot"):
        waiting(Scripted("loaded", status=500))


def test_ready_means_that_some_model_is_there() -> None:
    assert ready(Scripted("loaded"))
    assert ready(Scripted("sleeping"))
    assert not ready(Scripted("loading"))
    assert not ready(Scripted(None))


def test_a_token_that_cannot_be_read_is_said_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert server_wait.main(["--port", "1", "--token", "/no/such/token", "--check"]) == 1
    assert "the token cannot be read" in capsys.readouterr().err
