"""What a session of Claude Code did: how it ended, which tools it called, what each call returned, and its answer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from claude_local.verify.network import Destinations
from claude_local.verify.processes import Finished


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool. ``output``: the text of its result, None without a result (which counts as an error)."""

    id: str
    tool: str
    input: dict[str, Any]
    output: str | None = None
    is_error: bool = True


@dataclass(frozen=True)
class Session:
    """One ``claude -p``. ``events`` are the JSON objects it printed, ``peers`` the addresses it talked to."""

    ended: Finished
    events: list[dict[str, Any]]
    peers: Destinations | None

    @property
    def result(self) -> dict[str, Any]:
        """The closing ``result`` object; empty when there is none."""
        return next((event for event in reversed(self.events) if event.get("type") == "result"), {})

    @property
    def answer(self) -> str:
        """The text of the final answer."""
        return str(self.result.get("result") or "")

    def calls(self) -> list[ToolCall]:
        """Every tool call, in order."""
        return tool_calls(event.get("message") for event in self.events)

    def first_prompt(self) -> tuple[int, int] | None:
        """The first request's tokens that were cached and that were read; None where the events do not tell."""
        for event in self.events:
            usage = (event.get("message") or {}).get("usage") if event.get("type") == "assistant" else None
            if usage:
                return int(usage.get("cache_read_input_tokens") or 0), int(usage.get("input_tokens") or 0)
        return None

    def failure(self) -> str | None:
        """Why the session as such failed, in one line; None when it ended well."""
        detail = self.answer or self.ended.last_output
        if not self.ended.ok:
            return f"claude-local: {self.ended.outcome}: {detail or 'no output'}"
        if self.result.get("is_error") or not self.result:
            return f"claude-local reported an error: {detail or 'no result'}"
        return None


def content_text(content: Any) -> str:
    """The text in a message's content (a string, or blocks)."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "\n".join(str(block.get("text", "")) for block in blocks if isinstance(block, dict))


def tool_calls(messages: Iterable[Any]) -> list[ToolCall]:
    """The tool calls in messages of the Messages API, in order, each with its result."""
    calls: dict[str, ToolCall] = {}
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else []:
            if block.get("type") == "tool_use":
                name = str(block.get("id"))
                calls.setdefault(name, ToolCall(name, str(block.get("name")), block.get("input") or {}))
            elif block.get("type") == "tool_result" and (call := calls.get(str(block.get("tool_use_id")))):
                output, is_error = content_text(block.get("content")), bool(block.get("is_error"))
                calls[call.id] = replace(call, output=output, is_error=is_error)
    return list(calls.values())


def recorded_calls(requests: Sequence[dict[str, Any]]) -> dict[str, ToolCall]:
    """The tool calls that have a result in what a scripted backend recorded, by the call's id."""
    bodies = [request["body"] for request in requests if isinstance(request["body"], dict)]
    calls = tool_calls(message for body in bodies for message in body.get("messages") or [])
    return {call.id: call for call in calls if call.output is not None}


def parse_events(text: str) -> list[dict[str, Any]]:
    """The JSON objects among the lines of ``text`` (``--output-format stream-json`` and ``json``)."""
    events = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                events.append(value)
    return events
