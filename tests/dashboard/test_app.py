"""The dashboard under textual's pilot: a right picture of each state, its keys, and what goes wrong around it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_local.cli.containers import DockerFailed
from tests.dashboard.scenes import CODER, NEXT, READY, SCENES, Scene, models, slot, status, turn
from tests.dashboard.stage import Stage, stage

pytestmark = pytest.mark.slow


def play(scene: Scene, folder: Path, act: Callable[[Stage], Awaitable[None]], **more: Any) -> None:
    """Show the scene, and let ``act`` press keys and look."""

    async def go() -> None:
        async with stage(scene, folder, **more) as shown:
            await act(shown)

    asyncio.run(go())


@pytest.mark.parametrize(
    ("name", "panel", "words"),
    [
        ("answering", "model", ("● ready", "Qwen3 Coder 30B A3B", "65,536 tokens", "14,021 used (21%)")),
        (
            "answering",
            "machine",
            ("0 RTX 4090  87%  64 °C  318 of 450 W", "█ weights", "▓ KV", "▒ compute", "░ others"),
        ),
        ("answering", "sessions", ("~/src/shop", "96 tokens, 41.0 tokens/s")),
        ("answering", "fence", ("✓ outer", "✓ inner", "setting fence_domains")),
        ("reading", "sessions", ("8,200 / 12,900", "4 s left", "4,100 of them from the cache")),
        ("loading", "model", ("◔ loading", "43%")),
        ("switching", "model", ("⇄ switching", "Qwen3 Coder Next 80B A3B: loading", "43%, 21 s left", "llama-local")),
        ("stopped", "model", ("■ stopped", "s starts it")),
        ("stopped", "sessions", ("no session runs",)),
        ("failed", "model", ("✗ failed", "failed to load", "m loads another model")),
        ("failed", "verify", ("✗ 1 of 81 checks failed", "server.way_out", "./provision")),
        ("server-down", "model", ("✗ down", "nothing listens", "r restarts llama-server")),
        ("manager-gone", "model", ("✗ manager gone", "nothing listens", "sudo docker start claude-local-manager")),
        ("docker-gone", "model", ("✗ docker gone", "sudo systemctl start docker")),
        ("no-gpu", "machine", ("CPU 93% of 8 cores", "no GPU", "9.0 of 32.0 GiB", "█ weights 1.0")),
    ],
)
def test_each_state_has_a_right_picture(name: str, panel: str, words: tuple[str, ...], tmp_path: Path) -> None:
    async def act(shown: Stage) -> None:
        text = shown.panel(panel)
        assert all(word in text for word in words), text

    play(SCENES[name], tmp_path, act)


@pytest.mark.parametrize(("size", "beside"), [((100, 30), True), ((99, 60), False), ((60, 60), False)])
def test_two_panes_from_100_columns_and_one_below_the_other_under_it(
    size: tuple[int, int], beside: bool, tmp_path: Path
) -> None:
    async def act(shown: Stage) -> None:
        model, log = shown.app.panels["model"].region, shown.app.log_view.region
        assert (log.y == model.y and log.x > model.x) if beside else (log.y > model.y and log.x == model.x)
        keys = shown.screen.splitlines()[-1]
        assert all(f"{key} " in keys for key in "ml/sr?q") and "quit" in keys

    play(Scene(READY, size=size), tmp_path, act)


@pytest.mark.parametrize("size", [(59, 40), (120, 19)])
def test_a_small_window_gets_a_word(size: tuple[int, int], tmp_path: Path) -> None:
    async def act(shown: Stage) -> None:
        assert "60 columns and 20 lines" in shown.screen and "ready" not in shown.screen

    play(Scene(READY, size=size), tmp_path, act)


def test_the_picker_shows_fit_size_and_cost_and_enter_switches(tmp_path: Path) -> None:
    async def act(shown: Stage) -> None:
        assert shown.manager
        done = {"model": NEXT, "ctx_size": 32768, "previous_ctx_size": 65536, "seconds": {"loading": 1.0}}
        shown.manager.answers["/switch"] = 200, done
        await shown.open_picker()
        for words in ("18.6 GB, loads in 12 s", "✓ fits wholly", "✗ does not fit on the GPUs: 12.0 GiB short"):
            assert words in shown.screen
        await shown.press("down", "enter")
        await shown.until(lambda: "32,768 tokens of context, 65,536 before" in shown.message)
        assert shown.manager.posts == [("/switch", {"model": NEXT})]
        await shown.open_picker()
        await shown.press("escape")
        assert len(shown.manager.posts) == 1

    play(SCENES["answering"], tmp_path, act)


def test_stop_asks_and_start_does_not(tmp_path: Path) -> None:
    async def act(shown: Stage) -> None:
        assert shown.manager
        for key in ("n", "escape"):
            await shown.press("s")
            assert "Unload the model" in shown.screen
            await shown.press(key)
        assert shown.manager.posts == []
        await shown.press("s", "y")
        await shown.until(lambda: "✓ no model is loaded" in shown.message)
        shown.manager.status = status("stopped")
        await shown.until(lambda: shown.app.picture.state == "stopped")
        shown.manager.answers["/start"] = 200, {"model": CODER, "ctx_size": 65536, "seconds": {}}
        await shown.press("s")
        await shown.until(lambda: f"✓ {CODER} answers" in shown.message)
        assert [path for path, _ in shown.manager.posts] == ["/stop", "/start"]

    play(SCENES["answering"], tmp_path, act)


def test_restart_asks_and_a_failure_of_docker_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def docker(*words: str, password: bool) -> str:
        asked.append((words, password))
        raise DockerFailed("Cannot connect to the Docker daemon")

    monkeypatch.setattr("claude_local.dashboard.app.docker", docker)

    async def act(shown: Stage) -> None:
        await shown.press("r")
        assert "Restart llama-server" in shown.screen and asked == []
        await shown.press("y")
        await shown.until(lambda: "✗ Cannot connect to the Docker daemon" in shown.message)
        assert asked == [(("restart", "claude-local-server"), False)]

    play(SCENES["answering"], tmp_path, act)


def test_cancel_is_offered_during_a_switch_only(tmp_path: Path) -> None:
    async def act(shown: Stage) -> None:
        assert shown.manager
        assert "c cancel" in shown.screen.splitlines()[-1]
        await shown.press("c")
        await shown.until(lambda: shown.manager and shown.manager.posts == [("/switch/cancel", {})])
        shown.manager.status = status()
        await shown.until(lambda: shown.app.picture.state == "ready")
        await shown.settle()
        await shown.settle()
        assert "quit" in shown.screen.splitlines()[-1] and "cancel" not in shown.screen.splitlines()[-1]

    play(SCENES["switching"], tmp_path, act)


def test_a_refused_switch_is_a_line(tmp_path: Path) -> None:
    async def act(shown: Stage) -> None:
        assert shown.manager
        shown.manager.answers["/switch"] = 502, {"error": "it failed to load", "log": []}
        await shown.open_picker()
        await shown.press("enter")
        await shown.until(lambda: "✗ it failed to load" in shown.message)

    play(SCENES["answering"], tmp_path, act)


def test_a_switch_that_a_session_could_not_follow_asks_first(tmp_path: Path) -> None:
    async def act(shown: Stage) -> None:
        assert shown.manager
        refused = {"error": "it takes 5 tokens, but the session in ~/shop has 9", "fix": "/compact", "sessions": [{}]}
        shown.manager.answers["/switch"] = 409, refused
        for key in ("n", "y"):
            await shown.open_picker()
            await shown.press("enter")
            await shown.until(lambda: "the session in ~/shop has 9" in shown.screen and "y yes" in shown.screen)
            await shown.press(key)
            await shown.until(lambda: "✗ it takes 5 tokens" in shown.message and "/compact" in shown.message)
            shown.app.say("")
        assert shown.manager.posts == [
            ("/switch", {"model": CODER}), ("/switch", {"model": CODER}), ("/switch", {"model": CODER, "force": True})
        ]  # fmt: skip

    play(SCENES["answering"], tmp_path, act)


def test_search_filter_and_lines_outlive_a_restart_of_the_management_api(tmp_path: Path) -> None:
    async def act(shown: Stage) -> None:
        log, manager = shown.app.log_view, shown.manager
        assert manager
        await shown.press("slash", *"eval time", "enter")
        assert "8 lines" in str(log.border_subtitle) and "eval time" in log.shown[log.current]
        last = log.current
        await shown.press("N")
        assert log.current < last
        await shown.press("f")
        assert len(log.shown) == 8
        await asyncio.to_thread(manager.__exit__)
        await shown.until(lambda: shown.app.picture.state == "manager gone")
        more = turn(9, "LRU, t_last = 5", 900, 3, 902)
        told = {**(SCENES["search"].told or {}), "log": [*manager.log, *more]}
        with type(manager)(manager.port, **told):
            await shown.until(lambda: len(log.shown) == 10)
            assert shown.app.picture.state == "ready"
            assert shown.app.picture.turns[-1].computed == 900
            await shown.press("slash", *(["backspace"] * 9), "enter")
            assert len(log.shown) == len([line for line in told["log"] if "proxy_reques" not in line])

    play(replace(SCENES["search"], keys=()), tmp_path, act)


def test_scrolling_back_stays_where_it_is_while_lines_come(tmp_path: Path) -> None:
    async def act(shown: Stage) -> None:
        log, manager = shown.app.log_view, shown.manager
        assert manager and log.scroll_y == log.max_scroll_y > 0
        await shown.press("home")
        manager.log += [f"line {number}" for number in range(50)]
        await shown.until(lambda: log.lines[-1] == "line 49")
        assert log.scroll_y == 0
        await shown.press("end")
        manager.log.append("one more")
        await shown.until(lambda: log.lines[-1] == "one more")
        await shown.until(lambda: log.scroll_y == log.max_scroll_y)

    play(Scene(READY, size=(120, 24)), tmp_path, act)


def test_no_error_around_it_ends_it(tmp_path: Path) -> None:
    async def act(shown: Stage) -> None:
        assert shown.manager and "sessions" not in shown.message
        real = shown.app.feeds.manager.get
        shown.app.feeds.manager.get = broken  # type: ignore[method-assign]
        await shown.until(lambda: "✗ KeyError: 'models'" in shown.message)
        shown.manager.status = status("down", "it is gone")
        await shown.until(lambda: "✗ down" in shown.panel("model"))
        shown.app.feeds.manager.get = real  # type: ignore[method-assign]
        shown.manager.models = models(state="loading")
        await shown.until(lambda: shown.app.picture.models[0]["state"] == "loading")

    async def broken(path: str) -> Any:
        raise KeyError("models")

    play(Scene({"status": status(), "models": models()}), tmp_path, act)


def test_a_sleeping_model_is_shown_and_not_asked(tmp_path: Path) -> None:
    async def act(shown: Stage) -> None:
        assert shown.manager and "☾ sleeping" in shown.panel("model")
        assert set(shown.manager.asked) == {"events", "logs", "models", "sessions"}

    play(Scene({"status": status(), "models": models(state="sleeping")}), tmp_path, act)


def test_nothing_but_ascii_where_the_terminal_shows_no_more(tmp_path: Path) -> None:
    async def act(shown: Stage) -> None:
        assert "* ready" in shown.screen and shown.screen.isascii(), re.findall(r"[^\x00-\x7f]", shown.screen)
        await shown.open_picker()
        assert shown.screen.isascii()
        for key in ("escape", "question_mark", "escape", "slash"):
            await shown.press(key)
            assert shown.screen.isascii()

    play(Scene({**READY, "slots": [slot(prompt=9, processed=4)]}), tmp_path, act, ascii_only=True)
