"""llama-local open: the address of llama-server's page, or why there is none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cli.documented import example, lacks
from tests.cli.test_command_line import llama_local


class Server(ThreadingHTTPServer):
    """Has a page at /, unless ``page`` is false: llama-server answers 404 with --no-ui."""

    page = True


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.send_response(200 if self.server.page and self.path == "/" else 404)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_it_prints_the_address_and_where_the_token_is(server: Server) -> None:
    port = str(server.server_port)
    done = llama_local("--server-port", port, "open", HOME="/home/ada")
    assert done.stdout.splitlines()[0] == f"http://127.0.0.1:{port}/"
    assert "cat /home/ada/.config/claude-local/token" in done.stdout, "the token itself is not printed"
    told = json.loads(llama_local("--server-port", port, "open", "--json", HOME="/home/ada").stdout)
    assert told["url"] == f"http://127.0.0.1:{port}/" and lacks(example("open"), told) == []


def test_without_the_page_the_setting_is_named(server: Server) -> None:
    server.page = False
    done = llama_local("--server-port", str(server.server_port), "open")
    assert done.returncode == 1 and "server_ui" in done.stderr


def test_without_a_server_the_container_is_started() -> None:
    done = llama_local("--server-port", "1", "open")
    assert done.returncode == 3 and "docker start" in done.stderr
