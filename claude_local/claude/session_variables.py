"""The environment variables of a claude-local session. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from os.path import dirname

# They name a model for Claude Code. All of them get the one model of the session.
# ANTHROPIC_DEFAULT_FABLE_MODEL is not among them: with it, 2.1.330 tells the model at length that it is Claude Fable.
# "fable" in a command or an agent means the session's model all the same (availableModels).
MODEL_VARIABLES = (
    "ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL", "CLAUDE_CODE_SUBAGENT_MODEL",
    "CLAUDE_CODE_WORKFLOW_SUBAGENT_MODEL",
)  # fmt: skip
# These configure a surrounding Claude Code session, a cloud account or a provider, and are removed ...
_FOREIGN = ("CLAUDE", "ANTHROPIC", "AWS_BEARER_TOKEN_BEDROCK", "AI_AGENT")
# ... except for ours and the editor's, and for the user's preferences.
_KEPT = ("CLAUDE_LOCAL_", "CLAUDE_CODE_SSE_PORT", "CLAUDE_CODE_AUTO_CONNECT_IDE", "CLAUDE_CODE_IDE_",
         "CLAUDE_CODE_TMPDIR")  # fmt: skip
_PREFERENCES = (
    "CLAUDE_CODE_DISABLE_", "CLAUDE_CODE_SHELL", "CLAUDE_CODE_EFFORT_LEVEL", "CLAUDE_CODE_EXTRA_BODY",
    "CLAUDE_CODE_MAX_", "CLAUDE_CODE_FILE_READ_MAX_", "CLAUDE_CODE_NO_FLICKER", "CLAUDE_CODE_SCROLL_SPEED",
    "CLAUDE_CODE_SYNTAX_HIGHLIGHT", "CLAUDE_CODE_ACCESSIBILITY", "CLAUDE_STREAM_", "CLAUDE_BYTE_STREAM_",
    "CLAUDE_AUTOCOMPACT_",
)  # fmt: skip
# The answer to a tool search is a block that llama-server drops, and the tool that it found changes the list before the
# conversation: everything is read anew.
NO_TOOL_SEARCH = {"ENABLE_TOOL_SEARCH": "false"}
_FIXED = {
    **NO_TOOL_SEARCH,
    "CLAUDE_CODE_DISABLE_1M_CONTEXT": "1",
    # llama-server can take a prompt from its cache when the beginning stays the same. Many chat templates refuse system
    # messages in the middle of a conversation.
    "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
    "CLAUDE_CODE_TOTAL_TOKENS_REMINDER": "off",
    "CLAUDE_CODE_MODEL_CAPABILITIES": "-mid_conv_system,-mid_conv_tool_change",
    # The last line of a session: "claude --resume ID" would start the user's other Claude Code.
    "CLAUDE_CODE_RESUME_HINT_COMMAND": "claude-local",
    # No traffic to others, no updates.
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    # Without this 2.1.330 clones the plugin marketplace from GitHub at an interactive start, despite the line above.
    "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_UPDATES": "1",
    "DISABLE_FEEDBACK_COMMAND": "1",
    "DISABLE_COST_WARNINGS": "1",
}
# Milliseconds. A slow machine may read a long prompt for half an hour, or answer another session first. While it reads
# it sends a comment every 30 s (tests/conformance), so three minutes without a byte are a dead connection.
_HALF_AN_HOUR = "1800000"
_TIMEOUTS = {
    "API_TIMEOUT_MS": _HALF_AN_HOUR,
    "CLAUDE_STREAM_IDLE_TIMEOUT_MS": _HALF_AN_HOUR,
    "CLAUDE_STREAM_FIRST_BYTE_TIMEOUT_MS": _HALF_AN_HOUR,
    "CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS": "180000",
}
# What a small model is asked for when a conversation is compacted. Claude Code's own order takes 1,450 tokens, and asks
# for an analysis and a summary of nine sections.
_SUMMARY = """\
Your task is to sum up the conversation so far, so that the work can go on without it. In at most 120 words: what the \
user asked, what was found in which files, what was changed, what is still to do. Write it as plain text, like this:

<summary>
...
</summary>"""
# Claude Code compacts this many tokens before its limit, which is the window without the output.
_COMPACTION_BUFFER = 13_000


def cleaned(env: Mapping[str, str]) -> dict[str, str]:
    """``env`` without other sessions, accounts and providers. The user's preferences stay, except inside a session:
    children of a session have CLAUDECODE set, and their values are the session's."""
    kept = _KEPT if env.get("CLAUDECODE") else (*_KEPT, *_PREFERENCES)
    # bash puts its own options into the first two when the caller exports them.
    return {
        name: value for name, value in env.items()
        if name not in ("SHELLOPTS", "BASHOPTS") and (not name.startswith(_FOREIGN) or name.startswith(kept))
    }  # fmt: skip


def session_variables(
    env: Mapping[str, str], *, server: str, token: str, model: str, config_dir: str, bash_env: str, native_claude: str
) -> dict[str, str]:
    """What is set for every session. ``env``: the user's, whose time-outs and proxy exceptions count. ``server``: its
    base URL. ``config_dir``, ``bash_env``, ``native_claude``: paths."""
    path, native = env.get("PATH", "/usr/bin:/bin"), dirname(native_claude)
    return {
        # Last, for Claude Code's doctor: it complains of a native installation that is not on PATH.
        "PATH": path if native in path.split(":") else f"{path}:{native}",
        "CLAUDE_CONFIG_DIR": config_dir,
        "CLAUDE_ENV_FILE": bash_env,
        "ANTHROPIC_BASE_URL": server,
        "ANTHROPIC_AUTH_TOKEN": token,
        **dict.fromkeys(MODEL_VARIABLES, model),
        **_FIXED,
        **{name: env.get(name) or value for name, value in _TIMEOUTS.items()},
        **{
            name: f"{env[name]},127.0.0.1,localhost" if env.get(name) else "127.0.0.1,localhost"
            for name in ("NO_PROXY", "no_proxy")
        },
    }


def model_variables(window: int, small: bool, largest: int = 0) -> dict[str, str]:
    """What Claude Code has to know of the model, unless the user has set it. ``window``: in tokens. ``small``: its
    profile has a tool set without Bash. ``largest``: the largest window of a profile that a switch may bring."""
    # Some answers of a small model never end, and all sessions wait for them.
    output = min(window // 16, 2048) if small else min(window // 8, 8192)
    variables = {
        # Claude Code assumes a million tokens for an unknown model.
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(window),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(output),
        # One file must not fill the window. Claude Code's own limit is 25000.
        "CLAUDE_CODE_FILE_READ_MAX_OUTPUT_TOKENS": str(min(window // 4, 25_000)),
        # The memory's path, another one in each directory, stands before the tools: the server would read nearly the
        # whole prompt anew there. The git status does the same to the first question.
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
        "CLAUDE_CODE_DISABLE_GIT_INSTRUCTIONS": "1",
    }
    if small:
        # Not documented by Claude Code: tests/integration/test_compaction.py shows that 2.1.330 takes it.
        variables["CLAUDE_CODE_CURRIED_TRINKET"] = _SUMMARY
    if window < 24_000:
        # After a compaction Claude Code shows the last five files again, which may fill such a window at once. The user
        # can still type /compact.
        variables["DISABLE_AUTO_COMPACT"] = "1"
    elif output + _COMPACTION_BUFFER > window // 5 or largest > window:
        # Claude Code would compact a window of 32768 tokens when half of it is used, and keep the window of its start
        # when a profile with a larger one becomes active. Now it waits until llama-server says that the request is too
        # long.
        variables["CLAUDE_CODE_DISABLE_UNKNOWN_MODEL_WINDOW_ENFORCEMENT"] = "1"
    return variables
