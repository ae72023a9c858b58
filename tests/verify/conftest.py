"""The workbench of the tests that play Claude Code's sessions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from claude_local.verify import network
from claude_local.verify.session import Session
from claude_local.verify.temporary_home import TemporaryHome
from claude_local.verify.workbench import Workbench
from tests.verify.played import Play
from tests.verify.verify_lab import deployed


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Play], Workbench]:
    """A workbench whose sessions are played by a function instead of Claude Code."""

    def make(play: Play) -> Workbench:
        def claude(
            self: TemporaryHome, *arguments: str, timeout: float, server: str | None = None, watched: bool = False
        ) -> Session:
            return play(self, arguments, server)

        monkeypatch.setattr(TemporaryHome, "claude", claude)
        monkeypatch.setattr(network, "strace_works", lambda directory: False)
        return deployed(tmp_path / "home")

    return make
