"""The installed llama-local in ~/bin, on the runtime's own Python."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from claude_local.bench.trials import SECTION, Trials
from claude_local.server.client import LlamaClient
from tests.integration.machine import HOME, SHARE

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

PROJECT = Path(__file__).parents[2]


def llama_local(*words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    env = {"PATH": f"{HOME}/bin:{os.environ['PATH']}"}
    words = (str(HOME / "bin" / "llama-local"), *words)
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout, cwd="/", env=env)


def told(*words: str) -> Any:
    """The JSON of a command that ends with status 0 and says nothing else."""
    done = llama_local(*words, "--json")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return json.loads(done.stdout)


def test_the_installed_command_describes_this_machine() -> None:
    found = told("hardware")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024**2
    assert found["hardware"]["memory_mib"] == memory
    assert found["verdict"]["variant"] in ("cpu", "cuda", "vulkan") and found["verdict"]["reason"]


def test_after_a_deploy_status_and_doctor_find_nothing_wrong() -> None:
    status = told("status")
    assert status["wrong"] == [] and status["state"] in ("ready", "idle", "loading")
    assert told("doctor") == {"findings": []}
    profiles = told("models")["profiles"]
    assert profiles and all(each["verified"] and each["fit"]["reason"] for each in profiles)
    assert [each["id"] for each in profiles if each["active"]] == [status["model"]]


def test_update_finds_that_this_checkout_is_deployed() -> None:
    assert told("update", str(PROJECT)) == {"checkout": str(PROJECT), "changes": [], "programs": []}


def test_the_timings_of_a_bench_are_the_servers_own() -> None:
    (small,) = [each["id"] for each in told("models")["profiles"] if each["id"].endswith("0.5b")]
    began = time.monotonic()
    done = llama_local("bench", small, "--up-to", "4000", "--json", timeout=300)
    seconds = time.monotonic() - began
    assert done.returncode in (0, 1), done.stderr
    run = json.loads(done.stdout)
    first, (speed,) = run["first_answer"], run["speeds"]
    assert first["warm_cached"] >= first["tokens"] - 256 and 0 < first["warm_seconds"] < first["cold_seconds"]
    assert run["load_seconds"] > 0 and first["cold_seconds"] + 512 / speed["prefill"] + 48 / speed["decode"] < seconds
    assert speed["prefill"] > speed["decode"] > 0


def test_a_trial_of_a_flag_runs_in_the_deployed_server_and_leaves_nothing() -> None:
    (small,) = [each["id"] for each in told("models")["profiles"] if each["id"].endswith("0.5b")]
    presets, token = SHARE / "server/presets.ini", (HOME / ".config/claude-local/token").read_text().strip()
    before, server = presets.read_bytes(), LlamaClient("http://127.0.0.1:8080", token)
    with Trials(server, presets, small) as trying:
        trial = trying.run({"ubatch-size": "256"})
        assert server.router()[SECTION].ready
        assert trying.run({"model": "/models/missing.gguf"}).problem
    assert trial.prefill and trial.decode and trial.prefill > trial.decode
    assert presets.read_bytes() == before and SECTION not in server.router()
