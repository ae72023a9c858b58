"""The placed profiles, as a start of claude-local needs them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from claude_local.claude.tool_sets import DEFAULT, SETS, ToolSet, tool_set
from claude_local.manager.wish import Wish
from claude_local.manager.wish import read as read_wish

# llama-server's other name for the active profile (server/presets.py).
DEFAULT_MODEL = "claude-local"


@dataclass
class Profiles:
    """The profiles of this machine. ``active``: the id of the one that answers where none is named. ``tools``: the tool
    set by id. ``labels``: name and description by id. ``windows``: tokens by id; 0: unknown.
    ``wish``: what the user wants of the server. ``at_once``: how many models the server keeps in memory."""

    active: str
    tools: dict[str, ToolSet]
    labels: dict[str, tuple[str, str]] = field(default_factory=dict)
    windows: dict[str, int] = field(default_factory=dict)
    wish: Wish = field(default_factory=lambda: Wish("", ""))
    at_once: int = 1

    def picker(self) -> list[dict[str, Any]]:
        """What ``/model`` offers: the active profile, whichever it is, and each profile for this session alone."""
        name = self.labels.get(self.active, (DEFAULT_MODEL, ""))[0]
        active = {"model": DEFAULT_MODEL, "label": name, "description": "until llama-local switch changes it"}
        return [active] + [
            {"model": each, "label": label, "description": f"{each}, this session only. {description}".strip()}
            for each, (label, description) in self.labels.items()
        ]

    @property
    def names(self) -> str:
        """For messages: ``large   (or: small)``."""
        first, *others = sorted(self.tools) or ["PROFILE"]
        return f"{first}   (or: {', '.join(others)})" if others else first


def read_profiles(path: str, wish: str) -> Profiles:
    """The profiles in the file at ``path``; none when it cannot be read. ``wish``: the management API's file."""
    try:
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
        profiles = known["profiles"].items()
        wanted = read_wish(wish, str(known.get("default") or ""), known["profiles"])
        return Profiles(
            wanted.active,
            {name: _tools(each) for name, each in profiles},
            {name: (str(each.get("name") or name), str(each.get("description") or "")) for name, each in profiles},
            {name: int(each.get("ctx_size") or 0) for name, each in profiles},
            wanted,
            int(known.get("models_at_once") or 1),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return Profiles("", {})


def _tools(profile: Any) -> ToolSet:
    named = profile.get("tools") if isinstance(profile, dict) else None
    return (tool_set(named) if isinstance(named, str) else None) or SETS[DEFAULT]
