"""Facts that several operations need are asked once, until an operation changes what they say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from claude_local.deploy.facts.docker import DockerClient, DockerImage
from claude_local.deploy.operations import known
from claude_local.deploy.operations.docker import client, install, start
from tests.deploy.strict_host import StrictHost, run, use

WORKS = {"client": "/usr/bin/docker", "buildkit": True, "version": "28", "daemon": True, "dockerd": True}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> StrictHost:
    made = StrictHost({"DockerClient": lambda: dict(WORKS), "DockerImage": lambda reference: {"Id": reference}})
    use(monkeypatch, made)
    return made


def test_a_fact_is_asked_once_for_each_of_its_arguments_and_each_user(host: StrictHost) -> None:
    for _ in range(2):
        assert client() == "/usr/bin/docker"
        for name in ("a", "b"):
            assert known.ask(DockerImage, reference=name) == {"Id": name}
        known.ask(DockerClient, _sudo=True)
    assert [name for name, _ in host.asked] == ["DockerClient", "DockerImage", "DockerImage", "DockerClient"]


def test_it_is_asked_again_when_an_operation_changes_it(monkeypatch: Any, host: StrictHost) -> None:
    host.facts |= {"DockerClient": lambda: {**WORKS, "daemon": False}, "DockerUnit": False}
    run(monkeypatch, install, host, distro="debian", codename="bookworm")
    assert run(monkeypatch, start, host)
    host.facts["DockerClient"] = dict(WORKS)
    assert known.ask(DockerClient)["daemon"]
    assert [name for name, _ in host.asked].count("DockerClient") == 2


def test_what_a_plan_was_made_with_is_asked_again_when_it_runs(
    monkeypatch: pytest.MonkeyPatch, host: StrictHost
) -> None:
    for executing in (False, True):
        monkeypatch.setattr(known, "state", SimpleNamespace(is_executing=executing, check_for_changes=True))
        client()
        client()
    assert len(host.asked) == 2


def test_each_machine_has_its_own_answers(monkeypatch: pytest.MonkeyPatch, host: StrictHost) -> None:
    client()
    use(monkeypatch, StrictHost({"DockerClient": {**WORKS, "client": "/opt/docker"}}))
    assert client() == "/opt/docker"
