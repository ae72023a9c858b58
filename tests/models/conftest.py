"""A loopback server and a desk for each test of placing models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.model_server import ModelServer
from tests.models.placement_desk import Desk, prepared


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """A server on loopback."""
    with ModelServer() as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk whose hub is the server."""
    return prepared(tmp_path, server.url, monkeypatch)
