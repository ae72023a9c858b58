"""The shape of recorded requests: roles, block types, tool names, schemas' types, sizes. Pure.

A shape may be kept in git, because it contains no text of Claude Code's. A text becomes its number of characters in
hundreds, a schema its property names with their types, optional ones marked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.chat.recorder import Session

KEPT = Path(__file__).parent / "shapes.json"


def shape(version: str, sessions: Sequence[Session]) -> dict[str, Any]:
    """The shape of a recording, as shapes.json has it."""
    return {
        "claude_code": version,
        "sessions": {session.name: [_body(body) for body in session.bodies] for session in sessions},
        "tools": {tool["name"]: _schema(tool["input_schema"]) for tool in _all_tools(sessions)},
    }


def _all_tools(sessions: Sequence[Session]) -> list[dict[str, Any]]:
    tools = {tool["name"]: tool for session in sessions for body in session.bodies for tool in body["tools"]}
    return [tools[name] for name in sorted(tools)]


def _body(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "fields": sorted(body),
        "thinking": body.get("thinking", {}).get("type"),
        "system": [_size(block["text"]) for block in body["system"]],
        "tools": [tool["name"] for tool in body["tools"]],
        "tools_size": _size(json.dumps(body["tools"])),
        "messages": [f"{message['role']}: {_content(message['content'])}" for message in body["messages"]],
    }


def _content(content: Any) -> str:
    if isinstance(content, str):
        return "words"
    # Two things differ from run to run and are not part of the shape: the order of parallel results, which is that in
    # which tools end, and the number of reminders before a question, which depends on the machine (git, agents,
    # skills).
    kinds = [_block(block) for block in content]
    if all(kind.startswith("tool_result") for kind in kinds):
        kinds.sort()
    folded = [kind for place, kind in enumerate(kinds) if kind != "text" or kinds[place - 1 : place] != ["text"]]
    return ", ".join(folded)


def _block(block: dict[str, Any]) -> str:
    if block["type"] == "tool_use":
        return f"tool_use {block['name']}"
    if block["type"] == "tool_result":
        inside = block.get("content", "")
        kind = "words" if isinstance(inside, str) else "+".join(each["type"] for each in inside)
        return f"tool_result {kind}" + (" is_error" if block.get("is_error") else "")
    return str(block["type"])


def _size(text: str) -> int:
    return round(len(text), -2)


def _schema(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return "any"
    if "properties" in schema:
        required = schema.get("required", [])
        return {
            name + ("" if name in required else "?"): _schema(inner) for name, inner in schema["properties"].items()
        }
    if schema.get("type") == "array":
        return [_schema(schema.get("items"))]
    if "enum" in schema:
        return f"one of {len(schema['enum'])}"
    kind = schema.get("type", "any")
    return kind if isinstance(kind, str) else " | ".join(kind)


def differences(kept: Any, recorded: Any, where: str = "") -> list[str]:
    """One line for each difference of two shapes. Sizes include paths, so they may differ by a tenth or 500."""
    if isinstance(kept, int) and isinstance(recorded, int) and abs(kept - recorded) <= max(500, kept / 10):
        return []
    if isinstance(kept, dict) and isinstance(recorded, dict):
        lines = []
        for key in [*kept, *(key for key in recorded if key not in kept)]:
            inside = f"{where} > {key}" if where else str(key)
            if key not in recorded:
                lines.append(f"{inside}: gone")
            elif key not in kept:
                lines.append(f"{inside}: new, {json.dumps(recorded[key])[:200]}")
            else:
                lines += differences(kept[key], recorded[key], inside)
        return lines
    if isinstance(kept, list) and isinstance(recorded, list) and len(kept) == len(recorded):
        pairs = enumerate(zip(kept, recorded, strict=True))
        return [line for place, (old, new) in pairs for line in differences(old, new, f"{where} > {place}")]
    return [] if kept == recorded else [f"{where}: was {json.dumps(kept)[:200]}, is {json.dumps(recorded)[:200]}"]
