"""The line below the prompt shows the fence, the model, the context, and then the user's own line."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from claude_local.claude.tool_sets import SETS

SCRIPT = Path(__file__).parents[2] / "files" / "status-line"
MODELS = [
    {"id": "small", "name": "Small One", "ctx_size": 32768},
    {"id": "large", "name": "Large One", "ctx_size": 65536},
]
READY = {"model": "small", "state": "ready", "status": "Small One answers", "progress": 1.0}
IDLE = {"model": "small", "busy": False, "prompt": 900, "processed": 900, "cached": 0, "decoded": 5}
# What Claude Code 2.1.330 gives a status line on stdin, as far as it matters here.
SESSION: dict[str, Any] = {
    "model": {"id": "claude-local", "display_name": "At The Start"},
    "context_window": {"context_window_size": 32768, "total_input_tokens": 5300, "used_percentage": 16},
}


class Manager:
    """The management API's answers to a status line. ``reports``: what it was told."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = READY
        self.slots: list[dict[str, Any]] = [IDLE]
        self.reports: list[tuple[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = str(self._server.server_port)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(manager) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told = {"/status": manager.status, "/models": {"models": MODELS}, "/slots": {"slots": manager.slots}}
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(told[self.path]).encode())

            def do_POST(self) -> None:
                told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                manager.reports.append((self.path, told))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b'{"model": "never shown"}')

            def log_message(self, format: str, *args: Any) -> None: ...

        return Handler


@pytest.fixture
def manager() -> Iterator[Manager]:
    running = Manager()
    yield running
    running.close()


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    share = tmp_path / "a share"
    share.mkdir()
    (tmp_path / "config").mkdir()
    return Path(shutil.copy(SCRIPT, share / "status-line"))


def shown(script: Path, session: dict[str, Any] | str = SESSION, own: str | None = None, **env: str) -> str:
    config = script.parents[1] / "config"
    if own is not None:
        (config / "settings.json").write_text(json.dumps({"statusLine": {"type": "command", "command": own}}))
    given = session if isinstance(session, str) else json.dumps(session)
    done = subprocess.run(
        [script], input=given, capture_output=True, text=True, check=True, timeout=10,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "CLAUDE_CONFIG_DIR": str(config), **env},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_a_model_that_cannot_run_commands_shows_its_tools_within_80_columns(installed: Path) -> None:
    """A small model without Bash claimed to have run a script."""
    line = shown(installed, CLAUDE_LOCAL_FENCE="outer+inner", NO_COLOR="1", CLAUDE_LOCAL_TOOLS=SETS["lean"].label)
    assert line.endswith(" tokens · tools: Read Edit Write Glob\n") and len(line) < 80


@pytest.mark.parametrize(
    ("fence", "colour", "words"),
    [
        ("outer+inner", "32", "fenced"),
        ("outer", "33", "fenced by one layer of two (outer)"),
        ("inner", "33", "fenced by one layer of two (inner)"),
        ("none", "1;31", "NO FENCE"),
        ("", "1;31", "NO FENCE"),
    ],
)
def test_the_fence_comes_first_and_has_its_colour(installed: Path, fence: str, colour: str, words: str) -> None:
    assert shown(installed, CLAUDE_LOCAL_FENCE=fence) == (
        f"\x1b[{colour}m{words}\x1b[0m · At The Start · 5k of 32k tokens\n"
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "Small One · 5k of 32k tokens"),
        ({"model": {"id": "large"}}, "Large One · 5k of 64k tokens"),
        ({"model": {"id": "unknown", "display_name": "Some Model"}}, "Some Model · 5k of 32k"),
        ({"context_window": {"context_window_size": 32768, "total_input_tokens": 32768}}, "Small One · 32k of 32k"),
        ({"context_window": {"context_window_size": 32768, "total_input_tokens": 812}}, "Small One · 812 of 32k"),
        ({"model": {"id": "x", "display_name": "bad\x1b[2Jname"}}, "bad[2Jname"),
    ],
)
def test_the_model_and_the_context_follow(
    installed: Path, manager: Manager, changed: dict[str, Any], words: str
) -> None:
    line = shown(installed, {**SESSION, **changed}, NO_COLOR="1", CLAUDE_LOCAL_MANAGER=manager.port)
    assert line.startswith(f"NO FENCE · {words}") and "reading" not in line


def test_another_profile_that_was_made_active_meanwhile_is_named_with_its_window(
    installed: Path, manager: Manager
) -> None:
    manager.status = READY | {"model": "large"}
    line = shown(installed, NO_COLOR="1", CLAUDE_LOCAL_MANAGER=manager.port)
    assert line == "NO FENCE · Large One · 5k of 64k tokens\n"


@pytest.mark.parametrize(
    ("model", "window", "tokens"),
    [
        ("claude-local", {"total_input_tokens": 5300}, 5300),
        ("claude-local", {"total_input_tokens": None}, 0),
        ("claude-local", None, 0),
        ("large", {"total_input_tokens": 5300}, 0),
    ],
)
def test_the_management_api_learns_how_long_a_conversation_with_the_active_profile_is(
    installed: Path, manager: Manager, model: str, window: Any, tokens: int
) -> None:
    line = shown(installed, {"model": {"id": model}, "context_window": window}, CLAUDE_LOCAL_MANAGER=manager.port)
    assert manager.reports == [("/sessions", {"tokens": tokens})] and "never shown" not in line


def test_a_switch_shows_its_progress(installed: Path, manager: Manager) -> None:
    manager.status = READY | {"state": "switching", "status": "switching to Large One: loading", "progress": 0.438}
    line = shown(installed, NO_COLOR="1", CLAUDE_LOCAL_MANAGER=manager.port)
    assert line.startswith("NO FENCE · switching to Large One: loading 43 % · 5k of 32k")


def test_a_prompt_that_is_being_read_shows_how_far(installed: Path, manager: Manager) -> None:
    reading = {"model": "small", "busy": True, "prompt": 12_900, "processed": 3_200, "cached": 5_000, "decoded": 0}
    manager.slots = [{**reading, "model": "large", "cached": 0}, reading]
    line = shown(installed, NO_COLOR="1", CLAUDE_LOCAL_MANAGER=manager.port)
    assert line == "NO FENCE · Small One · 5k of 32k tokens · reading 8k of 13k (63 %)\n"
    reading["decoded"] = 1
    assert "reading" not in shown(installed, NO_COLOR="1", CLAUDE_LOCAL_MANAGER=manager.port)
    own = {**SESSION, "model": {"id": "large"}}
    assert "reading 3k of 13k" in shown(installed, own, NO_COLOR="1", CLAUDE_LOCAL_MANAGER=manager.port)


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ({"context_window_size": 200000, "total_input_tokens": 0, "used_percentage": None}, "0 of 200k tokens"),
        ({"context_window_size": 200000, "total_input_tokens": 123456}, "123k of 200k"),
        (None, ""),
    ],
)
@pytest.mark.parametrize("port", ["", "1", "x/../y"], ids=["another server", "silent", "no port"])
def test_without_the_management_api_the_session_is_believed(
    installed: Path, window: Any, words: str, port: str
) -> None:
    line = shown(installed, {**SESSION, "context_window": window}, NO_COLOR="1", CLAUDE_LOCAL_MANAGER=port)
    assert line.startswith(f"NO FENCE · At The Start{' · ' if words else ''}{words}")


@pytest.mark.parametrize("given", ["", "no JSON", "{}", "[]"])
def test_the_fence_is_shown_whatever_claude_code_sends(installed: Path, given: str) -> None:
    assert shown(installed, given, CLAUDE_LOCAL_FENCE="outer", NO_COLOR="1").startswith(
        "fenced by one layer of two (outer)"
    )


def test_the_users_own_line_gets_the_same_session_and_comes_second(installed: Path) -> None:
    lines = shown(installed, own="jq -r .model.id", CLAUDE_LOCAL_FENCE="outer+inner").splitlines()
    assert len(lines) == 2 and lines[1] == "claude-local"


@pytest.mark.parametrize("own", ["exit 3", pytest.param("sleep 30", marks=pytest.mark.slow), "no-such-command"])
def test_a_broken_line_of_the_user_does_not_hide_ours(installed: Path, own: str) -> None:
    assert shown(installed, own=own, CLAUDE_LOCAL_FENCE="outer+inner").count("\n") == 1


def test_it_does_not_show_itself_twice(installed: Path) -> None:
    assert shown(installed, own=f"'{installed}'", CLAUDE_LOCAL_FENCE="outer").count("layer") == 1
