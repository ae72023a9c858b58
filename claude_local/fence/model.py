"""What Claude Code has to know of the model that the session works with: its context window and its tools."""

from __future__ import annotations

import json
import os
from contextlib import suppress


def server_answer(place: str) -> int | None:
    """Wait until the wrapper's child has found the server ready; the model's context window in tokens, None when the server
    does not say. ``place``: the descriptor on which the child writes the server's /props, and its process id.

    Raises SystemExit when the child wrote nothing: then it has said why.
    """
    descriptor, process = (int(word) for word in place.split(" "))
    with open(descriptor, "rb") as file:
        said = file.read()
    # The wrapper's shell may have had its end already.
    with suppress(ChildProcessError):
        os.waitpid(process, 0)
    if not said:
        raise SystemExit(1)
    try:
        window = json.loads(said)["default_generation_settings"]["n_ctx"]
        return int(window) if type(window) in (int, float) and window >= 1 else None
    except (LookupError, TypeError, ValueError, OverflowError):
        return None


def tools_of(profiles: str, profile: str) -> list[str]:
    """The tool set of ``profile``, else of the default one, in the file ``profiles``; empty: all tools, or no such profile."""
    try:
        with open(profiles, encoding="utf-8") as file:
            known = json.load(file)
        tools = known["profiles"][profile or known["default"]]["tools"]
    except (OSError, ValueError, LookupError, TypeError):
        return []
    return tools if isinstance(tools, list) and all(isinstance(tool, str) for tool in tools) else []


def defaults(window: int, tools: list[str]) -> dict[str, str]:
    """Variables for Claude Code, for what the user has not set. ``window``: tokens."""
    # llama-server's window, not the million tokens that Claude Code assumes. It compacts at window - output - 13000 tokens,
    # so the output takes an eighth of the window: a quarter of 32768 would leave room for the prompt alone.
    found = {
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(window),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(min(window // 8, 8192)),
    }
    # Below 24000 tokens that rule would compact at each turn and never get to the work: /compact remains.
    if window < 24000:
        found["DISABLE_AUTO_COMPACT"] = "1"
    # A model that gets few tools has none to keep a memory with, and the memory's path, another one in each directory, would
    # make it read most of the prompt anew there.
    if tools:
        found["CLAUDE_CODE_DISABLE_AUTO_MEMORY"] = "1"
    return found
