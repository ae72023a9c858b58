"""``/switch [PROFILE]`` and ``/model`` in a session: two Claude Code hooks that ask the management API.

UserPromptExpansion ends the prompt ``/switch`` before a model sees it. PreModelSwitch asks the user to confirm a
model whose window the conversation does not fit.

``python -I -S switch_command.py``: the hook's input on stdin, its answer on stdout. CLAUDE_LOCAL_MANAGER is the port of
the management API, ANTHROPIC_AUTH_TOKEN the token; in the fence it is a stand-in that the relay replaces.
"""

from __future__ import annotations

import json
import os
import sys
from http.client import HTTPConnection, HTTPException
from typing import Any

# Seconds: for a list, and for a switch, which drains (120) and loads (600).
QUICK, SWITCH = 10.0, 780.0
# What a session asks llama-server for unless it was started with --model (claude_local/server/presets.py, ACTIVE).
ACTIVE = "claude-local"


def answer(words: str) -> str:
    """What the user reads after ``/switch WORDS``."""
    port = os.environ.get("CLAUDE_LOCAL_MANAGER", "")
    if not port.isdigit():
        return "this session does not use this machine's llama-server"
    try:
        if not words:
            return _list(_ask(int(port), "GET", "/models", QUICK)[1]["models"])
        status, said = _ask(int(port), "POST", "/switch", SWITCH, {"model": words})
        return _switched(said) if status == 200 else _refused(said)
    except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
        return f"the management API does not answer: {error}. Fix: llama-local doctor"


def choice(model: str, tokens: int) -> dict[str, Any]:
    """The hook's answer when the user chooses ``model`` with a conversation of ``tokens``."""
    try:
        models = _ask(int(os.environ["CLAUDE_LOCAL_MANAGER"]), "GET", f"/models?tokens={tokens}", QUICK)[1]["models"]
        chosen = next(each for each in models if each["id"] == model or (model == ACTIVE and each["active"]))
        if chosen["fits"]:
            return {}
        window = f"{chosen['ctx_size']:,}"
    except (OSError, HTTPException, ValueError, LookupError, TypeError, StopIteration):
        return {}
    reason = f"{chosen['id']} takes {window} tokens, but this conversation has {tokens:,}: /compact it first"
    return {
        "hookSpecificOutput": {
            "hookEventName": "PreModelSwitch", "permissionDecision": "ask", "permissionDecisionReason": reason,
        }
    }  # fmt: skip


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
    fix = f"\nFix: {said['fix']}" if "fix" in said else ""
    return "\n".join([str(said["error"]) + known + fix, *said.get("log", [])])


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    if asked.get("hook_event_name") == "PreModelSwitch":
        print(json.dumps(choice(str(asked.get("to_model")), int(asked.get("context_tokens") or 0))))
    else:
        words = str(asked.get("command_args") or "").strip()
        print(json.dumps({"continue": False, "stopReason": answer(words)}))
