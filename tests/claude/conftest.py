"""Fixtures of the wrapper's tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_local.verify.scripted_backend import ScriptedBackend
from tests.claude.wrapper_home import TOKEN, Home


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        return int(reserved.getsockname()[1])


@pytest.fixture
def home(tmp_path: Path, closed_port: int) -> Home:
    return Home(tmp_path / "a home with spaces", closed_port)


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    with ScriptedBackend(n_ctx=32768, token=TOKEN, models=["claude-local", "small", "large"]) as running:
        yield running
