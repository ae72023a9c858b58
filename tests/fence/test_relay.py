"""Connections that are carried between two network namespaces; here both ends are in this one."""

from __future__ import annotations

import hashlib
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from claude_local.fence.relay import relay

Handler = Callable[[socket.socket], None]


class Server:
    """Answers each connection with ``handle`` in a thread."""

    def __init__(self, handle: Handler) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address: tuple[str, int] = self.listener.getsockname()
        self.handle = handle
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                if self.listener.fileno() < 0:
                    return
                # One of the tests takes the descriptors away.
                time.sleep(0.05)
                continue
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            self.handle(connection)


@pytest.fixture
def through() -> Iterator[Callable[..., socket.socket]]:
    """Connects through a relay to a server that handles connections so."""
    opened: list[socket.socket] = []
    inside: dict[Handler, tuple[str, int]] = {}

    def connect(handle: Handler, timeout: float = 20) -> socket.socket:
        if handle not in inside:
            server = Server(handle)
            listener = socket.create_server(("127.0.0.1", 0), backlog=256)
            inside[handle] = listener.getsockname()
            relay(listener, server.address)
            opened.extend([server.listener, listener])
        connection = socket.create_connection(inside[handle], timeout=timeout)
        opened.append(connection)
        return connection

    yield connect
    for each in opened:
        each.close()


def echo(connection: socket.socket) -> None:
    while piece := connection.recv(65536):
        connection.sendall(piece)


def read_to_the_end(connection: socket.socket) -> bytes:
    found = bytearray()
    while piece := connection.recv(65536):
        found += piece
    return bytes(found)


def test_data_goes_both_ways(through: Callable[..., socket.socket]) -> None:
    connection = through(echo)
    for word in (b"one", b"two"):
        connection.sendall(word)
        assert connection.recv(100) == word


def test_large_data_goes_both_ways_at_once_and_unchanged(through: Callable[..., socket.socket]) -> None:
    connection = through(echo)
    data = b"".join(number.to_bytes(4, "big") for number in range(6 << 20 >> 2))

    def send() -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    found = read_to_the_end(connection)
    sender.join(timeout=10)
    assert hashlib.sha256(found).digest() == hashlib.sha256(data).digest()


def test_a_half_closed_connection_still_gets_its_answer(through: Callable[..., socket.socket]) -> None:
    def answer_at_the_end(connection: socket.socket) -> None:
        said = read_to_the_end(connection)
        time.sleep(0.2)
        connection.sendall(b"heard " + said)

    connection = through(answer_at_the_end)
    connection.sendall(b"all")
    connection.shutdown(socket.SHUT_WR)
    assert read_to_the_end(connection) == b"heard all"


def test_all_data_of_a_server_that_closes_first_arrives(through: Callable[..., socket.socket]) -> None:
    def goodbye(connection: socket.socket) -> None:
        connection.sendall(b"x" * 300_000)
        connection.shutdown(socket.SHUT_WR)
        read_to_the_end(connection)

    connection = through(goodbye)
    assert len(read_to_the_end(connection)) == 300_000


def test_an_unused_port_resets_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        closed = reserved.getsockname()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay(listener, closed)
        for _ in range(3):
            with pytest.raises(ConnectionResetError):  # noqa: SIM117 - connecting may raise it, too
                with socket.create_connection(listener.getsockname(), timeout=10) as connection:
                    connection.recv(1)


def test_many_connections_run_at_once(through: Callable[..., socket.socket]) -> None:
    connections = [through(echo) for _ in range(100)]
    for number, connection in enumerate(connections):
        connection.sendall(str(number).encode())
    assert [connection.recv(10) for connection in connections] == [str(number).encode() for number in range(100)]


def test_connections_over_the_limit_wait_and_are_answered() -> None:
    server = Server(echo)
    with server.listener, socket.create_server(("127.0.0.1", 0)) as listener:
        relay(listener, server.address, threading.BoundedSemaphore(2))
        first, second, third = (socket.create_connection(listener.getsockname(), timeout=10) for _ in range(3))
        for each in (first, second):
            each.sendall(b"x")
            assert each.recv(1) == b"x"
        third.sendall(b"y")
        third.settimeout(0.3)
        with pytest.raises(TimeoutError):
            third.recv(1)
        first.close()
        third.settimeout(10)
        assert third.recv(1) == b"y"
        second.close()
        third.close()


def test_the_relay_survives_a_lack_of_descriptors(through: Callable[..., socket.socket]) -> None:
    connection = through(echo)
    connection.sendall(b"x")
    assert connection.recv(1) == b"x"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    address = connection.getpeername()
    lost = [socket.socket() for _ in range(3)]
    try:
        # Less than are open: nobody gets another one.
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        for each in lost:
            each.settimeout(10)
            with suppress(ConnectionResetError):
                each.connect(address)
        time.sleep(0.3)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for each in lost:
        each.close()
    later = socket.create_connection(address, timeout=10)
    with later:
        later.sendall(b"z")
        assert later.recv(1) == b"z"


def test_a_slow_reader_slows_the_writer_down(
    through: Callable[..., socket.socket],
) -> None:
    sent = 0
    enough = threading.Event()

    def pour(connection: socket.socket) -> None:
        nonlocal sent
        connection.settimeout(1)
        try:
            while sent < 256 << 20:
                sent += connection.send(b"x" * 65536)
        except TimeoutError:
            pass
        enough.set()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connection = through(pour)
    assert enough.wait(60)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert sent < 64 << 20, "the kernel's buffers and ours take no more"
    assert grown < 32 << 20
    connection.close()


def test_the_server_notices_a_session_that_breaks_off(through: Callable[..., socket.socket]) -> None:
    gone = threading.Event()

    def wait_for_the_end(connection: socket.socket) -> None:
        connection.settimeout(10)
        try:
            while connection.recv(10):
                pass
        except ConnectionResetError:
            pass
        gone.set()

    connection = through(wait_for_the_end)
    connection.sendall(b"x")
    connection.close()
    assert gone.wait(60)


def test_an_idle_connection_costs_no_processor_time(through: Callable[..., socket.socket]) -> None:
    connection = through(echo)
    connection.sendall(b"x")
    assert connection.recv(1) == b"x"
    connection.shutdown(socket.SHUT_WR)
    stays = through(lambda each: time.sleep(5))
    stays.shutdown(socket.SHUT_WR)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.2
