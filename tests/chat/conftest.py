"""Fixtures of the chat tests: Claude Code's requests, llama-server, the makers' templates."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from tests.chat import official, recorder
from tests.chat.recorder import Session
from tests.integration.machine import docker

CONTAINER = "claude-local-server"


@pytest.fixture(scope="session")
def sessions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Session]:
    """Requests of the real Claude Code, recorded now."""
    if "CLAUDE_LOCAL_TEST_CLAUDE" not in os.environ:
        request.getfixturevalue("claude_code")
    return recorder.record(tmp_path_factory.mktemp("claude"), recorder.claude_binary())


@pytest.fixture(scope="session")
def llama_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The llama-server of the deployed image, copied out of its container, or CLAUDE_LOCAL_TEST_LLAMA."""
    if named := os.environ.get("CLAUDE_LOCAL_TEST_LLAMA"):
        return Path(named)
    request.getfixturevalue("deployed")
    folder = tmp_path_factory.mktemp("llama")
    libraries = f"/usr/lib/{platform.machine()}-linux-gnu"
    for path in ("/opt/llama/llama-server", f"{libraries}/libgomp.so.1"):
        argv = [docker(), "cp", "--follow-link", f"{CONTAINER}:{path}", str(folder)]
        subprocess.run(argv, check=True, capture_output=True, timeout=120)
    return folder / "llama-server"


@pytest.fixture(scope="session")
def official_templates() -> Path:
    """The folder with the makers' templates."""
    return official.templates()
