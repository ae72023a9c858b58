"""What all tests of the fence share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fence.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory with an empty workspace ``ws`` in it."""
    base = Path(os.path.realpath(tmp_path))
    (base / "ws").mkdir()
    return base


@pytest.fixture
def workspace(base: Path) -> Path:
    return base / "ws"
