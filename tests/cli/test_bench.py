"""llama-local bench against a scripted server that tells its own timings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_local.bench.trials import SECTION
from claude_local.models.stored import sections
from claude_local.paths import Paths
from tests.cli.documented import example, lacks
from tests.cli.test_command_line import PROJECT, llama_local
from tests.manager.scripted_router import ScriptedRouter, until
from tests.manager.stand import TOKEN, Manager

PRESETS = (
    "version = 1\n\n[small]\nalias = claude-local\nmodel = /models/small.gguf\nctx-size = 32768\n"
    "cache-disk = /var/small\ntemp = 0\n\n[large]\nmodel = /models/large.gguf\nfit = on\n"
)


class Server(ScriptedRouter):
    """Reads ``prefill`` and writes ``decode`` tokens a second, and reads a longer prompt more slowly by ``attention``
    milliseconds for a token and each before it. It keeps the last prompt: in its slot, and in the file
    ``keeps`` when the model is unloaded."""

    prefill, decode, attention, busy_slot, window = 1000.0, 50.0, 0.0, False, 20000

    def __init__(self, *names: str) -> None:
        super().__init__(*names, load_seconds=0.3)
        self.slot: list[int] = []
        self.hold = threading.Event()
        self.hold.set()
        self.reading = threading.Event()
        self.read: list[tuple[str, int, bool]] = []
        self.keeps: Path | None = None
        self.stuck = self.tires = False
        self.presets = Path()
        # The section of a trial, and those that there were.
        self.trial: dict[str, str] = {}
        self.tried: list[dict[str, str]] = []

    def _answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        match path:
            case "/models/unload" if self.stuck:
                return 500, {"error": {"message": "it does not end"}}
            case "/models/unload" if self.keeps and self.read:
                self.keeps.write_bytes(bytes(24))
            case "/models" if query:
                self.trial = sections(self.presets.read_text()).get(SECTION, {})
                self.tried += [self.trial] if self.trial else []
                return 200, {"data": []}
            case "/props" if "claude-local-trial" in query.get("model", []) and self.trial.get("flash-attn") == "off":
                return 500, {"error": {"message": "[/no] flash attention"}}
            case "/slots":
                return 200, [{"id": 0, "is_processing": self.busy_slot}]
            case "/props" if query:
                return 200, {"default_generation_settings": {"n_ctx": self.window}, "build_info": "b11434"}
            case "/tokenize":
                return 200, {"tokens": list(range(9000))}
            case "/completion":
                self.reading.set()
                self.hold.wait(20)
                return 200, {"timings": self._timings(body)}
        return super()._answer(method, path, query, body)

    def _timings(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt, cached = body["prompt"], 0
        while body["cache_prompt"] and self.slot[cached : cached + 1] == prompt[cached : cached + 1] != []:
            cached += 1
        self.slot = prompt
        self.read.append((body["model"], len(prompt), body["cache_prompt"]))
        self.prefill *= 0.9 if self.tires else 1
        computed, decoded = len(prompt) - cached, body["n_predict"]
        prefill = self.prefill * (1.5 if self.trial.get("ubatch-size") == "1024" else 1)
        return {
            "cache_n": cached, "prompt_n": computed,
            "prompt_ms": computed / prefill * 1000 + self.attention * computed * len(prompt),
            "predicted_n": decoded, "predicted_ms": decoded / self.decode * 1000,
        }  # fmt: skip


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    paths = Paths(home=str(tmp_path), model_dir="", bin_dir="")
    placed = json.dumps({"profiles": {"large": {"tools": "lean"}}})
    for path, text in ((paths.token, TOKEN), (paths.profiles, placed), (paths.presets, PRESETS)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    with Server("small", "large") as server, Manager(tmp_path, server) as manager:
        server.presets = Path(paths.presets)
        until(lambda: manager.state() == "ready")
        yield manager


def ports(manager: Manager) -> list[str]:
    return ["--port", str(manager.port), "--server-port", manager.router.url.rpartition(":")[2]]


def bench(manager: Manager, *arguments: str) -> subprocess.CompletedProcess[str]:
    return llama_local(*ports(manager), "bench", *arguments, HOME=str(manager.folder))


def test_it_measures_another_profile_and_loads_the_active_one_again(manager: Manager) -> None:
    done = bench(manager, "large", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr == ""
    assert told["speeds"] == [{"tokens": size, "prefill": 1000.0, "decode": 50.0} for size in (512, 4096, 16384)]
    first = told["first_answer"]
    assert (first["tokens"], first["cold_seconds"], first["warm_cached"]) == (3324, 3.34, 3196), "the prompt of lean"
    assert first["warm_seconds"] == 0.15
    assert 0.1 < told["load_seconds"] < 3
    assert (told["profile"], told["build"], told["before"], told["losses"]) == ("large", "b11434", None, [])
    assert lacks({**example("bench"), "before": None, "tasks": None}, told) == []
    assert manager.router.alias() == "small" and manager.state() == "ready"
    assert {model for model, _, _ in manager.router.read} == {"large"}


def test_the_next_run_is_compared_and_a_loss_is_exit_status_1(manager: Manager) -> None:
    assert bench(manager, "--up-to", "512").returncode == 0
    manager.router.decode = 40.0
    done = bench(manager, "--up-to", "512")
    assert done.returncode == 1 and "decode at 512 tokens: 40.0/s, it was 50.0/s" in done.stdout
    assert "1,000.0/s, 50.0/s" in done.stdout, "the figures of the last time"
    saved = list((manager.folder / ".local/share/claude-local/state/bench").iterdir())
    assert [path.name for path in saved] == ["small--b11434.json"]
    assert json.loads(saved[0].read_text())["speeds"][0]["decode"] == 40.0


def test_a_small_window_is_measured_as_far_as_it_goes(manager: Manager) -> None:
    manager.router.window = 4096
    told = json.loads(bench(manager, "--json").stdout)
    assert [each["tokens"] for each in told["speeds"]] == [512]
    assert told["first_answer"] is None, "Claude Code's prompt does not fit"
    held = "the profile's window holds 4,096"
    left_out = ("4,096 tokens", "first answer after 5,047 tokens", "16,384 tokens")
    assert told["skipped"] == [{"what": what, "why": held} for what in left_out]


@pytest.mark.slow
def test_a_prompt_that_takes_more_than_five_minutes_is_measured_only_when_it_is_named(manager: Manager) -> None:
    manager.router.prefill = 40.0
    done = bench(manager, "large")
    assert done.returncode == 0 and "reading 3,324 tokens; about 5 minutes left" in done.stderr
    why = "not measured: 16,384 tokens: would take about 7 minutes; --up-to 16384 measures it\n"
    assert done.stdout.endswith(why)
    assert [size for _, size, _ in manager.router.read] == [512, 3324 - 128, 3324, 4096]
    bench(manager, "large", "--up-to", "16384")
    assert manager.router.read[-1][1] == 16384


@pytest.mark.slow
def test_the_longest_prompt_takes_what_the_growth_from_512_to_4096_tokens_says(manager: Manager) -> None:
    manager.router.attention = 0.002
    (left_out,) = json.loads(bench(manager, "large", "--json").stdout)["skipped"]
    assert left_out["why"] == "would take about 9 minutes; --up-to 16384 measures it"


@pytest.mark.slow
def test_its_own_prompts_are_not_kept_as_conversations(manager: Manager) -> None:
    folder = Path(Paths(home=str(manager.folder), model_dir="", bin_dir="").server_prompts)
    folder.mkdir(parents=True)
    names = [f"small-{'0' * 12}.{digit * 16}.{kind}" for digit, kind in (("1", "session"), ("2", "shared"))]
    for name in names:
        (folder / name).write_bytes(bytes(24))
    ours = folder / f"small-{'0' * 12}.{'3' * 16}.session"
    manager.router.keeps = ours
    assert bench(manager, "--up-to", "512").returncode == 0
    assert sorted(path.name for path in folder.iterdir()) == names


def test_while_a_session_is_answered_nothing_is_measured(manager: Manager) -> None:
    manager.router.busy_slot = True
    done = bench(manager)
    assert done.returncode == 1 and done.stderr.endswith("  Fix: llama-local status\n")
    assert manager.state() == "ready"


@pytest.mark.slow
def test_it_grades_tasks_through_claude_local(manager: Manager) -> None:
    wrapper = manager.folder / "bin/claude-local"
    wrapper.parent.mkdir()
    call = '{"type": "assistant", "message": {"content": [{"type": "tool_use", "id": "1", "name": "[/Read]"}]}}'
    answer = '{"type": "result", "result": "lantern.ts, curtain.ts", "usage": {"output_tokens": 9}}'
    wrapper.write_text(f"#!/bin/sh\n[ -e src/lantern.ts ] && echo '{call}' && echo '{answer}'\n")
    wrapper.chmod(0o755)
    done = bench(manager, "--up-to", "512", "--tasks", "--json")
    tasks = json.loads(done.stdout)["tasks"]
    assert [each["kind"] for each in tasks if not each["problem"]] == ["glob"]
    assert lacks(example("bench")["tasks"][0], tasks[0]) == [] and len(tasks) == 20
    assert done.returncode == 1 and len([each for each in tasks if each["fault"]]) == 19, "no result is a fault"
    shown = bench(manager, "--up-to", "512", "--tasks").stdout
    assert "[/Read] (error)" in shown, "a model may call tools by any name"
    assert "right: 1 open, 0 held out, of 20" in shown and "fault   explain: no result, exit status 1" in shown


def test_flags_are_tried_one_at_a_time_and_the_better_ones_are_told(manager: Manager) -> None:
    done = bench(manager, "--flags")
    assert done.returncode == 0
    assert done.stdout.endswith("in models.conf, below [small], then ./provision:\n  ubatch-size = 1024\n")
    assert "HTTP 500: [/no] flash attention" in done.stdout, "flags that do not load are no end"
    assert "as deployed" in done.stderr and " left\n" in done.stderr
    tried = manager.router.tried
    deployed = {"model": "/models/small.gguf", "ctx-size": "2048", "temp": "0", "cache-ram": "0"}
    assert tried[0] == tried[-1] == deployed, "with no alias, and nothing of it is kept in files"
    changes = [dict(each.items() - deployed.items()) for each in tried[1:-1]]
    assert {"ubatch-size": "256"} in changes and {"cache-type-k": "q8_0", "cache-type-v": "q8_0"} in changes
    assert all(len({key.removesuffix("-k").removesuffix("-v") for key in each}) == 1 for each in changes)
    assert manager.router.presets.read_text() == PRESETS and manager.router.trial == {}
    assert manager.router.alias() == "small" and manager.state() == "ready"
    told = json.loads(bench(manager, "--flags", "--json").stdout)
    assert lacks(example("bench --flags"), told) == []
    assert [each["flags"] for each in told["better"]] == [{"ubatch-size": "1024"}]
    manager.router.tires = True
    tired = bench(manager, "--flags")
    assert tired.returncode == 1 and tired.stderr.endswith("  Fix: llama-local bench --flags small\n")
    assert "as deployed" in tired.stdout and "models.conf" not in tired.stdout


def test_a_profile_on_a_gpu_and_a_busy_one_are_left_alone(manager: Manager) -> None:
    on_gpu = bench(manager, "large", "--flags")
    assert on_gpu.returncode == 1 and on_gpu.stderr.endswith("  Fix: llama-local bench\n")
    manager.router.busy_slot = True
    assert bench(manager, "--flags").stderr.endswith("  Fix: llama-local status\n")
    assert bench(manager, "--flags", "--tasks").returncode == 2
    assert manager.state() == "ready" and manager.router.tried == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [["large"], ["--flags"]])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_loads_the_active_model_again(manager: Manager, number: int, words: list[str]) -> None:
    manager.router.hold.clear()
    words = [sys.executable, "-m", "claude_local.cli", *ports(manager), "bench", *words]
    env = {**os.environ, "HOME": str(manager.folder), "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert manager.router.reading.wait(20)
        manager.router.stuck = True
        process.send_signal(number)
        assert process.wait(60) == 130
    manager.router.hold.set()
    assert manager.router.alias() == "small" and manager.state() == "ready"
    assert manager.router.presets.read_text() == PRESETS and manager.router.trial == {}
