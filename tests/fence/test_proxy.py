"""The proxy of a session's commands; both of its ends are in this network namespace."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.fence.proxy import proxy, request
from claude_local.fence.relay import HEAD


class Service:
    """A server on loopback that says what it was asked."""

    def __init__(self) -> None:
        heard = self.heard = list[str]()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                heard.append(f"{self.command} {self.path} {self.headers['Host']} {self.headers['Connection']}")
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"hello"
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def other() -> Iterator[Service]:
    found = Service()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def port(service: Service) -> Iterator[int]:
    """The proxy's, which leads to ``service``."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        proxy(listener, [service.port])
        yield listener.getsockname()[1]
        # Wakes what waits for the next connection: its place is free again.
        listener.shutdown(socket.SHUT_RDWR)


def said(port: int, words: bytes) -> bytes:
    """What comes back before the other end closes, or after the words that were waited for."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(words)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_a_request_reaches_an_allowed_port(service: Service, port: int, host: str) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    client.request("GET", f"http://{host}:{service.port}/props?model=x", headers={"Host": "elsewhere"})
    assert client.getresponse().read() == b"hello"
    assert service.heard == [f"GET /props?model=x {host}:{service.port} close"]
    # The next one goes through the same client, which sees that the connection is closed.
    client.request("POST", f"http://{host}:{service.port}/switch", body=b"x" * 3_000_000)
    assert client.getresponse().read() == b"x" * 3_000_000


def test_a_tunnel_reaches_an_allowed_port(service: Service, port: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    client.set_tunnel("127.0.0.1", service.port)
    for _ in range(2):
        client.request("GET", "/health")
        assert client.getresponse().read() == b"hello"
    assert service.heard == [f"GET /health 127.0.0.1:{service.port} None"] * 2


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "127.1", "2130706433", "127.0.0.2", "[::1]", "[::ffff:127.0.0.1]", "localhost.", "x@127.0.0.1",
             "127.0.0.1 ", "", "example.org"],
)  # fmt: skip
def test_other_host_names_are_refused(service: Service, port: int, host: str) -> None:
    for words in (f"GET http://{host}:{service.port}/x HTTP/1.1", f"CONNECT {host}:{service.port} HTTP/1.1"):
        assert said(port, words.encode() + b"\r\nHost: x\r\n\r\n").startswith((b"HTTP/1.1 403", b"HTTP/1.1 400"))
    assert service.heard == []


def test_other_ports_are_refused(service: Service, other: Service, port: int) -> None:
    """By its name, by the header, behind a request that is allowed, or in another protocol."""
    elsewhere = f"127.0.0.1:{other.port}".encode()
    here = f"127.0.0.1:{service.port}".encode()
    assert said(port, b"CONNECT " + elsewhere + b" HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 403 ")
    refused = said(port, b"GET http://" + elsewhere + b"/x HTTP/1.1\r\nHost: " + here + b"\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 403 ") and b"setting fence_ports" in refused
    second = b"GET http://" + elsewhere + b"/x HTTP/1.1\r\n\r\n"
    said(port, b"GET http://" + here + b"/x HTTP/1.1\r\nHost: " + elsewhere + b"\r\n\r\n" + second)
    assert other.heard == []


@pytest.mark.parametrize(
    "words",
    [b"GET / HTTP/1.1\r\n\r\n", b"hello\r\n\r\n", b"\r\n\r\n", b"x" * HEAD,
     b"CONNECT 127.0.0.1:http HTTP/1.1\r\n\r\n", b"CONNECT \xff:1 HTTP/1.1\r\n\r\n"],
)  # fmt: skip
def test_bad_requests_are_answered_as_such(port: int, words: bytes) -> None:
    assert said(port, words).startswith(b"HTTP/1.1 400 ")


def test_a_missing_server_is_reported(port: int, service: Service) -> None:
    service.server.shutdown()
    service.server.server_close()
    assert said(port, b"CONNECT localhost:%d HTTP/1.1\r\n\r\n" % service.port).startswith(b"HTTP/1.1 502 ")


def test_socks_is_refused_at_once(port: int) -> None:
    """Claude Code would start a proxy of its own for it; everything here is reached through HTTP."""
    assert said(port, b"\5\1\0") == b"\5\xff"


def test_headers_for_the_proxy_are_not_passed_on() -> None:
    head = (b"GET http://127.0.0.1:8080/v1/models HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic eA==\r\n"
            b"proxy-connection: keep-alive\r\nAccept: */*\r\nConnection: keep-alive")  # fmt: skip
    assert request(head) == (
        "127.0.0.1", 8080, b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nConnection: close\r\nAccept: */*",
    )  # fmt: skip
    assert request(b"CONNECT h HTTP/1.1") == ("h", 443, b"")
    assert request(b"GET http://h HTTP/1.0") == ("h", 80, b"GET / HTTP/1.0\r\nHost: h\r\nConnection: close")


@given(st.binary(max_size=200) | st.from_regex(rb"[A-Z]{3} http://[^ ]{0,20}:[0-9]{1,5}/? HTTP/1\.1(\r\n[a-z: ]*)*"))
def test_any_bytes_are_parsed_or_refused(head: bytes) -> None:
    try:
        host, port, _ = request(head)
    except ValueError:
        return
    assert isinstance(host, str) and 0 <= port < 100_000


def test_what_is_refused_is_told_before_the_client_knows() -> None:
    told = list[tuple[str, int]]()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        proxy(listener, [8080], refused=lambda host, port: told.append((host, port)))
        port = listener.getsockname()[1]
        reply = said(port, b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 403 ") and b"setting fence_domains" in reply
        assert told == [("pypi.org", 443)]
        listener.shutdown(socket.SHUT_RDWR)
