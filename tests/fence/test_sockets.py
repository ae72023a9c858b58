"""Which sockets are hidden."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from claude_local.fence import policy
from claude_local.fence.files import read_text
from claude_local.fence.plan import Fence
from claude_local.fence.sockets import bound_sockets, mask_sockets
from claude_local.fence.survey import Survey
from tests.fence.world import World, write


def test_listening_sockets_are_read_from_the_kernels_table(tmp_path: Path) -> None:
    path = str(tmp_path / "a socket")
    with socket.socket(socket.AF_UNIX) as bound, socket.socket(socket.AF_UNIX) as abstract:
        bound.bind(path)
        bound.listen()
        abstract.bind("\0a-claude-local-test")
        sockets = bound_sockets(read_text("/proc/net/unix"))
    assert path in sockets and not [each for each in sockets if "claude-local-test" in each and each != path]
    assert bound_sockets("") == []


def test_sockets_are_masked_where_nothing_hides_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only mount does not stop a connection."""
    monkeypatch.setattr(policy, "TMPFS", ())  # this test's directory lies in one of them
    names = ["open", "workspace/own", ".ssh/agent"]
    for name in names:
        (world.home / name).parent.mkdir(exist_ok=True)
    sockets = [socket.socket(socket.AF_UNIX) for _ in names]
    try:
        for each, name in zip(sockets, names, strict=True):
            each.bind(str(world.home / name))
        rows = "\n".join(
            f"0000: 00000002 00000000 00010000 0001 01 1234 {world.home / name}" for name in [*names, "gone"]
        )
        survey = Survey(fence=Fence(masked_directories=[str(world.home / ".ssh")]))
        mask_sockets(survey, "Num RefCount ...\n" + rows, [str(world.home / "workspace")])
    finally:
        for each in sockets:
            each.close()
    assert survey.fence.masked_files == [str(world.home / "open")]


def kernels_table() -> str:
    return read_text("/proc/net/unix")


def test_an_ssh_control_socket_is_masked_under_its_new_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSH binds a temporary name, links it to the real one and removes it (muxserver_listen in its mux.c)."""
    monkeypatch.setattr(policy, "TMPFS", ())
    there = world.home / "masters"
    there.mkdir()
    write(there / "a-file")
    with socket.socket(socket.AF_UNIX) as master:
        master.bind(str(there / "host-22.XyZ"))
        master.listen()
        (there / "host-22").hardlink_to(there / "host-22.XyZ")
        (there / "host-22.XyZ").unlink()
        survey = Survey()
        mask_sockets(survey, kernels_table(), [])
    assert [path for path in survey.fence.masked_files if path.startswith(str(world.home))] == [str(there / "host-22")]


def test_a_socket_that_was_bound_by_a_relative_path_is_masked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "TMPFS", ())
    bind = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('a.sock'); s.listen(); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", bind], cwd=world.home, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as it:
        assert it.stdout is not None and it.stdout.readline() == b"\n"
        survey = Survey()
        mask_sockets(survey, kernels_table(), [])
        it.communicate(b"\n", timeout=60)
    assert str(world.home / "a.sock") in survey.fence.masked_files
