"""What a session's commands reach: the ports and domains of fence.json with plain clients, and nothing else.

Servers of the test's own on 127.0.0.1; Node 22 comes from npm (package ``node``), because distributions have older
ones.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from claude_local.verify.scripted_backend import ScriptedBackend, text, tool_use
from tests.integration.fenced_home import TOKEN, Person, person
from tests.integration.machine import need
from tests.integration.test_claude_local_command import tool_results

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("claude_code")]

NODE = "node@22.23.3"


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.command} reached {self.server.server_port}\n".encode())  # type: ignore[attr-defined]

    do_POST = do_GET

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int]]:
    """Two servers on 127.0.0.1."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Answer) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield servers[0].server_port, servers[1].server_port
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module", params=["root", "ordinary"])
def somebody(request: pytest.FixtureRequest) -> Iterator[Person]:
    with person(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def node() -> Iterator[Path]:
    """Node 22, where everybody may run it."""
    # Outside /tmp, which a session does not see.
    need("npm")
    where = Path("/opt") / f"claude-local-test-{os.getpid()}"
    subprocess.run(["npm", "install", "--silent", "--prefix", str(where), NODE], check=True, timeout=300)
    try:
        yield (where / "node_modules" / ".bin" / "node").resolve()
    finally:
        subprocess.run(["rm", "-rf", str(where)], check=True, timeout=60)


def say(who: Person, *commands: str) -> str:
    """What the commands print, each in a call of the Bash tool of one session."""
    workspace = who.home / "network"
    if not workspace.exists():
        who.workspace("network")
    calls = [tool_use("Bash", {"command": command, "description": "try"}) for command in commands]
    with ScriptedBackend([*calls, text("done")], token=TOKEN, n_ctx=200000) as backend:
        done = who.bash(backend, workspace)
        assert done.returncode == 0, done.stderr
        return tool_results(backend)


def curl(port: int, *options: str) -> str:
    return f"curl -sS -m 60 {' '.join(options)} http://127.0.0.1:{port}/"


def test_an_allowed_port_answers_curl_python_node_22_and_clients_that_know_no_proxy(
    somebody: Person, ports: tuple[int, int], node: Path
) -> None:
    # The first one is llama-server's.
    allowed, _ = ports
    with somebody.fence_with(ports=[8080, allowed]):
        said = say(
            somebody,
            curl(allowed, "-X", "POST"),
            f"python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{allowed}/').read())\"",
            f"{node} -e \"fetch('http://localhost:{allowed}/')"
            ".then(r => r.text()).then(t => console.log('node: ' + t))\"",
            f"exec 3<>/dev/tcp/127.0.0.1/{allowed}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; sed 's/^GET/raw &/' <&3",
            "sleep 0.1 & wait; echo waited",
        )
    assert f"POST reached {allowed}" in said
    assert f"b'GET reached {allowed}" in said
    assert f"node: GET reached {allowed}" in said
    assert f"raw GET reached {allowed}" in said
    # What makes that work is no job of the shell's, and nothing of it is left.
    assert "waited" in said
    somebody.wait_until_gone()


def test_another_port_is_not_reached(somebody: Person, ports: tuple[int, int]) -> None:
    allowed, other = ports
    with somebody.fence_with(ports=[allowed]):
        said = say(somebody, curl(other), f"NO_PROXY=127.0.0.1 {curl(other)}", f"cat </dev/tcp/127.0.0.1/{other}")
    assert "reached" not in said


@pytest.mark.parametrize("domains", [["127.0.0.1:{other}"], ["*"]])
def test_domains_open_what_they_name(somebody: Person, ports: tuple[int, int], domains: list[str]) -> None:
    allowed, other = ports
    named = [each.format(other=other) for each in domains]
    with somebody.fence_with(ports=[allowed], domains=named):
        said = say(
            somebody, curl(allowed), curl(other, *(["-x", "$HTTP_PROXY", "--noproxy", "''"] if "*" in named else []))
        )
    assert f"reached {allowed}" in said and f"reached {other}" in said


def test_a_named_domain_opens_nothing_else(somebody: Person, ports: tuple[int, int]) -> None:
    allowed, other = ports
    with somebody.fence_with(ports=[allowed], domains=["example.invalid"]):
        said = say(somebody, curl(allowed), curl(other))
    assert f"reached {allowed}" in said and f"reached {other}" not in said
