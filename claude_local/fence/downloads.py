"""Keeps what a session wrote into its own configuration out of the commands that use the machine's network.

Claude Code takes variables from its settings, also for ``claude plugin marketplace add``: ``GIT_SSH_COMMAND`` there
would run a session's program with the network that the session does not have."""

from __future__ import annotations

import json
from os.path import exists, join

from claude_local.fence.files import read_bytes
from claude_local.fence.messages import fail

# Claude Code's global configuration, and an older name of it that 2.1.330 still prefers. No option leaves them out.
_GLOBAL = (".config.json", ".claude.json")
# Bytes of such a file that we read. It grows with the projects that were opened.
_LIMIT = 64 << 20


def leave_out_settings(command: list[str], config_dir: str) -> None:
    """Add to Claude Code's ``command`` what keeps it from reading settings of the user and of projects: a session may
    have written them. It can still write them. Ends the program when ``config_dir`` has variables in a file that it
    reads all the same."""
    for path in (join(config_dir, name) for name in _GLOBAL):
        if exists(path) and (found := _variables(read_bytes(path, limit=_LIMIT))):
            what = "this command uses the network, and a session may have written"
            fail(f"{what} {found} into {path}", f'remove "env" from {path}, and start again')
    command.insert(1, "--setting-sources=")


def _variables(content: bytes) -> str:
    """The names of the variables that a global configuration sets, for a message; empty when there are none."""
    try:
        env = json.loads(content.decode("utf-8-sig") or "{}").get("env") or {}
        return ", ".join(env)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return "something that is no JSON object"
