"""Record requests of the real Claude Code on loopback: the conversations that every chat template must render.

The client has a home of its own and talks to the scripted backend only. Its requests stay in memory.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import struct
import subprocess
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_local.verify.scripted_backend import ScriptedBackend, Turn, text, thinking, tool_use

# A session of a few turns takes about five seconds on an idle core.
SESSION_SECONDS = 180
MODEL = "claude-local"
# The variables about requests that the wrapper exports (templates/claude-local, set_environment).
WRAPPED = {"CLAUDE_CODE_MODEL_CAPABILITIES": "-mid_conv_system,-mid_conv_tool_change"}
SEARCH = "ENABLE_TOOL_SEARCH"
# Words in the sessions that a test can find again in a prompt.
THOUGHTS = ("THOUGHT-ONE: both files are needed.", "THOUGHT-TWO: now the list.", "THOUGHT-THREE: the picture is left.")
SPOKEN = "SPOKEN-ONE: I read both files."
CONTENTS = {"first.txt": "RESULT-ONE pelican\n", "second.txt": "RESULT-TWO walnut\n"}
ASKED = ("ASKED-ONE: what do the files say?", "ASKED-TWO: what is on this picture?")
ANSWERED = "ANSWERED-ONE: they name a bird and a nut."
FAILED = "no-such-folder-here"


class RecordingError(Exception):
    """The client did not run or did not finish its session; the message says where it stopped."""


@dataclass(frozen=True)
class Session:
    """The main requests of one session, in order; ``bodies[-1]`` holds the whole conversation."""

    name: str
    bodies: list[dict[str, Any]]


def claude_binary() -> Path:
    """``CLAUDE_LOCAL_TEST_CLAUDE``, or the deployed Claude Code. Raises RecordingError when there is none."""
    named = os.environ.get("CLAUDE_LOCAL_TEST_CLAUDE")
    binary = Path(named) if named else Path.home() / ".local/share/claude-local/claude"
    if not os.access(binary, os.X_OK):
        raise RecordingError(
            f"{binary} is not executable; deploy first, or set CLAUDE_LOCAL_TEST_CLAUDE to Claude Code"
        )
    return binary.resolve()


def version(binary: Path) -> str:
    """Claude Code's version, ``2.1.330``."""
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()[0]


def picture(size: int = 32) -> bytes:
    """A PNG of ``size`` times ``size`` grey pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\0" + b"\x80\x80\x80" * size for _ in range(size)))
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def record(folder: Path, binary: Path) -> list[Session]:
    """Run the sessions that the checks need, a few seconds each, and return their requests.

    ``folder`` must be empty.

    * ``tools``: with the wrapper's environment; thinking, text and two calls in one turn, a call that fails, a picture
      that a tool returns, an answer, a second question.
    * ``system``: the same with Claude Code's defaults, which put system turns into the conversation.
    * ``every tool``: a request that offers all tools at once (Claude Code without its tool search).
    * ``tool search``: Claude Code's ToolSearch, whose result is a reference to a tool, not text.
    * ``picture``: a picture in the user's turn.

    Raises RecordingError.
    """
    work = folder / "work"
    work.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (work / name).write_text(content)
    (work / "picture.png").write_bytes(picture())
    turns: list[Turn] = [
        [
            thinking(THOUGHTS[0]),
            text(SPOKEN),
            tool_use("Read", {"file_path": str(work / "first.txt")}),
            tool_use("Read", {"file_path": str(work / "second.txt")}),
        ],
        [thinking(THOUGHTS[1]), tool_use("Bash", {"command": f"ls {FAILED}", "description": "List a folder"})],
        [thinking(THOUGHTS[2]), tool_use("Read", {"file_path": str(work / "picture.png")})],
        text(ANSWERED),
        text("ANSWERED-TWO: it is grey."),
    ]
    questions: list[list[dict[str, Any]]] = [[_words(ASKED[0])], [_words(ASKED[1])]]
    shown = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(picture()).decode()},
    }
    searched = tool_use("ToolSearch", {"query": "select:WebFetch"})
    return [
        _session("tools", folder, binary, questions, turns, WRAPPED),
        _session("system", folder, binary, questions, turns, {}),
        _session("every tool", folder, binary, [[_words("hello")]], [text("hello")], WRAPPED | {SEARCH: "false"}),
        _session("tool search", folder, binary, [[_words("hello")]], [searched, text("hello")], WRAPPED),
        _session("picture", folder, binary, [[_words(ASKED[1]), shown]], [text("It is grey.")], WRAPPED),
    ]


def _words(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def _session(
    name: str,
    folder: Path,
    binary: Path,
    questions: list[list[dict[str, Any]]],
    turns: list[Turn],
    settings: dict[str, str],
) -> Session:
    home = folder / f"home-{name}"
    shutil.rmtree(home, ignore_errors=True)
    (home / "config").mkdir(parents=True)
    # fmt: off
    command = [
        str(binary), "-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose",
        "--allowedTools", "Read,Bash",
    ]
    # fmt: on
    with ScriptedBackend(turns, n_ctx=200_000) as backend:
        ended = _converse(command, folder / "work", _environment(home, backend.url) | settings, questions)
        bodies = [request["body"] for request in backend.main_requests]
    if len(bodies) != len(turns):
        raise RecordingError(
            f"session {name}: {len(bodies)} of {len(turns)} requests arrived, Claude Code ended with {ended}"
        )
    return Session(name, bodies)


def _converse(
    command: list[str], work: Path, environment: dict[str, str], questions: list[list[dict[str, Any]]]
) -> str:
    """Ask the questions, each after the answer to the one before. Returns the exit status and the last output."""
    errors = work.parent / "stderr"
    with (
        errors.open("w") as sink,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink, cwd=work, env=environment, text=True
        ) as client,
    ):
        assert client.stdin is not None and client.stdout is not None
        watchdog = threading.Timer(SESSION_SECONDS, client.kill)
        watchdog.start()
        try:
            for blocks in questions:
                message = {"type": "user", "message": {"role": "user", "content": blocks}}
                client.stdin.write(json.dumps(message) + "\n")
                client.stdin.flush()
                for line in client.stdout:
                    if json.loads(line).get("type") == "result":
                        break
            client.stdin.close()
            rest = client.stdout.read()
            status = client.wait()
        except BrokenPipeError:
            rest, status = "", client.wait()
        finally:
            watchdog.cancel()
    return f"{status}: {(errors.read_text() or rest)[-400:]}"


def _environment(home: Path, url: str) -> dict[str, str]:
    """The wrapper's variables that affect requests, and none of the caller's."""
    names = (
        "ANTHROPIC_MODEL",
        "ANTHROPIC_SMALL_FAST_MODEL",
        "ANTHROPIC_DEFAULT_OPUS_MODEL",
        "ANTHROPIC_DEFAULT_SONNET_MODEL",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL",
        "CLAUDE_CODE_SUBAGENT_MODEL",
    )
    return dict.fromkeys(names, MODEL) | {
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / "config"),
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": "recorder",
        "CLAUDE_CODE_DISABLE_1M_CONTEXT": "1",
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "200000",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_TOTAL_TOKENS_REMINDER": "off",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_AUTOUPDATER": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }
