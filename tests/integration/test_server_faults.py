"""What goes wrong on disk and on the network while models are switched: a clear answer, the old model back, no loss."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest
import requests

from tests.switching_kills import victims
from tests.two_containers import Pair, deployed_images, prepare

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two models; what the user wants is remembered on a small disk of its own."""
    made = prepare(tmp_path_factory.mktemp("pair"), ["alpha", "bravo"], deployed_images())
    options = f"size=64k,uid={made.manager.uid},gid={made.manager.gid},mode=700"
    subprocess.run([*ROOT, "mount", "-t", "tmpfs", "-o", options, "tmpfs", made.wish.parent], check=True, timeout=30)
    try:
        made.run()
        yield made
    finally:
        made.remove()
        subprocess.run([*ROOT, "umount", made.wish.parent], check=True, timeout=30)


@pytest.fixture
def answering(pair: Pair) -> Iterator[list[int]]:
    """The process of alpha, which answers before and after the test. While it is the same, so is its cache."""
    assert pair.switch("alpha").status_code == 200 and pair.ask() == "alpha"
    yield victims(pair, "child")
    assert pair.switch("alpha").status_code == 200


def test_a_model_whose_file_is_gone_is_refused_and_the_other_one_keeps_its_cache(
    pair: Pair, answering: list[int]
) -> None:
    file = pair.folder / "models/bravo.gguf"
    file.rename(file.with_suffix(".away"))
    try:
        answer = pair.switch("bravo")
        print(answer.status_code, answer.json())
        assert answer.status_code == 502 and "/models/bravo.gguf" in answer.json()["error"]
        assert victims(pair, "child") == answering and pair.ask() == "alpha"
        assert pair.get("/status")["state"] == "ready"
        direct = pair.llama.request("POST", "/v1/messages", {"model": "bravo", "max_tokens": 1, "messages": []})
        assert direct.status_code == 500 and "/models/bravo.gguf" in direct.text
    finally:
        file.with_suffix(".away").rename(file)
    assert pair.switch("bravo").status_code == 200


def test_a_model_whose_file_is_damaged_is_502_with_the_reason_and_the_other_one_is_back(
    pair: Pair, answering: list[int]
) -> None:
    file = pair.folder / "models/bravo.gguf"
    good = file.read_bytes()
    file.write_bytes(b"no model" + good[8:])
    try:
        answer = pair.switch("bravo")
        print(answer.status_code, answer.json())
        assert answer.status_code == 502 and any("magic" in line for line in answer.json()["log"])
        assert pair.ask() == "alpha" and pair.get("/status")["state"] == "ready"
    finally:
        file.write_bytes(good)
    assert pair.switch("bravo").status_code == 200


def test_with_a_full_disk_nothing_is_switched_and_nothing_is_forgotten(pair: Pair, answering: list[int]) -> None:
    before = pair.wish.read_text()
    # The small disk is the container's user's.
    fill = f"head -c 200k /dev/zero > {pair.wish.parent}/big; true"
    subprocess.run([*ROOT, "sh", "-c", fill], check=True, timeout=30, capture_output=True)
    try:
        answer = pair.switch("bravo")
        print(answer.status_code, answer.json())
        assert answer.status_code == 507 and "space" in answer.json()["error"]
        assert victims(pair, "child") == answering and pair.wish.read_text() == before
        assert pair.get("/status")["model"] == "alpha" and pair.post("/stop").status_code == 507
    finally:
        subprocess.run([*ROOT, "rm", pair.wish.parent / "big"], check=True, timeout=30)
    assert pair.switch("bravo").status_code == 200


def test_presets_that_llama_server_cannot_read_take_it_down_and_good_ones_bring_it_back(
    pair: Pair, answering: list[int]
) -> None:
    presets = pair.folder / "server/presets.ini"
    good = presets.read_text()
    presets.write_text(good + "no-such-flag = 1\n")
    try:
        pair.docker("restart", "--time", "2", pair.server.name)
        pair.until(lambda: pair.get("/status")["state"] == "down")
        answer = pair.switch("bravo")
        print(answer.status_code, answer.json(), pair.get("/status"))
        assert answer.status_code == 503 and "llama-server" in answer.json()["error"]
        pair.until(lambda: any("no-such-flag" in line for line in pair.switch("bravo").json()["log"]))
    finally:
        presets.write_text(good)
    # Docker waits longer from one restart to the next.
    pair.docker("restart", "--time", "2", pair.server.name)
    pair.until(lambda: pair.get("/status")["state"] == "ready")


def test_a_taken_port_is_named_and_the_server_comes_when_it_is_free(pair: Pair, answering: list[int]) -> None:
    pair.docker("stop", "--time", "2", pair.server.name)
    taker = subprocess.Popen(
        ["python3", "-m", "http.server", str(pair.server.port), "--bind", "127.0.0.1"],
        cwd=pair.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        pair.until(lambda: requests.get(f"http://127.0.0.1:{pair.server.port}", timeout=5).status_code == 200)
        said = pair.docker("start", pair.server.name)
        print(said)
        assert "address already in use" in said or "already allocated" in said
        assert pair.get("/status")["state"] == "down" and pair.switch("bravo").status_code == 503
        assert pair.get("/status")["model"] == "alpha"
    finally:
        taker.terminate()
        taker.wait(30)
    assert pair.docker("start", pair.server.name).strip() == pair.server.name
    pair.until(lambda: pair.get("/status")["state"] == "ready")


def test_stop_is_remembered_over_a_reboot_and_start_too(pair: Pair, answering: list[int]) -> None:
    def reboot() -> None:
        pair.docker("restart", "--time", "2", pair.server.name, pair.manager.name)
        pair.until(lambda: pair.get("/status")["state"] != "down")

    assert pair.post("/stop").status_code == 200
    reboot()
    # Longer than the management API waits before it looks after the server again.
    time.sleep(6)
    assert pair.get("/status")["state"] == "stopped" and victims(pair, "child") == []
    assert pair.post("/start").status_code == 200
    reboot()
    pair.until(lambda: pair.get("/status")["state"] == "ready" and len(victims(pair, "child")) == 1)
