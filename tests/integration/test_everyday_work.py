"""A day's work in a session: the real wrapper, both layers of the fence, real tools. One test a row of the list."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.fenced_home import ROOT, Person, person
from tests.integration.machine import need
from tests.integration.slow_backend import commands

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("claude_code")]

SHELLS = ("bash", "zsh")
# A test that starts a server and asks it under every name of this machine, with a client that knows of proxies.
SERVER_TEST = """\
import socket, threading, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
import pytest

class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", socket.gethostname()])
def test_hello(host):
    server = HTTPServer(("", 0), Hello)
    threading.Thread(target=server.handle_request, daemon=True).start()
    with urllib.request.urlopen(f"http://{host}:{server.server_port}/", timeout=60) as reply:
        assert reply.read() == b"hello"
"""
NODE_TEST = """\
const http = require('http'), test = require('node:test'), assert = require('node:assert');
test('hello', async () => {
  const server = http.createServer((_, reply) => reply.end('hello')).listen(0);
  const reply = await fetch(`http://localhost:${server.address().port}/`);
  assert.equal(await reply.text(), 'hello');
  server.close();
});
"""


@pytest.fixture(scope="module", params=["root", "ordinary"])
def who(request: pytest.FixtureRequest) -> Iterator[Person]:
    with person(request.param) as somebody:
        yield somebody


def test_git(who: Person, work: Path) -> None:
    who.sh("git init -q -b main && echo one >a && git add a && git commit -qm first", work)
    said = commands(
        who, work,
        "git config user.email session@example.org && git remote add origin https://git.example.org/x.git",
        "git switch -qc topic && echo two >>a && git commit -qam second && git branch -m topic renamed",
        "git worktree add -q .worktree main && git -C .worktree log --format=%s && git worktree remove .worktree",
        "echo three >>a && git stash -q && git switch -q main && git merge -q renamed && git stash pop -q && git diff",
    )  # fmt: skip
    assert said[:2] == ["(Bash completed with no output)"] * 2, said
    assert said[2].strip() == "first" and "+three" in said[3], said
    outside = who.sh(
        "git status --porcelain; git log -1 --format='%s %ae'; git remote; git branch --format='%(refname)'", work
    )
    assert outside.split("\n") == [
        " M a", "second session@example.org", "origin", "refs/heads/main", "refs/heads/renamed", ""
    ]  # fmt: skip


def test_pytest_with_a_server_on_localhost(who: Person, work: Path) -> None:
    need(*SHELLS)
    who.sh("python3 -m venv .venv && .venv/bin/pip install -q pytest", work)
    who.write(work / "test_hello.py", SERVER_TEST)
    for shell in SHELLS:
        (said,) = commands(who, work, ".venv/bin/pytest -q test_hello.py", CLAUDE_CODE_SHELL=f"/usr/bin/{shell}")
        assert "4 passed" in said, f"{shell}: {said}"


def test_npm_test_with_a_server_on_localhost(who: Person, work: Path) -> None:
    need("npm")
    who.write(work / "package.json", '{"name": "hello", "scripts": {"test": "node --test"}}')
    who.write(work / "hello.test.js", NODE_TEST)
    (said,) = commands(who, work, "npm test 2>&1")
    assert "# pass 1" in said and "# fail 0" in said, said


def test_make_with_temporary_files(who: Person, work: Path) -> None:
    need("make", cc="gcc")
    who.write(work / "hello.c", '#include <stdio.h>\nint main(void) { return puts("hello, make") < 0; }\n')
    who.write(work / "Makefile", "run: hello\n\t./hello\n")
    (said,) = commands(who, work, "make -s run")
    assert said.strip() == "hello, make"


def test_files_in_tmp_last_for_the_session_and_are_its_own(who: Person, work: Path) -> None:
    name = f"claude-local-{work.name}-{who.name}"
    said = commands(
        who, work, f"echo one >/tmp/{name} && echo two >/var/tmp/{name}", f"cat /tmp/{name} /var/tmp/{name}"
    )
    assert said[1].split() == ["one", "two"], said
    assert not Path("/tmp", name).exists() and not Path("/var/tmp", name).exists()


def test_a_dev_server_and_its_client_in_one_command(who: Person, work: Path) -> None:
    who.write(work / "page.html", "a page\n")
    # The second server's port is free again: what a command leaves behind ends with it.
    serve = (
        "(exec python3 -m http.server 8765 >/dev/null 2>&1) & curl -sS --retry 20 --retry-connrefused --retry-delay 1"
    )
    said = commands(who, work, *[f"{serve} http://localhost:8765/page.html"] * 2)
    assert [each.strip().splitlines()[-1] for each in said] == ["a page", "a page"], said


def test_a_dev_server_of_one_command_is_not_there_in_the_next(who: Person, work: Path) -> None:
    _, said = commands(who, work, "python3 -m http.server 8765 & sleep 1", "curl -sS http://localhost:8765/")
    assert "claude-local: nothing listens on port 8765 in this command" in said, said


REFUSED = {
    "pip": (".venv/bin/pip download --no-deps six 2>&1 | tail -1", "pypi.org:443 (setting fence_domains)"),
    "npm": ("npm view left-pad", "registry.npmjs.org:443 (setting fence_domains)"),
    "curl": ("curl -sS https://example.org/", "example.org:443 (setting fence_domains)"),
    "proxy": ("curl -sS -x $HTTP_PROXY --noproxy '' localhost:5432", "localhost:5432 (setting fence_ports)"),
    "write": ("echo >/etc/example", "/etc/example (setting fence_writable)"),
    "write, python": ('python3 -c \'open("/etc/example", "w")\'', "/etc/example (setting fence_writable)"),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_refused_command_ends_with_the_setting_that_allows_it(who: Person, work: Path, shell: str) -> None:
    need("npm", shell)
    who.sh("python3 -m venv .venv", work)
    lines = [line for line, _ in REFUSED.values()]
    said = commands(who, work, *lines, "echo fine", "exit 3", CLAUDE_CODE_SHELL=f"/usr/bin/{shell}")
    for (line, what), words in zip(REFUSED.values(), said, strict=False):
        assert words.splitlines()[-1] == f"claude-local: the fence refused {what}", f"{line}: {words}"
        assert words.count("the fence refused") == 1
    assert said[-2].strip() == "fine" and said[-1].strip() == "Exit code 3"
    shown = subprocess.run(
        [sys.executable, "-m", "claude_local.cli", "fence", "why", "-n", str(len(REFUSED))], text=True, timeout=60,
        cwd=ROOT, env=who.environment(), capture_output=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for row, (_, what) in zip(shown[1:], REFUSED.values(), strict=True):
        assert f"{work}" in row and row.rstrip().endswith(what), shown
