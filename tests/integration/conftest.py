"""What several of the integration tests start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.fenced_home import Person


@pytest.fixture
def work(who: Person, tmp_path: Path) -> Path:
    """A new workspace of the person whom the test's module calls ``who``."""
    return who.workspace(f"work-{tmp_path.name}")
