"""The addresses outside that a session reaches."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from claude_local.fence.config import FenceConfig
from claude_local.fence.network import relayed_addresses
from claude_local.fence.survey import Places


@pytest.fixture
def ide_home(tmp_path: Path) -> Places:
    for name, port in ((".claude", 4001), (".claude-local", 4002)):
        (tmp_path / name / "ide").mkdir(parents=True)
        (tmp_path / name / "ide" / f"{port}.lock").write_text(json.dumps({"pid": os.getpid()}))
    return Places(str(tmp_path), str(tmp_path / ".claude-local"), [], [])


def test_server_fence_ports_and_ides_are_relayed(ide_home: Places) -> None:
    found = relayed_addresses(FenceConfig(ports=(8081, 9000)), ide_home, "http://127.0.0.1:8080", {})
    assert found == [("127.0.0.1", port) for port in (8081, 9000, 8080, 4001, 4002)]


@pytest.mark.parametrize(
    ("server", "address"),
    [("http://localhost:1234", ("127.0.0.1", 1234)), ("http://[::1]:1234", ("::1", 1234)),
     ("http://127.0.0.7:1234/", ("127.0.0.7", 1234)), ("http://127.0.0.1", ("127.0.0.1", 80))],
)  # fmt: skip
def test_the_server_is_reached_at_its_own_address(tmp_path: Path, server: str, address: tuple[str, int]) -> None:
    places = Places(str(tmp_path), str(tmp_path), [], [])
    assert relayed_addresses(FenceConfig(), places, server, {}) == [address]
    assert relayed_addresses(FenceConfig(ports=(1234,)), places, "http://127.0.0.1:1234", {}) == [("127.0.0.1", 1234)]


def test_lock_files_behind_a_symlink_open_no_port(ide_home: Places) -> None:
    """A session could have made the link, and the file."""
    own = Path(ide_home.config_dir) / "ide"
    own.rename(own.with_name("planted"))
    own.symlink_to("planted")
    assert relayed_addresses(FenceConfig(), ide_home, "", {}) == [("127.0.0.1", 4001)]
