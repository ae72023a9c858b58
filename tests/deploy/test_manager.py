"""The manager stage: what its container is made anew for, and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from claude_local.deploy.operations import manager
from claude_local.docker.commands import UNSIGNED
from claude_local.paths import Paths
from tests.deploy.strict_host import StrictHost, run
from tests.deploy.test_server import CLIENT, existing
from tests.manager.test_container import CONTAINER

PATHS = Paths(home="/home/u", model_dir="/models", bin_dir="/home/u/bin")
RUNTIME = {"files": "a", "venv": "b"}
BEFORE = CONTAINER.config({**RUNTIME, "api-key": "key"})


def commands(monkeypatch: Any, runtime: dict[str, str], key: str, state: str = "running") -> list[str]:
    host = StrictHost({
        "DockerClient": CLIENT, "RuntimeStamp": runtime, "Hashes": {"api-key": key},
        "DockerContainer": existing(state, BEFORE),
    })  # fmt: skip
    return run(monkeypatch, manager.run_container, host, container=CONTAINER, paths=PATHS)


def test_a_container_that_runs_unchanged_is_left_alone(monkeypatch: Any) -> None:
    assert commands(monkeypatch, RUNTIME, "key") == []


@pytest.mark.parametrize(
    ("runtime", "key"), [({"files": "new", "venv": "b"}, "key"), (RUNTIME, "another key")], ids=["program", "key"]
)
def test_another_program_or_key_makes_it_anew_and_waits(monkeypatch: Any, runtime: dict[str, str], key: str) -> None:
    made, waited = commands(monkeypatch, runtime, key)
    assert "rm --force manager" in made and f"{' '.join(UNSIGNED)} /usr/bin/docker run" in made
    assert "http://127.0.0.1:18081/status" in waited and "logs --tail 20 manager" in waited


def test_an_image_that_exists_is_not_built(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": {"Id": "sha256:1"}})
    arguments = {"tag": "claude-local/manager:1", "dockerfile": "FROM x", "base": "x", "paths": PATHS}
    assert run(monkeypatch, manager.image, host, **arguments) == []
