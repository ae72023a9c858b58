from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the next look."""
    for name in ("ASK", "RETRY"):
        monkeypatch.setattr(f"claude_local.dashboard.feeds.{name}", 0.05)
