"""What the tool sets cost, as the real llama-server counts it, and that Claude Code works with each of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from claude_local.claude.tool_sets import SETS
from claude_local.verify import terminal
from claude_local.verify.scripted_backend import ScriptedBackend, text, tool_use
from claude_local.verify.terminal import Terminal

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

WRAPPER = str(Path.home() / "bin/claude-local")
# The first request of 2.1.330 with its default tools, before there were sets.
BEFORE = 13_749
# Tokens of the first request, measured 2026-11-29 with 2.1.330, and the most that it may be of BEFORE.
LIMITS = {"lean": 0.25, "standard": 0.45}
TERMINAL = {"lean": 3_388, "standard": 5_679}


@pytest.fixture
def work() -> Iterator[Path]:
    """A repository in the home directory. Its path is in the prompt, several times with Bash, so it is short."""
    folder = Path.home() / f"w{os.getpid()}"
    folder.mkdir()
    (folder / "note.txt").write_text("The secret word is pelican.\n")
    subprocess.run(["git", "init", "--quiet", folder], check=True, timeout=60)
    yield folder
    shutil.rmtree(folder)


def environment(backend: ScriptedBackend) -> dict[str, str]:
    return {**os.environ, "CLAUDE_LOCAL_SERVER": backend.url, "TERM": "xterm-256color"}


def printed(work: Path, *arguments: str, turns: list[Any]) -> list[dict[str, Any]]:
    """The bodies that Claude Code sends for ``claude-local -p``."""
    argv = [WRAPPER, *arguments, "-p", "Say hi", "--permission-mode", "acceptEdits"]
    with ScriptedBackend(turns, n_ctx=65536) as backend:
        done = subprocess.run(
            argv, cwd=work, env=environment(backend), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        return [request["body"] for request in backend.main_requests]


def typed(work: Path, *arguments: str) -> dict[str, Any]:
    """The first body that Claude Code sends for a prompt in the terminal, in its default mode."""
    argv = [WRAPPER, *arguments, "--permission-mode", "default"]
    with ScriptedBackend([text("hi")], n_ctx=65536) as backend:
        env = environment(backend) | terminal.columns_environment()
        with Terminal(argv, env=env, cwd=str(work)) as screen:
            screen.wait_for(lambda lines: terminal.at_prompt(lines) or terminal.asks_for_trust(lines), 90)
            if terminal.asks_for_trust(screen.lines()):
                terminal.choose(screen, "Yes")
                screen.wait_for(terminal.at_prompt, 60)
            screen.send("Say hi")
            screen.read(0.5)
            screen.send("\r")
            assert screen.wait_for(lambda lines: bool(backend.main_requests), 90), screen.tail()
        body: dict[str, Any] = backend.main_requests[0]["body"]
        return body


def tokens(body: dict[str, Any], server_url: str) -> int:
    """The server's count of a request's prompt."""
    token = (Path.home() / ".config/claude-local/token").read_text().strip()
    counted = {key: body[key] for key in ("model", "system", "tools", "messages") if key in body}
    reply = requests.post(
        f"{server_url}/v1/messages/count_tokens", json=counted, headers={"Authorization": f"Bearer {token}"},
        timeout=300,
    )  # fmt: skip
    assert reply.status_code == 200, reply.text
    return int(reply.json()["input_tokens"])


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("where", ["-p", "terminal"])
def test_the_first_request_stays_small(name: str, where: str, work: Path, server_url: str) -> None:
    """If this fails, Claude Code or a chat template changed: measure, and keep the new figures here and in the set."""
    body = (
        printed(work, "--tool-set", name, turns=[text("hi")])[0] if where == "-p" else typed(work, "--tool-set", name)
    )
    found = tokens(body, server_url)
    print(f"{name}, {where}: {found} tokens, {found / BEFORE:.3f} of {BEFORE}")
    known = SETS[name].tokens if where == "-p" else TERMINAL[name]
    assert found <= 1.05 * known and found <= LIMITS[name] * BEFORE


@pytest.mark.parametrize("name", SETS)
def test_claude_code_offers_the_tools_of_the_set_and_they_work(name: str, work: Path) -> None:
    """The plan's tool test. Without tools the call comes back as an error, and the session goes on."""
    turns = [
        tool_use("Glob", {"pattern": "*.txt"}),
        tool_use("Read", {"file_path": str(work / "note.txt")}),
        tool_use("Write", {"file_path": str(work / "out.txt"), "content": "hello\n"}),
        text("Done."),
    ]
    bodies = printed(work, "--tool-set", name, turns=turns)
    offered = {tool["name"] for tool in bodies[0].get("tools") or []}
    if name in ("lean", "none"):
        assert offered == set(SETS[name].tools)
    else:
        assert {"Bash", "Read", "Edit", "Write", "Glob", "Grep"} <= offered <= set(SETS[name].tools)
    sent = str(bodies[-1]["messages"])
    works = name != "none"
    assert (works, works) == ("note.txt" in sent and "pelican" in sent, (work / "out.txt").exists())
    assert ("available for use with the Skill tool" in str(bodies[0])) == ("Skill" in offered)
