"""Switches under load, and every part killed while it switches: shorter runs of benchmarks/switching.py."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.machine import run
from tests.switching_kills import kill_rounds
from tests.switching_load import switch_under_load, two_sessions
from tests.two_containers import Pair, two_containers

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

NAMES = ("alpha", "bravo", "carol")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with two_containers(tmp_path_factory.mktemp("pair"), NAMES) as pair:
        yield pair


def test_twenty_switches_under_four_streaming_clients_lose_no_request_and_leave_nothing(pair: Pair) -> None:
    result = switch_under_load(pair, NAMES, 20)
    print(result)
    assert result.statuses == {200: 20} and result.active == result.asked
    assert result.requests > 20 and result.unanswered == []
    assert result.after.processes == result.before.processes
    assert result.after.descriptors <= result.before.descriptors + 2
    assert result.after.memory_mib <= result.before.memory_mib + 10


def test_two_sessions_on_two_profiles_load_each_model_once_where_both_fit(tmp_path: Path) -> None:
    with two_containers(tmp_path, NAMES[:2], models_at_once=2) as pair:
        loads, _ = two_sessions(pair, "bravo", 10)
        assert loads == 2
        assert {each["id"]: each["state"] for each in pair.get("/models")["models"]} == dict.fromkeys(
            NAMES[:2], "loaded"
        )
        for name in ("bravo", "alpha"):
            assert pair.switch(name).status_code == 200 and pair.ask() == name
        assert pair.loads() == 2, "a switch keeps both"
        assert pair.post("/stop").json()["state"] == "stopped"
        assert {each.state for each in pair.llama.router().values()} == {"unloaded"}


@pytest.mark.parametrize("victim", ["manager", "server", "child"])
def test_a_kill_during_a_switch_is_resolved_by_the_next_start(pair: Pair, victim: str) -> None:
    rounds = list(kill_rounds(pair, victim, 2))
    print(*rounds, sep="\n")
    assert [one.wrong for one in rounds] == [[], []]


def test_a_killed_docker_daemon_is_resolved_by_its_next_start() -> None:
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n", "--preserve-env=HOME"]
    done = run(*as_root, sys.executable, "benchmarks/switching.py", "kill", "dockerd", "--rounds", "1", timeout=300)
    assert done.returncode == 0
