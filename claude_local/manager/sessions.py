"""The running sessions, as the management API tells them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from claude_local.claude.running_sessions import running_sessions

# What everybody may know who reaches the port, another session for instance.
PUBLIC = ("profile", "own", "since")


def sessions(directory: str, active: str, *, private: bool) -> list[dict[str, Any]]:
    """One entry for each session with a record in ``directory``. ``profile``: what it uses; ``own``: it was started
    with --model, and does not follow ``active``. ``private``: with its workspace and its process."""
    found = [
        {**asdict(each), "profile": each.profile or active, "own": bool(each.profile)}
        for each in running_sessions(directory)
    ]
    return found if private else [{key: each[key] for key in PUBLIC} for each in found]
