"""An IDE on loopback, as the VS Code extension is one: claude-local in its terminal connects through both fences."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from claude_local.verify.scripted_backend import text, tool_use
from tests.integration.fenced_home import Person, person, snapshot
from tests.integration.loopback_ide import DIAGNOSTIC, LoopbackIde
from tests.integration.slow_backend import SlowBackend
from tests.integration.tty import Tty

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("claude_code")]

HANDSHAKE = ["initialize", "notifications/initialized", "ide_connected", "tools/list"]
ASK = tool_use("mcp__ide__getDiagnostics", {})


@pytest.fixture(scope="module", params=["root", "ordinary"])
def who(request: pytest.FixtureRequest) -> Iterator[Person]:
    with person(request.param) as somebody:
        yield somebody


@pytest.fixture
def ide(who: Person, work: Path) -> Iterator[LoopbackIde]:
    with LoopbackIde() as server, ExitStack() as after:
        lock = who.write(who.home / ".claude/ide" / f"{server.port}.lock", server.lock([work]), 0o600)
        after.callback(lock.unlink, missing_ok=True)
        yield server


def in_its_terminal(ide: LoopbackIde) -> dict[str, str]:
    """What VS Code's own terminal adds to the environment."""
    return {"TERM_PROGRAM": "vscode", "CLAUDE_CODE_SSE_PORT": str(ide.port)}


def ask_for_diagnostics(tty: Tty) -> None:
    """Let the script call the IDE's tool and say yes when Claude Code asks."""
    tty.type("what is wrong?")
    tty.wait_for("Do you want to proceed?", "It is line 3.")
    tty.press_until("\r", lambda: "It is line 3." in tty.text, "the answer")


def connected(ide: LoopbackIde) -> Callable[[], bool]:
    return lambda: ide.methods[: len(HANDSHAKE)] == HANDSHAKE


def test_in_the_ides_terminal_it_connects_and_uses_its_diagnostics(who: Person, work: Path, ide: LoopbackIde) -> None:
    before = snapshot(who.home / ".claude")
    with (
        SlowBackend(ASK, text("It is line 3.")) as backend,
        who.at_terminal(backend, cwd=work, **in_its_terminal(ide)) as tty,
    ):
        tty.wait_for_prompt()
        who.assert_fenced()
        tty.wait(connected(ide), "the IDE's connection")
        ask_for_diagnostics(tty)
        assert ide.refused == 0 and "getDiagnostics" in ide.calls
        assert DIAGNOSTIC in backend.results()[-1]
        tty.type("/exit")
        assert tty.wait_for_end() == 0
    assert snapshot(who.home / ".claude") == before, "the lock file is as it was, and nothing is new"


def test_an_ide_whose_process_lives_is_found_from_another_terminal(who: Person, work: Path, ide: LoopbackIde) -> None:
    lock = who.home / ".claude/ide" / f"{ide.port}.lock"
    lock.write_text(ide.lock([work], pid=os.getpid()))
    before = snapshot(lock.parent)
    with SlowBackend(text("Hi.")) as backend, who.at_terminal(backend, "--ide", cwd=work) as tty:
        tty.wait_for_prompt()
        tty.wait(connected(ide), "the IDE's connection")
    assert snapshot(lock.parent) == before and ide.refused == 0


def test_the_wrong_token_is_no_way_in(who: Person, work: Path, ide: LoopbackIde) -> None:
    lock = who.home / ".claude/ide" / f"{ide.port}.lock"
    lock.write_text(lock.read_text().replace(ide.token, "0" * len(ide.token)))
    with SlowBackend() as backend, who.at_terminal(backend, cwd=work, **in_its_terminal(ide)) as tty:
        tty.wait_for_prompt()
        tty.wait(lambda: ide.refused > 0, "a refused connection")
        assert ide.methods == []


def test_another_port_is_out_of_reach_unless_its_lock_file_is_there(who: Person, work: Path, ide: LoopbackIde) -> None:
    # A hook runs in Claude Code's own process, where the inner sandbox does not stand: only the outer fence is in the
    # way.
    with LoopbackIde("A stranger's editor") as stranger, SlowBackend(text("Hi.")) as backend:
        reach = "; ".join(
            f"(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo {name} >>reached"
            for name, port in {"own": ide.port, "strange": stranger.port, "server": backend.port}.items()
        )
        hook = {"hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": f"bash -c '{reach}'; true"}]}]}}
        given = ("--settings", json.dumps(hook))
        assert who.session(backend, *given, "-p", "hello", cwd=work, **in_its_terminal(ide)).returncode == 0
        assert (work / "reached").read_text().split() == ["own", "server"]
        lock = who.write(who.home / ".claude/ide" / f"{stranger.port}.lock", stranger.lock([work]), 0o600)
        try:
            assert who.session(backend, *given, "-p", "hello", cwd=work, **in_its_terminal(ide)).returncode == 0
        finally:
            lock.unlink()
        assert (work / "reached").read_text().split()[2:] == ["own", "strange", "server"]
