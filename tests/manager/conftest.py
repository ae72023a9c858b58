from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.manager.scripted_router import ScriptedRouter, until
from tests.manager.stand import Manager


@pytest.fixture
def router() -> Iterator[ScriptedRouter]:
    with ScriptedRouter("small", "large", "broken") as router:
        router.fails.add("broken")
        yield router


@pytest.fixture
def manager(tmp_path: Path, router: ScriptedRouter) -> Iterator[Manager]:
    """The manager after its start: the default profile is loaded."""
    with Manager(tmp_path, router, drain=1.5) as manager:
        until(lambda: manager.state() == "ready")
        yield manager
