"""What Claude Code has to know about the session's model: its context window and its tools."""

from __future__ import annotations

import json
import os
from contextlib import suppress


def server_answer(place: str) -> int | None:
    """Wait until the server is ready; the model's context window in tokens, None when the server does not say.

    ``place``: the descriptor on which the wrapper's child writes the server's /props, and the child's process id.
    Raises SystemExit when the child wrote nothing: it has then printed why.
    """
    descriptor, process = (int(word) for word in place.split(" "))
    with open(descriptor, "rb") as file:
        props = file.read()
    # The wrapper's shell may have waited for it already.
    with suppress(ChildProcessError):
        os.waitpid(process, 0)
    if not props:
        raise SystemExit(1)
    try:
        window = json.loads(props)["default_generation_settings"]["n_ctx"]
        return int(window) if type(window) in (int, float) and window >= 1 else None
    except (LookupError, TypeError, ValueError, OverflowError):
        return None


def tools_of(profiles: str, profile: str) -> list[str]:
    """The tool set of ``profile`` (of the default profile when that is empty) in the file ``profiles``. Empty when the
    profile gets all tools, or does not exist."""
    try:
        with open(profiles, encoding="utf-8") as file:
            known = json.load(file)
        tools = known["profiles"][profile or known["default"]]["tools"]
    except (OSError, ValueError, LookupError, TypeError):
        return []
    return tools if isinstance(tools, list) and all(isinstance(tool, str) for tool in tools) else []


def defaults(window: int, tools: list[str]) -> dict[str, str]:
    """The environment variables that Claude Code gets unless the user has set them. ``window``: in tokens."""
    # Claude Code assumes a million tokens for an unknown model. It compacts at window - output - 13000 tokens, so the
    # output takes an eighth of the window: a quarter of 32768 would leave room only for the prompt.
    variables = {
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(window),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(min(window // 8, 8192)),
    }
    # Below 24000 tokens this rule would compact at every turn: the user can still type /compact.
    if window < 24000:
        variables["DISABLE_AUTO_COMPACT"] = "1"
    # A model with a reduced tool set cannot write a memory. The memory's path is another one in each directory, and
    # would make the server read most of the prompt anew there.
    if tools:
        variables["CLAUDE_CODE_DISABLE_AUTO_MEMORY"] = "1"
    return variables
