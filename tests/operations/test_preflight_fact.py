"""Preflight's one look, on the real machine that runs the tests."""

import socket
from pathlib import Path

from claude_local.facts.preflight import PreflightFindings
from claude_local.facts.workstation import WorkstationIdentity
from tests.operations.strict_host import fact_on_this_machine


def test_it_sees_a_port_that_is_listened_on_and_files_and_disks(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(b"x" * 11)
    (tmp_path / "n.gguf.part").write_bytes(b"x" * 7)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        found = fact_on_this_machine(
            PreflightFindings(),
            container="no-such-container",
            files=[str(model), str(tmp_path / "n.gguf"), str(tmp_path / "missing.gguf")],
            runtime=str(tmp_path / "nothing"),
            paths=[str(tmp_path), str(tmp_path / "not" / "yet" / "there"), "/var/lib/docker"],
        )
        assert listener.getsockname()[1] in found["listen"]
    assert found["apt"] and not found["runtime"] and found["ours"] == []
    assert found["file"] == {str(model): 11, str(tmp_path / "n.gguf"): 7}
    assert set(found["mount"]) == {str(tmp_path), str(tmp_path / "not" / "yet" / "there"), "/var/lib/docker"}
    device, kind, free = found["mount"][str(tmp_path)]
    assert device and kind and free > 0


def test_the_identity_is_this_users() -> None:
    import os

    identity = fact_on_this_machine(WorkstationIdentity())
    assert identity["uid"] == os.getuid() and identity["home"] == os.environ["HOME"]
    assert identity["arch"] == os.uname().machine
