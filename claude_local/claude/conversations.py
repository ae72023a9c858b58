"""How long an earlier conversation is, by the transcript that Claude Code (2.1.330) keeps of it."""

from __future__ import annotations

import json
import os
import re
from glob import escape, glob
from os.path import join

# What of a request's usage is in the conversation afterwards.
COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


def conversation_tokens(config_dir: str, workspace: str, conversation: str) -> int:
    """The tokens of a conversation of ``workspace``; 0 if they are not known. ``conversation``: its id; empty for the
    newest one. ``config_dir``: Claude Code's configuration directory."""
    folder = join(config_dir, "projects", re.sub("[^A-Za-z0-9]", "-", workspace))
    try:
        newest = max(glob(join(escape(folder), f"{escape(conversation) or '*'}.jsonl")), key=os.path.getmtime)
        with open(newest, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
    except (OSError, ValueError):
        return 0
    for line in reversed(lines):
        if '"compact_boundary"' in line and _entry(line).get("subtype") == "compact_boundary":
            return 0
        if '"usage"' in line and (tokens := _used(_entry(line))):
            return tokens
    return 0


def _entry(line: str) -> dict[str, object]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}


def _used(entry: dict[str, object]) -> int:
    """The tokens after an answer of the main conversation; 0 for any other entry."""
    message = entry.get("message")
    usage = message.get("usage") if isinstance(message, dict) and not entry.get("isSidechain") else None
    if entry.get("type") != "assistant" or not isinstance(usage, dict):
        return 0
    return sum(count for name in COUNTS if isinstance(count := usage.get(name), int))
