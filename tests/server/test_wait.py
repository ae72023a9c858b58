"""Waiting for the server: it ends when the server answers, and at once when the server cannot."""

from typing import Any

import pytest

from claude_local.server import wait as server_wait
from claude_local.server.client import LlamaClient, Model, ServerError
from claude_local.server.wait import NotReady, load, wait


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class States(LlamaClient):
    """A router whose default profile goes through ``states``; the last one stays. None: nothing listens."""

    def __init__(self, *states: str | None, broken: bool = False, busy: int = 0, refuses: int = 0) -> None:
        super().__init__("http://127.0.0.1:1")
        self.states = list(states)
        self.broken = broken
        self.loads = 0
        self.busy = busy
        self.refuses = refuses

    def router(self) -> dict[str, Model]:
        if self.refuses:
            raise ServerError("no", "status", self.refuses)
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state is None:
            raise ServerError("nothing listens", "refused")
        failed, aliases = state == "failed", frozenset({"claude-local"})
        model = Model("default", "unloaded" if failed else state, aliases, failed=failed, exit_code=failed or None)
        return {"default": model, "other": Model("other", "unloaded")}

    def load(self, model: str) -> bool:
        self.loads += 1
        return self.loads > self.busy

    def json(self, method: str, path: str, body: Any = None, *, timeout: float = 0) -> Any:
        if self.broken:
            raise ServerError("no slot", "status", 500)
        return {}


def waiting(client: LlamaClient, seconds: float = 100) -> list[str]:
    lines: list[str] = []
    clock = Clock()
    wait(client, seconds, lines.append, clock, clock.sleep)
    return lines


def test_it_waits_through_start_and_load_with_a_line_every_five_seconds() -> None:
    lines = waiting(States(*[None] * 3, *["loading"] * 22, "loaded"))
    assert lines == ["loading, 5 s", "loading, 10 s"]


@pytest.mark.parametrize("states", [("unloaded", "loading", "unloaded"), ("failed", "failed"), ("unloaded",) * 99])
def test_a_model_that_fails_ends_the_wait_after_one_try(states: tuple[str, ...]) -> None:
    server = States(*states)
    with pytest.raises(NotReady, match="failed to load"):
        waiting(server)
    assert server.loads == 1


def test_a_failure_of_an_earlier_time_is_worth_another_try() -> None:
    server = States("failed", "loading", "loaded")
    waiting(server)
    assert server.loads == 1


def test_another_busy_model_is_waited_for() -> None:
    server = States(*["unloaded"] * 4, "loading", "loaded", busy=3)
    waiting(server)
    assert server.loads == 4


@pytest.mark.parametrize("states", [(None,), ("loading", None)], ids=["from the start", "after a crash"])
def test_a_server_that_does_not_listen_is_given_up_long_before_the_timeout(states: tuple[str | None, ...]) -> None:
    with pytest.raises(NotReady, match="nothing has listened on"):
        waiting(States(*states), seconds=100_000)


def test_a_refused_token_ends_the_wait() -> None:
    with pytest.raises(NotReady, match="refuses the token"):
        waiting(States("loaded", refuses=401))


def test_a_load_that_takes_too_long_ends_with_its_state() -> None:
    with pytest.raises(NotReady, match="still loading after 30 s"):
        waiting(States("loading"), seconds=30)


def test_an_unknown_profile_ends_the_wait() -> None:
    clock = Clock()
    with pytest.raises(NotReady, match="no profile absent"):
        load(States("loaded"), "absent", 10, lambda state: None, clock, clock.sleep)


def test_a_loaded_model_must_also_answer() -> None:
    with pytest.raises(NotReady, match="no slot"):
        waiting(States("loaded", broken=True))


def test_an_unreadable_token_is_reported_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert server_wait.main(["--port", "1", "--token", "/no/such/token"]) == 1
    assert "the token cannot be read" in capsys.readouterr().err
