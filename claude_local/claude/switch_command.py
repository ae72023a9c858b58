"""``/switch [PROFILE]`` in a session: a hook of Claude Code's (UserPromptExpansion) that asks the management API, and
ends the prompt before a model sees it.

``python -I -S switch_command.py``: the hook's input on stdin, its answer on stdout. CLAUDE_LOCAL_MANAGER is the port of
the management API, ANTHROPIC_AUTH_TOKEN the token; in the fence it is a stand-in that the relay replaces.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from typing import Any

# Seconds: for a list, and for a switch, which drains (120) and loads (600).
QUICK, SWITCH = 10.0, 780.0
# Claude Code (2.1.330) compacts a conversation of 1.5 windows by itself. One of 1.9 or 3.6 windows it does not get into
# the window, however often it is asked: it shows the last files again.
MUCH_TOO_LONG = 1.5
USAGE = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
# What a session asks llama-server for unless it was started with --model (claude_local/server/presets.py, ACTIVE).
ACTIVE = "claude-local"


def answer(words: str, transcript: str) -> str:
    """What the user reads after ``/switch WORDS``. ``transcript``: the session's file."""
    port = os.environ.get("CLAUDE_LOCAL_MANAGER", "")
    if not port.isdigit():
        return "this session does not use this machine's llama-server"
    try:
        models = _ask(int(port), "GET", "/models", QUICK)[1]["models"]
        if not words:
            return _list(models)
        window = next((each["ctx_size"] for each in models if each["id"] == words), None)
        if window and (tokens := conversation_tokens(transcript)) > MUCH_TOO_LONG * window:
            return f"{words} takes {window:,} tokens, and this conversation has {tokens:,}: /compact it first"
        status, said = _ask(int(port), "POST", "/switch", SWITCH, {"model": words})
        return _switched(said) if status == 200 else _refused(said)
    except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
        return f"the management API does not answer: {error}. Fix: llama-local doctor"


def conversation_tokens(transcript: str) -> int:
    """The tokens of the conversation, as its last answer counted them; 0 when unknown, and after a compaction."""
    tokens = 0
    with suppress(OSError), open(transcript, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError, LookupError, TypeError, AttributeError):
                entry = json.loads(line)
                if entry.get("subtype") == "compact_boundary":
                    tokens = 0
                elif entry.get("type") == "assistant" and not entry.get("isSidechain"):
                    tokens = sum(entry["message"]["usage"][name] or 0 for name in USAGE)
    return tokens


def _ask(port: int, method: str, path: str, seconds: float, body: Any = None) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        headers = {"Authorization": f"Bearer {os.environ.get('ANTHROPIC_AUTH_TOKEN', '')}", "User-Agent": "a session"}
        connection.request(method, path, body and json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def _list(models: list[dict[str, Any]]) -> str:
    """The profiles, one a line; a star before the active one."""
    width = max(len(each["id"]) for each in models)
    lines = []
    for each in models:
        window = f", {each['ctx_size']:,} tokens" if each["ctx_size"] else ""
        load = f", loads in {each['load_seconds']:.0f} s" if each["load_seconds"] else ""
        lines.append(f"{'*' if each['active'] else ' '} {each['id']:{width}}  {each['name']}{window}{load}")
    return "\n".join(["/switch PROFILE changes the model of all sessions:", *lines])


def _switched(said: dict[str, Any]) -> str:
    window, before = said["ctx_size"], said["previous_ctx_size"]
    text = f"{said['model']} answers from now on ({sum(said['seconds'].values()):.1f} s), {window:,} tokens of context"
    if before and window < before:
        text += f" after {before:,}: a longer conversation is compacted at the next turn"
    own = os.environ.get("ANTHROPIC_MODEL", ACTIVE)
    if own != ACTIVE:
        text += f"\nThis session was started with --model {own} and keeps it; /model changes it"
    return text


def _refused(said: dict[str, Any]) -> str:
    known = f"\nProfiles: {', '.join(said['known'])}" if "known" in said else ""
    return "\n".join([str(said["error"]) + known, *said.get("log", [])])


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    words = str(asked.get("command_args") or "").strip()
    print(json.dumps({"continue": False, "stopReason": answer(words, str(asked.get("transcript_path") or ""))}))
