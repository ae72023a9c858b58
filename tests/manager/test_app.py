"""The management API over HTTP: who may ask, what malformed requests get, and the streams."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from time import sleep

import pytest
import requests

from claude_local.manager.log import shorten
from tests.manager.scripted_router import until
from tests.manager.stand import Manager


def test_reading_needs_no_token_and_changing_does(manager: Manager) -> None:
    for path in ("/models", "/status", "/sessions", "/logs", "/metrics", "/openapi.json"):
        assert manager.get(path).status_code == 200
    for path in ("/switch", "/switch/cancel", "/stop", "/start"):
        assert manager.post(path, {}, token=None).status_code == 401
        assert manager.post(path, {}, token="wrong").status_code == 401
    assert manager.router.state("small") == "loaded"


@pytest.mark.parametrize("header", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_a_page_of_another_origin_is_refused(manager: Manager, header: dict[str, str]) -> None:
    assert manager.get("/status", headers=header).status_code == 403
    assert manager.post("/switch", {"model": "large"}, headers=header).status_code == 403
    assert manager.router.alias() == "small"


def test_the_own_origin_is_accepted(manager: Manager) -> None:
    assert manager.get("/status", headers={"Origin": f"http://localhost:{manager.port}"}).status_code == 200


@pytest.mark.parametrize(
    "body, word",
    [
        ("{", "JSON"),
        ("[]", "object"),
        ("{}", "model"),
        ('{"model": 5}', "string"),
        ('{"model": "large", "force": 1}', "force"),
        ('{"model": "large", "Force": true}', "Force"),
    ],
)
def test_a_malformed_request_is_400_and_says_what_is_wrong(manager: Manager, body: str, word: str) -> None:
    answer = requests.post(f"{manager.url}/switch", data=body, headers={"Authorization": "Bearer a-token"}, timeout=10)
    assert answer.status_code == 400 and word in answer.json()["error"]


def test_a_body_that_is_too_long_is_413(manager: Manager) -> None:
    assert manager.post("/switch", {"model": "x" * 70000}).status_code == 413


def test_another_path_is_404_and_another_method_405(manager: Manager) -> None:
    assert manager.get("/nothing").status_code == 404
    assert manager.get("/switch").status_code == 405


def test_the_last_lines_of_the_log(manager: Manager) -> None:
    assert manager.get("/logs?lines=1").text == "ready\n"
    assert manager.get("/logs?lines=many").status_code == 400


def test_the_log_can_be_followed_over_a_restart_of_the_server(manager: Manager) -> None:
    log = manager.folder / "server.log"
    with manager.get("/logs?lines=1&follow=1", stream=True) as answer:
        lines = answer.iter_lines(decode_unicode=True)
        assert next(lines) == "ready"
        with open(log, "a") as file:
            file.write("more\n")
        assert next(lines) == "more"
        log.write_text("new\n")
        assert next(lines) == "new"


def test_a_long_log_moves_to_a_second_file_and_the_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with open(log, "a") as writer:
        writer.write("old\n" * 10)
        writer.flush()
        shorten(log, largest=20)
        writer.write("new\n")
    assert (log.read_text(), (tmp_path / "server.log.1").read_text()) == ("new\n", "old\n" * 10)
    shorten(log, largest=20)
    assert log.read_text() == "new\n"


def test_events_tell_the_state_the_slots_and_the_log(manager: Manager) -> None:
    with manager.get("/events", stream=True) as answer:
        lines = answer.iter_lines(decode_unicode=True)
        first = [line for line in islice(lines, 6) if line]
        assert first[0] == "event: status" and json.loads(first[1].removeprefix("data: "))["state"] == "ready"
        assert first[2] == "event: metrics"
        slot = json.loads(first[3].removeprefix("data: "))["slots"][0]
        assert (slot["model"], slot["prompt"], slot["processed"], slot["busy"]) == ("small", 100, 40, True)
        with open(manager.folder / "server.log", "a") as file:
            file.write("a line\n")
        assert 'data: {"line": "a line"}' in islice(lines, 40)


def test_an_idle_server_is_not_asked_for_its_slots_again_and_again(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_local.manager.app.STATE", 0.02)
    manager.router.reads = False
    with manager.get("/events", stream=True) as answer:
        lines = answer.iter_lines(decode_unicode=True)
        assert "event: metrics" in islice(lines, 6)
        asked = manager.router.slots_asked
        log = manager.folder / "server.log"
        with log.open("a") as file:
            file.write("1.0 I srv  proxy_reques: proxying request to model small on port 1\n")
        assert "event: log" in islice(lines, 6)
        sleep(0.3)
        assert manager.router.slots_asked == asked
        manager.router.reads = True
        with log.open("a") as file:
            file.write("[1] 0.1 I slot launch_slot_: id  0 | task 0 | processing task, is_child = 0\n")
        until(lambda: manager.router.slots_asked > asked + 3)


def test_metrics_are_llama_servers_and_say_which_profile_is_loaded(manager: Manager) -> None:
    manager.router.metrics = (
        "# HELP llamacpp:a_total A.\n# TYPE llamacpp:a_total counter\nllamacpp:a_total 1\n"
        'llamacpp:b_total{position="0"} 2\n'
    )
    manager.router.models["large"]["status"] = {"value": "loaded"}
    text = manager.get("/metrics").text
    assert 'claude_local_model_loaded{model="small"} 1\n' in text
    assert 'claude_local_model_loaded{model="broken"} 0\n' in text
    # In Prometheus's format, the values of one metric come together, after its description.
    assert text.endswith(
        "# HELP llamacpp:a_total A.\n# TYPE llamacpp:a_total counter\n"
        'llamacpp:a_total{model="small"} 1\nllamacpp:a_total{model="large"} 1\n'
        'llamacpp:b_total{model="small",position="0"} 2\nllamacpp:b_total{model="large",position="0"} 2\n'
    )


def test_asking_does_not_wake_a_sleeping_model(manager: Manager) -> None:
    manager.router.models["small"]["status"] = {"value": "sleeping"}
    assert "llamacpp" not in manager.get("/metrics").text
    assert manager.get("/slots").json() == {"slots": []}
    assert manager.state() == "ready"


def test_whoever_looks_on_does_not_keep_an_idle_model_awake(manager: Manager) -> None:
    router = manager.router
    router.metrics = "llamacpp:requests_processing 0\nllamacpp:prompt_tokens_total 5\n"
    slots = [manager.get("/slots").json() for _ in range(3)]
    assert router.slots_asked == 1 and slots[0] == slots[2] and slots[2]["slots"][0]["prompt"] == 100
    router.metrics = "llamacpp:requests_processing 0\nllamacpp:prompt_tokens_total 9\n"  # a short request came and went
    manager.get("/slots")
    assert router.slots_asked == 2
    router.metrics = "llamacpp:requests_processing 1\nllamacpp:prompt_tokens_total 9\n"
    manager.get("/slots"), manager.get("/slots")
    assert router.slots_asked == 4


def test_the_slots_are_those_of_all_models_in_memory(manager: Manager) -> None:
    manager.router.models["large"]["status"] = {"value": "loaded"}
    slots = manager.get("/slots").json()["slots"]
    assert [(each["model"], each["id"], each["prompt"]) for each in slots] == [("small", 0, 100), ("large", 0, 100)]
    manager.router.models["small"]["status"] = {"value": "sleeping"}
    assert [each["model"] for each in manager.get("/slots").json()["slots"]] == ["large"]


def test_the_description_names_every_path(manager: Manager) -> None:
    described = set(manager.get("/openapi.json").json()["paths"])
    assert described == {
        "/models", "/status", "/slots", "/sessions", "/switch", "/switch/cancel", "/stop", "/start", "/logs",
        "/events", "/metrics", "/openapi.json",
    }  # fmt: skip
    assert Path("claude_local/manager/openapi.json").exists()
