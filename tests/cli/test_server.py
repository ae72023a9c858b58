"""llama-local status, switch, start, stop, logs: against the management API over a scripted router."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_local.paths import Paths
from tests.cli.documented import example, lacks
from tests.cli.test_command_line import llama_local
from tests.manager.scripted_router import ScriptedRouter, until
from tests.manager.stand import TOKEN, Manager, report, running


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    paths = Paths(home=str(tmp_path), model_dir="", bin_dir="")
    Path(paths.token).parent.mkdir(parents=True)
    Path(paths.token).write_text(TOKEN)
    with ScriptedRouter("small", "large", "broken", load_seconds=0.5) as router:
        router.fails.add("broken")
        with Manager(tmp_path, router) as manager:
            until(lambda: manager.state() == "ready")
            yield manager


def run(manager: Manager, *arguments: str) -> subprocess.CompletedProcess[str]:
    return llama_local("--port", str(manager.port), *arguments, HOME=str(manager.folder))


def test_status_fits_a_screen_and_tells_what_the_model_does(manager: Manager) -> None:
    manager.router.models["large"]["status"] = {"value": "loaded"}
    done = run(manager, "status")
    assert done.returncode == 0 and len(done.stdout.splitlines()) < 20
    assert "Small (small), 5,000 tokens of context" in done.stdout
    assert "slot      reads a prompt: 40 of 100 tokens" in done.stdout
    assert "slot      large: reads a prompt: 40 of 100 tokens" in done.stdout
    assert "large (in memory), broken" in done.stdout


def test_status_as_json_has_everything(manager: Manager) -> None:
    told = json.loads(run(manager, "status", "--json").stdout)
    assert (told["model"], told["state"], told["sessions"]) == ("small", "ready", [])
    assert [each["id"] for each in told["models"]] == ["small", "large", "broken"]
    assert told["slots"][0]["prompt"] == 100
    assert lacks(example("status"), told) == []


@pytest.mark.slow
def test_switch_says_what_answers_now(manager: Manager) -> None:
    done = run(manager, "switch", "large")
    assert done.returncode == 0 and done.stdout.startswith("large answers after ")
    assert manager.router.alias() == "large"
    answer = json.loads(run(manager, "switch", "small", "--json").stdout)
    assert answer["previous"] == "large" and lacks(example("switch"), {**answer, "seconds": None}) == []


@pytest.mark.slow
def test_a_switch_that_fails_shows_the_servers_lines_and_the_fix(manager: Manager) -> None:
    done = run(manager, "switch", "broken")
    assert done.returncode == 1 and "broken failed to load\n  Fix: llama-local status" in done.stderr
    assert "  ready" in done.stderr.splitlines(), "the log's last lines"


@pytest.mark.slow
def test_a_switch_that_a_session_could_not_follow_names_it_and_can_be_forced(manager: Manager) -> None:
    with running(manager, ("/home/a/app", "")) as (process,):
        report(manager, process, 9_109)
        refused = run(manager, "switch", "large")
        assert refused.returncode == 1 and "the session in /home/a/app has 9,109" in refused.stderr
        assert "llama-local switch large --force" in refused.stderr.splitlines()[-1]
        assert run(manager, "switch", "large", "--force").returncode == 0


def test_a_management_api_from_before_a_path_asks_for_provision(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = manager.app.router.routes
    monkeypatch.setattr(manager.app.router, "routes", [each for each in routes if each.path != "/sessions"])
    done = run(manager, "status")
    assert done.returncode == 1 and "older than this llama-local" in done.stderr
    assert done.stderr.endswith("Fix: ./provision\n")


def test_an_unknown_profile_names_the_known_ones(manager: Manager) -> None:
    done = run(manager, "switch", "huge")
    assert done.returncode == 1 and "small, large, broken" in done.stderr
    done = run(manager, "switch")
    assert done.returncode == 2 and done.stderr.endswith("Fix: llama-local switch small    (or large, broken)\n")


def test_stop_and_start_without_a_terminal(manager: Manager) -> None:
    assert run(manager, "stop").returncode == 0 and manager.state() == "stopped"
    assert run(manager, "start").stdout.startswith("small answers") and manager.state() == "ready"


def test_the_log_is_read_without_the_management_api(tmp_path: Path) -> None:
    log = Path(Paths(home=str(tmp_path), model_dir="", bin_dir="").server_log)
    assert llama_local("logs", HOME=str(tmp_path)).returncode == 3
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\n")
    assert llama_local("logs", "-n", "1", HOME=str(tmp_path)).stdout == "two\n"
    assert llama_local("logs", "-n", "1", "--json", HOME=str(tmp_path)).stdout == '{"line": "two"}\n'


def test_without_an_answer_the_fix_starts_both_containers(tmp_path: Path, manager: Manager) -> None:
    done = llama_local("--port", "1", "--container", "mine-server", "status", HOME=str(manager.folder))
    assert done.returncode == 3 and done.stderr.endswith("Fix: sudo docker start mine-server mine-manager\n")
