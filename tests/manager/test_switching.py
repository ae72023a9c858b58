"""Switching the active profile through the management API: what answers afterwards, and every way it can go wrong."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from claude_local.fence.server_requests import SESSION
from claude_local.manager import wish as wishes
from claude_local.manager.switch import Running, Stage, SwitchError
from claude_local.manager.wish import Wish
from claude_local.server.client import Model, read_sse
from tests.manager.scripted_router import ScriptedRouter, until
from tests.manager.stand import Manager, running


def test_at_its_start_the_default_profile_is_loaded_and_answers_to_claude_local(manager: Manager) -> None:
    assert (manager.router.state("small"), manager.router.alias()) == ("loaded", "small")
    status = manager.get("/status").json()
    assert status == {
        "model": "small", "model_name": "Small", "state": "ready", "status": "Small answers", "progress": 1.0,
        "ctx_size": 5000, "switch": None,
    }  # fmt: skip


def test_the_first_load_after_a_boot_tells_how_long_the_next_one_takes(manager: Manager) -> None:
    until(lambda: manager.get("/models").json()["models"][0]["load_seconds"] is not None)
    assert manager.get("/models").json()["models"][0]["load_seconds"] == pytest.approx(0.6, abs=0.5)


def test_a_switch_answers_when_the_new_model_does_and_says_how_the_window_changes(manager: Manager) -> None:
    manager.router.load_seconds = 1
    answer = manager.post("/switch", {"model": "large"})
    assert answer.status_code == 200
    assert {key: answer.json()[key] for key in ("model", "ctx_size", "previous", "previous_ctx_size")} == {
        "model": "large", "ctx_size": 5000, "previous": "small", "previous_ctx_size": 5000,
    }  # fmt: skip
    assert (manager.router.state("large"), manager.router.alias()) == ("loaded", "large")
    models = {each["id"]: each for each in manager.get("/models").json()["models"]}
    assert [name for name, each in models.items() if each["active"]] == ["large"]
    assert models["large"]["load_seconds"] == pytest.approx(1, abs=0.9)


def test_a_switch_to_the_active_profile_changes_nothing(manager: Manager) -> None:
    assert manager.post("/switch", {"model": "small"}).status_code == 200
    assert manager.router.state("small") == "loaded"


def test_the_stages_of_a_switch_come_as_events(manager: Manager) -> None:
    answer = manager.post("/switch", {"model": "large"}, headers={"Accept": "text/event-stream"}, stream=True)
    events = parse(answer)
    names = [data["stage"] for name, data in events if name == "stage"]
    assert names[-1] == "ready" and "loading" in names
    assert {"stage": "loading", "progress": 0.5}.items() <= next(
        d for _, d in events if d["stage"] == "loading"
    ).items()
    assert events[-1][0] == "done" and events[-1][1]["model"] == "large"


@pytest.mark.parametrize(("last", "stage"), [("exiting...", "saving"), ("cleaning up before exit...", "unloading")])
def test_the_former_model_saves_its_conversations_first_as_its_log_tells(
    manager: Manager, last: str, stage: str
) -> None:
    manager.router.unload_seconds = 0.5
    with (manager.folder / "server.log").open("a") as log:
        log.write("[1] 9.1 I srv    operator(): exit command received, exiting...\n")
        log.write(f"[1] 9.2 I srv    operator(): {last}\n")
    answer = manager.post("/switch", {"model": "large"}, headers={"Accept": "text/event-stream"}, stream=True)
    events = parse(answer)
    names = [data["stage"] for name, data in events if name == "stage"]
    assert names[names.index("loading") - 1] == stage
    assert events[-1][1]["seconds"][stage] == pytest.approx(0.5, abs=0.4)


def test_a_switch_to_a_model_that_fits_beside_the_former_keeps_both(tmp_path: Path) -> None:
    with ScriptedRouter("small", "large", "third", at_once=2) as router, Manager(tmp_path, router) as manager:
        until(lambda: manager.state() == "ready")
        router.busy = "small"
        assert manager.post("/switch", {"model": "large"}).status_code == 200, "it waits for no running answer"
        router.busy = None
        assert manager.post("/switch", {"model": "small"}).json()["seconds"].get("loading") is None
        assert (router.loads, router.alias()) == (["small", "large"], "small")
        states = {each["id"]: each["state"] for each in manager.get("/models").json()["models"]}
        assert states == {"small": "loaded", "large": "loaded", "third": "unloaded"}
        assert manager.post("/switch", {"model": "third"}).status_code == 200
        assert (router.loads[2:], router.state("small")) == (["third"], "unloaded")
        assert manager.post("/stop").json()["state"] == "stopped"
        assert {router.state(name) for name in router.models} == {"unloaded"}


@pytest.mark.parametrize("at_once", [1, 2])
def test_the_active_profile_is_loaded_beside_a_sessions_model_and_never_in_its_place(
    tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_local.manager.app.SETTLE", 0.02)
    with ScriptedRouter("small", "large", at_once=at_once) as router:
        router.models["large"]["status"] = {"value": "loaded"}
        with Manager(tmp_path, router) as manager:
            until(lambda: router.alias() == "small")
            if at_once == 2:
                until(lambda: router.state("small") == "loaded")
            time.sleep(0.1)
            assert router.loads == ["small"] * (at_once - 1) and router.state("large") == "loaded"
            assert manager.state() == "ready"


def test_a_stop_while_the_manager_looks_at_the_server_is_not_forgotten(
    tmp_path: Path, router: ScriptedRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Manager(tmp_path, router).board  # nothing else looks
    router.models["small"]["status"] = {"value": "loaded"}
    look = board.client.router

    def stopped_meanwhile() -> dict[str, Model]:
        wishes.write(board.wish_file, replace(board.wish, stopped=True))
        return look()

    monkeypatch.setattr(board.client, "router", stopped_meanwhile)
    board._load_began = ("small", time.monotonic())
    asyncio.run(board.settle())
    assert board.wish.stopped


def test_an_unknown_profile_is_404_with_the_known_ones(manager: Manager) -> None:
    answer = manager.post("/switch", {"model": "huge"})
    assert (answer.status_code, answer.json()["known"]) == (404, ["broken", "large", "small"])


def test_a_model_that_does_not_load_is_502_with_the_servers_last_lines_and_the_former_one_is_back(
    manager: Manager,
) -> None:
    (manager.folder / "server.log").write_text("0.01 I srv load\n0.02 E failed to allocate\n")
    answer = manager.post("/switch", {"model": "broken"})
    assert answer.status_code == 502 and answer.json()["log"] == ["I srv load", "E failed to allocate"]
    assert (manager.router.state("small"), manager.router.alias()) == ("loaded", "small")
    assert manager.get("/status").json()["model"] == "small" and manager.state() == "ready"


def test_a_model_whose_place_an_older_request_took_is_loaded_again(manager: Manager) -> None:
    manager.router.evicted.add("large")
    assert manager.post("/switch", {"model": "large"}).status_code == 200
    assert manager.router.loads == ["small", "large", "large"] and manager.router.state("large") == "loaded"


def test_of_two_switches_at_once_one_wins_and_the_other_learns_who_switches(manager: Manager) -> None:
    answers: list[requests.Response] = []
    first = threading.Thread(
        target=lambda: answers.append(manager.post("/switch", {"model": "large"}, headers={"User-Agent": "first"}))
    )
    first.start()
    until(lambda: manager.get("/status").json()["switch"] is not None)
    second = manager.post("/switch", {"model": "broken"})
    first.join()
    assert answers[0].status_code == 200
    assert second.status_code == 409 and {"model": "large", "who": "first"}.items() <= second.json().items()
    assert second.json()["since"] > 0


def test_a_running_answer_is_waited_for_and_the_name_has_moved_already(manager: Manager) -> None:
    manager.router.busy = "small"
    answers: list[requests.Response] = []
    thread = threading.Thread(target=lambda: answers.append(manager.post("/switch", {"model": "large"})))
    thread.start()
    until(lambda: manager.router.alias() == "large")
    until(lambda: manager.get("/status").json()["status"].endswith("draining"))
    assert manager.router.state("small") == "loaded"
    manager.router.busy = None
    thread.join()
    assert answers[0].status_code == 200 and manager.router.state("large") == "loaded"


@pytest.mark.slow
def test_an_answer_that_does_not_end_is_504_and_names_the_model(manager: Manager) -> None:
    manager.router.busy = "small"
    with running(manager, ("/home/a/app", ""), ("/home/b/own", "large")):
        answer = manager.post("/switch", {"model": "large"})
        from_a_session = manager.post("/switch", {"model": "large"}, headers={SESSION: "1"})
    assert answer.status_code == 504 and "small still answers" in (error := answer.json()["error"])
    assert "40 of 100 tokens read" in error and "/home/a/app" in error and "/home/b/own" not in error
    assert [each["workspace"] for each in answer.json()["sessions"]] == ["/home/a/app"]
    assert answer.json()["slots"][0]["prompt"] == 100
    assert from_a_session.status_code == 504 and "/home" not in from_a_session.text
    assert manager.router.alias() == "small" and manager.state() == "ready"


def test_a_failure_that_everybody_may_read_names_no_project(tmp_path: Path, router: ScriptedRouter) -> None:
    router.models["large"]["status"] = {"value": "loaded"}
    router.busy = "large"
    manager = Manager(tmp_path, router, drain=0.1)  # nothing else looks
    switch = Running("broken", "a session", 0.0, Stage("loading", "broken"), private=False)
    with running(manager, ("/home/b/own", "large")):
        asyncio.run(manager.board._bring_back(Wish("small", "small"), switch, SwitchError(502, "it failed to load")))
    assert "a session may be waiting" in (failure := manager.board.failure or "") and "/home" not in failure


def test_a_switch_can_be_cancelled(manager: Manager) -> None:
    manager.router.load_seconds = 3
    answers: list[requests.Response] = []
    thread = threading.Thread(target=lambda: answers.append(manager.post("/switch", {"model": "large"})))
    thread.start()
    until(lambda: manager.router.loads[-1] == "large")
    manager.router.load_seconds = 0.1
    assert manager.post("/switch/cancel").json() == {"cancelled": True}
    thread.join()
    assert answers[0].status_code == 409 and manager.router.alias() == "small"
    assert manager.post("/switch/cancel").json() == {"cancelled": False}


@pytest.mark.parametrize("begins", [{}, {SESSION: "1"}], ids=["the user's", "a session's"])
def test_a_session_can_cancel_a_sessions_switch_and_not_the_users(manager: Manager, begins: dict[str, str]) -> None:
    manager.router.load_seconds = 1
    answers: list[requests.Response] = []
    thread = threading.Thread(
        target=lambda: answers.append(manager.post("/switch", {"model": "large"}, headers=begins))
    )
    thread.start()
    until(lambda: manager.router.loads[-1] == "large")
    cancel = manager.post("/switch/cancel", headers={SESSION: "2"})
    thread.join()
    assert (cancel.status_code, answers[0].status_code) == ((200, 409) if begins else (409, 200))


def test_a_full_disk_fails_the_switch_and_the_former_profile_is_back(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("claude_local.manager.wish.write", full)
    answer = manager.post("/switch", {"model": "large"})
    assert answer.status_code == 507 and "No space left" in answer.json()["error"]
    assert manager.router.alias() == "small" and manager.router.loads == ["small"]


def test_stop_unloads_and_is_remembered_by_the_next_manager(tmp_path: Path, manager: Manager) -> None:
    assert manager.post("/stop").json()["state"] == "stopped"
    assert manager.router.state("small") == "unloaded"
    asked = len(manager.router.asked)
    with Manager(tmp_path, manager.router, drain=1) as again:
        until(lambda: again.state() == "stopped")
    assert all(body.get("load") is False for body in manager.router.asked[asked:])
    assert manager.post("/start").status_code == 200 and manager.state() == "ready"


def test_a_session_does_not_start_what_the_user_stopped(manager: Manager) -> None:
    manager.post("/stop")
    refused = manager.post("/switch", {"model": "large"}, headers={SESSION: "1"})
    assert (refused.status_code, refused.json()["fix"]) == (409, "llama-local start")
    assert (manager.state(), manager.router.state("large")) == ("stopped", "unloaded")
    # A request of a session has loaded the model again: the user goes on.
    manager.router.models["small"]["status"] = {"value": "loaded"}
    assert manager.post("/switch", {"model": "large"}, headers={SESSION: "1"}).status_code == 200


def test_a_failed_switch_loads_nothing_where_everything_was_stopped(manager: Manager) -> None:
    manager.post("/stop")
    loads = len(manager.router.loads)
    assert manager.post("/switch", {"model": "broken"}).status_code == 502
    assert manager.router.loads[loads:] == ["broken"]
    assert (manager.state(), manager.router.alias()) == ("stopped", "small")


def test_the_active_profile_is_remembered_by_the_next_manager(tmp_path: Path, manager: Manager) -> None:
    manager.post("/switch", {"model": "large"})
    for entry in manager.router.models.values():  # llama-server was restarted
        entry.update(aliases=["claude-local"] if entry["id"] == "small" else [], status={"value": "unloaded"})
    with Manager(tmp_path, manager.router, drain=1) as again:
        until(lambda: again.state() == "ready")
        assert (again.get("/status").json()["model"], manager.router.alias()) == ("large", "large")


def test_a_model_whose_process_was_killed_is_loaded_again_and_one_that_then_fails_is_not(
    tmp_path: Path, router: ScriptedRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("SETTLE", "LOADING"):
        monkeypatch.setattr(f"claude_local.manager.app.{pause}", 0.05)
    killed = {"value": "unloaded", "failed": True, "exit_code": -9}
    with Manager(tmp_path, router) as manager:
        until(lambda: manager.state() == "ready")
        router.models["small"]["status"] = killed
        until(lambda: router.loads == ["small", "small"] and manager.state() == "ready")
        time.sleep(0.2)
        router.fails.add("small")
        router.models["small"]["status"] = killed
        until(lambda: len(router.loads) == 3 and router.state("small") == "unloaded")
        time.sleep(0.5)
        assert len(router.loads) == 3 and manager.state() == "failed"


def test_a_model_whose_file_vanished_while_it_slept_is_named_until_it_answers_again(
    tmp_path: Path, router: ScriptedRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("SETTLE", "LOADING"):
        monkeypatch.setattr(f"claude_local.manager.app.{pause}", 0.05)
    with Manager(tmp_path, router) as manager:
        until(lambda: manager.state() == "ready")
        router.missing.add("small")
        router.models["small"]["status"] = {"value": "unloaded", "failed": True, "exit_code": 1}
        until(lambda: "the file small.gguf is missing" in manager.get("/status").json()["status"])
        assert manager.state() == "failed"
        router.missing.clear()
        router.models["small"]["status"] = {"value": "loaded"}  # a request has brought it back
        until(lambda: manager.state() == "ready")
        time.sleep(0.2)
        router.models["small"]["status"] = {"value": "unloaded"}
        until(lambda: manager.state() == "ready" and len(router.loads) == 2)


def test_a_server_whose_name_still_means_another_profile_is_not_ready(
    tmp_path: Path, router: ScriptedRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    router.models["large"].update(aliases=["claude-local"], status={"value": "loaded"})
    monkeypatch.setattr("claude_local.manager.switching.Switchboard.settle", lambda _: asyncio.sleep(60))
    with Manager(tmp_path, router) as manager:
        assert manager.state() == "loading"


def test_a_new_default_of_the_deploy_becomes_active(tmp_path: Path, manager: Manager) -> None:
    manager.post("/switch", {"model": "large"})
    profiles = json.loads((manager.folder / "profiles.json").read_text())
    (manager.folder / "profiles.json").write_text(json.dumps({**profiles, "default": "broken"}))
    assert manager.get("/status").json()["model"] == "broken"


def test_a_damaged_file_of_the_last_wish_means_the_default(manager: Manager) -> None:
    (manager.folder / "wish.json").write_text('{"active": 5}')
    assert manager.get("/status").json()["model"] == "small"


def test_without_llama_server_the_state_is_down_and_a_switch_is_503(tmp_path: Path) -> None:
    router = ScriptedRouter("small", "large")
    router.close()
    with Manager(tmp_path, router, drain=1) as manager:
        assert manager.state() == "down"
        answer = manager.post("/switch", {"model": "large"})
        assert answer.status_code == 503 and "nothing listens" in answer.json()["error"]


def parse(answer: requests.Response) -> list[tuple[str, dict[str, Any]]]:
    return list(read_sse(answer.iter_lines(decode_unicode=True)))
