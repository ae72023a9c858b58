"""Which sessions run: each keeps a record, and one whose process is gone is not listed, however it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from claude_local.claude.running_sessions import record_session, running_sessions
from claude_local.verify.scripted_backend import ScriptedBackend
from tests.claude.wrapper_home import TOKEN, Home


def session(home: Home, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [home.paths.wrapper, *arguments], env=home.environment(None, FAKE_CLAUDE_SLEEP="1", **env), cwd=home.home,
        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def wait_for(home: Home, count: int) -> None:
    end = time.monotonic() + 60
    while len(running_sessions(home.paths.sessions)) != count:
        assert time.monotonic() < end, os.listdir(home.paths.sessions)
        time.sleep(0.02)


def test_a_session_is_listed_while_it_runs_and_the_next_one_clears_up_after_it(home: Home, closed_port: int) -> None:
    with ScriptedBackend(port=closed_port, token=TOKEN, models=["claude-local", "large"]):
        began = time.time()
        first, second = session(home, "--model", "large", "-p", "hello"), session(home, "-p", "hello")
        try:
            wait_for(home, 2)
            found = {each.profile: each for each in running_sessions(home.paths.sessions)}
            assert found.keys() == {"large", ""} and found["large"].process == first.pid
            assert found["large"].workspace == str(home.home) and began < found["large"].since < time.time()
        finally:
            for process in (first, second):
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
        assert running_sessions(home.paths.sessions) == []
        assert home.run("-p", "hello", FAKE_CLAUDE_SLEEP="").returncode == 0
        assert len(os.listdir(home.paths.sessions)) == 1


@pytest.mark.parametrize("arguments", [["doctor"], ["-p", "hello"]], ids=["no server", "another server"])
def test_what_does_not_use_the_installed_server_is_no_session(
    home: Home, backend: ScriptedBackend, arguments: list[str]
) -> None:
    assert home.run(*arguments, server=backend.url).returncode == 0
    assert not Path(home.paths.sessions).exists()


@pytest.mark.parametrize("text", ["", "[]", '{"process": 1}', "[" * 100_000, '{"since": "soon"}'])
def test_a_record_that_is_not_ours_is_left_out(tmp_path: Path, text: str) -> None:
    held = record_session(str(tmp_path), "/a", "")
    assert held is not None
    os.pwrite(held, text.encode().ljust(200), 0)
    found = (
        "import sys; from claude_local.claude.running_sessions import *; sys.exit(len(running_sessions(sys.argv[1])))"
    )
    assert subprocess.run([sys.executable, "-c", found, str(tmp_path)], timeout=60, check=False).returncode == 0
    os.close(held)


def test_a_record_that_cannot_be_written_keeps_nobody_from_working(home: Home, closed_port: int) -> None:
    home.add(home.paths.sessions, "a file")
    with ScriptedBackend(port=closed_port, token=TOKEN, models=["claude-local"]):
        assert home.run("-p", "hello").returncode == 0
    assert running_sessions(home.paths.sessions) == []
