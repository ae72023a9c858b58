"""The network peers of a program, and the digests of a directory tree."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from claude_local.verify import network, processes
from claude_local.verify.fingerprint import differences, fingerprint
from claude_local.verify.network import from_strace
from tests.verify.verify_lab import deployed, write

STRACE = """\
101 connect(17, {sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("127.0.0.1")}, 16) = -1 EINPROGRESS
101 connect(5, {sa_family=AF_UNIX, sun_path="/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)
102 sendto(5, ""..., 20, 0, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 20
102 sendto(6, ""..., 28, MSG_NOSIGNAL, \
{sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.53")}, 16) = 28
103 sendmsg(6, {msg_name={sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), \
inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, msg_namelen=28, msg_iov=NULL}, 0) = 0
103 connect(7, {sa_family=AF_INET6, sin6_port=htons(8080), sin6_flowinfo=htonl(0), \
inet_pton(AF_INET6, "::ffff:127.0.0.1", &sin6_addr), sin6_scope_id=0}, 28) = 0
104 sendto(9, "GET / HTTP/1.1"..., 14, MSG_NOSIGNAL, NULL, 0) = 14
105 io_uring_setup(8, {flags=0}) = -1 ENOSYS (Function not implemented)
"""


def test_stracess_output_becomes_peers() -> None:
    found = from_strace(STRACE.splitlines())
    assert found.peers == {("127.0.0.1", 8080): 2, ("10.0.0.53", 53): 1, ("2001:db8::1", 443): 1}
    assert found.other_than(8080) == ["10.0.0.53:53", "[2001:db8::1]:443"]
    assert not found.uring
    assert from_strace(["1 io_uring_setup(8, {flags=0}) = 5"]).uring


CONNECTS = "import socket, time; s = socket.create_connection(('127.0.0.1', {port})); time.sleep(1.5)"


@pytest.mark.slow
@pytest.mark.parametrize("use_strace", [True, False])
def test_a_real_connection_is_recorded(tmp_path: Path, use_strace: bool) -> None:
    if use_strace and not network.strace_works(tmp_path):
        pytest.skip("strace cannot be used here")
    with socket.create_server(("127.0.0.1", 0)) as listening, deployed(tmp_path) as bench:
        port = listening.getsockname()[1]
        record = network.PeerRecord(tmp_path / "peers", bench.marker, use_strace=use_strace)
        argv = [*record.prefix(), sys.executable, "-c", CONNECTS.format(port=port)]
        assert processes.run(argv, timeout=20, env=bench.environment()).ok
        found = record.stop()
    assert set(found.peers) == {("127.0.0.1", port)}
    assert found.other_than(port) == [] == found.other_than(1, port) and found.other_than(1) == [f"127.0.0.1:{port}"]


# --- fingerprints ---------------------------------------------------------------------------------------------------


def test_a_fingerprint_sees_content_links_directories_and_what_is_new(tmp_path: Path) -> None:
    write(tmp_path / "a/one", "1")
    (tmp_path / "a/link").symlink_to("one")
    before = fingerprint(tmp_path / "a", tmp_path / "absent")
    os.utime(tmp_path / "a/one")
    assert differences(before, fingerprint(tmp_path / "a", tmp_path / "absent")) == []
    write(tmp_path / "a/one", "2")
    (tmp_path / "a/link").unlink()
    (tmp_path / "a/stub").mkdir()
    assert differences(before, fingerprint(tmp_path / "a", tmp_path / "absent")) == [
        f"~ {tmp_path}/a/one", f"- {tmp_path}/a/link", f"+ {tmp_path}/a/stub",
    ]  # fmt: skip


def test_a_fingerprint_of_a_big_tree_stays_cheap(tmp_path: Path) -> None:
    write(tmp_path / "big", "x" * 100)
    assert "100 bytes of" in fingerprint(tmp_path / "big", budget=10)[str(tmp_path / "big")]
