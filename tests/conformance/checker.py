"""A checker of the Messages API's answers: the fields of each event, their order, and the deviations that we accept.

messages.schema.json is the documented format, strictly. llama-server deviates from it in known places, which
DEVIATIONS names. Each of them is repaired before the answer is held against the schema, so a new one is a problem.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

Event = dict[str, Any]

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parent / "messages.schema.json").read_text())

EVENT_TYPES = (
    "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
    "message_stop", "ping", "error",
)  # fmt: skip

# Which deltas a block of each type may receive.
DELTAS = {
    "text": {"text_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "redacted_thinking": set(),
    "tool_use": {"input_json_delta"},
}


@dataclass(frozen=True)
class Deviation:
    """A known difference of llama-server (b11434): ``repair`` removes it from an answer and returns whether it did."""

    name: str
    repair: Callable[[str, dict[str, Any]], bool]


def _message_of(kind: str, value: dict[str, Any]) -> dict[str, Any] | None:
    message = value if kind == "message" else value.get("message") if kind == "message_start" else None
    return message if isinstance(message, dict) else None


def _blocks_of(kind: str, value: dict[str, Any]) -> list[dict[str, Any]]:
    content = value.get("content") if kind == "message" else None
    blocks = [value.get("content_block")] if kind == "content_block_start" else content
    return [block for block in blocks if isinstance(block, dict)] if isinstance(blocks, list) else []


def _message_id(kind: str, value: dict[str, Any]) -> bool:
    message = _message_of(kind, value)
    if message is None or not str(message.get("id", "")).startswith("chatcmpl-"):
        return False
    message["id"] = "msg_" + message["id"].removeprefix("chatcmpl-")
    return True


def _tool_id(kind: str, value: dict[str, Any]) -> bool:
    repaired = False
    for block in _blocks_of(kind, value):
        name = block.get("id")
        if block.get("type") == "tool_use" and isinstance(name, str) and name and not name.startswith("toolu_"):
            block["id"], repaired = "toolu_" + name, True
    return repaired


def _no_cache_creation(kind: str, value: dict[str, Any]) -> bool:
    message = _message_of(kind, value)
    usage = message.get("usage") if message else None
    if not isinstance(usage, dict) or "cache_creation_input_tokens" in usage:
        return False
    usage["cache_creation_input_tokens"] = None
    return True


def _empty_signature(kind: str, value: dict[str, Any]) -> bool:
    holders = [block for block in _blocks_of(kind, value) if kind == "message" and block.get("type") == "thinking"]
    delta = value.get("delta")
    if kind == "content_block_delta" and isinstance(delta, dict) and delta.get("type") == "signature_delta":
        holders.append(delta)
    repaired = False
    for holder in holders:
        if holder.get("signature") == "":
            holder["signature"], repaired = "unsigned", True
    return repaired


def _thinking_start_without_signature(kind: str, value: dict[str, Any]) -> bool:
    repaired = False
    for block in _blocks_of(kind, value):
        if kind == "content_block_start" and block.get("type") == "thinking" and "signature" not in block:
            block["signature"], repaired = "", True
    return repaired


def _tool_start_without_input(kind: str, value: dict[str, Any]) -> bool:
    repaired = False
    for block in _blocks_of(kind, value):
        if kind == "content_block_start" and block.get("type") == "tool_use" and "input" not in block:
            block["input"], repaired = {}, True
    return repaired


def _bare_error(kind: str, value: dict[str, Any]) -> bool:
    if kind != "error" or "error" in value or "message" not in value:
        return False
    inner = {"type": str(value.get("type", "api_error")), "message": str(value["message"])}
    value.clear()
    value.update({"type": "error", "error": inner})
    return True


DEVIATIONS = (
    Deviation("message id starts with chatcmpl-", _message_id),
    Deviation("tool id without toolu_", _tool_id),
    Deviation("usage without cache_creation_input_tokens", _no_cache_creation),
    Deviation("empty thinking signature", _empty_signature),
    Deviation("thinking block starts without a signature field", _thinking_start_without_signature),
    Deviation("tool_use block starts without input", _tool_start_without_input),
    Deviation("error event without its wrapper", _bare_error),
)
LATE_STOPS = "content blocks are closed only at the end"


@dataclass
class CheckedMessage:
    """An answer. ``problems`` is empty when it is right; ``deviations`` names the accepted ones, each once.

    ``text`` and ``thinking`` are the pieces put together; ``tools`` holds each complete tool call.
    """

    problems: list[str] = field(default_factory=list)
    deviations: list[str] = field(default_factory=list)
    text: str = ""
    thinking: str = ""
    tools: list[dict[str, Any]] = field(default_factory=list)
    stop_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)

    def _note(self, name: str) -> None:
        if name not in self.deviations:
            self.deviations.append(name)


@cache
def _validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]})


def _describe(error: ValidationError, where: str) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    message = error.message
    return f"{where}{path}: {message if len(message) <= 160 else message[:157] + '...'}"


def _schema_problems(kind: str, value: Any, where: str) -> list[str]:
    error = best_match(_validator(kind).iter_errors(value))
    return [_describe(error, where)] if error is not None else []


def _repair(kind: str, value: dict[str, Any], checked: CheckedMessage) -> dict[str, Any]:
    copy = deepcopy(value)
    for deviation in DEVIATIONS:
        if deviation.repair(kind, copy):
            checked._note(deviation.name)
    return copy


def check_message(value: Any) -> CheckedMessage:
    """Hold one whole (not streamed) answer against the format."""
    checked = CheckedMessage()
    if not isinstance(value, dict):
        checked.problems.append(f"message: {type(value).__name__} instead of an object")
        return checked
    message = _repair("message", value, checked)
    checked.problems += _schema_problems("message", message, "message")
    if checked.problems:
        return checked
    for block in message["content"]:
        if block["type"] == "text":
            checked.text += block["text"]
        elif block["type"] == "thinking":
            checked.thinking += block["thinking"]
        elif block["type"] == "tool_use":
            checked.tools.append(block)
    checked.stop_reason, checked.usage = message["stop_reason"], message["usage"]
    _check_stop_reason(checked)
    return checked


def check_token_count(value: Any) -> list[str]:
    """Problems of an answer of ``/v1/messages/count_tokens``; none: it is right."""
    return _schema_problems("token_count", value, "count")


def _check_stop_reason(checked: CheckedMessage) -> None:
    if checked.stop_reason == "tool_use" and not checked.tools:
        checked.problems.append("stop_reason is tool_use, but there is no tool_use block")
    if checked.tools and checked.stop_reason not in ("tool_use", "max_tokens"):
        checked.problems.append(f"there is a tool_use block, but stop_reason is {checked.stop_reason}")


@dataclass
class _Block:
    kind: str
    start: dict[str, Any]
    pieces: list[str] = field(default_factory=list)
    signed: bool = False
    open: bool = True


class _Stream:
    """The state of one stream while its events are read in order."""

    def __init__(self, checked: CheckedMessage) -> None:
        self.checked = checked
        self.blocks: list[_Block] = []
        self.started = False
        self.ended = False
        self.stopped = False

    def problem(self, text: str) -> None:
        self.checked.problems.append(text)

    def read(self, event: Event, where: str) -> None:
        kind = event["type"]
        if self.stopped:
            self.problem(f"{where}: {kind} after message_stop")
            return
        if kind == "error":
            self.problem(f"{where}: the server reports an error: {event['error']['message']}")
            self.stopped = True
            return
        if kind == "message_start":
            if self.started:
                self.problem(f"{where}: a second message_start")
            self.started = True
            self.checked.usage = dict(event["message"]["usage"])
            return
        if not self.started:
            self.problem(f"{where}: {kind} before message_start")
            self.started = True
        if kind == "message_stop":
            self.stopped = True
            if not self.ended:
                self.problem(f"{where}: message_stop without a message_delta before it")
        elif kind == "message_delta":
            self._message_delta(event, where)
        elif kind != "ping":
            if self.ended:
                self.problem(f"{where}: {kind} after message_delta")
            getattr(self, "_" + kind)(event, where)

    def _message_delta(self, event: Event, where: str) -> None:
        if still_open := [str(number) for number, block in enumerate(self.blocks) if block.open]:
            self.problem(f"{where}: message_delta while content block {', '.join(still_open)} is open")
        self.ended = True
        self.checked.stop_reason = event["delta"]["stop_reason"]
        self.checked.usage.update({key: value for key, value in event["usage"].items() if value is not None})

    def _content_block_start(self, event: Event, where: str) -> None:
        if event["index"] != len(self.blocks):
            self.problem(f"{where}: content block {event['index']} starts, {len(self.blocks)} was expected")
        if any(block.open for block in self.blocks):
            self.checked._note(LATE_STOPS)
        self.blocks.append(_Block(event["content_block"]["type"], event["content_block"]))

    def _block(self, event: Event, where: str) -> _Block | None:
        if event["index"] >= len(self.blocks):
            self.problem(f"{where}: {event['type']} for content block {event['index']}, which has not started")
            return None
        block = self.blocks[event["index"]]
        if not block.open:
            self.problem(f"{where}: {event['type']} for content block {event['index']}, which is closed")
            return None
        return block

    def _content_block_delta(self, event: Event, where: str) -> None:
        block = self._block(event, where)
        if block is None:
            return
        delta = event["delta"]
        if delta["type"] not in DELTAS[block.kind]:
            self.problem(f"{where}: a {delta['type']} for a {block.kind} block")
        elif delta["type"] == "signature_delta":
            block.signed = True
        elif block.signed:
            self.problem(f"{where}: more thinking after the block's signature")
        else:
            block.pieces.append(delta.get("text") or delta.get("thinking") or delta.get("partial_json") or "")

    def _content_block_stop(self, event: Event, where: str) -> None:
        block = self._block(event, where)
        if block is None:
            return
        block.open = False
        whole = "".join(block.pieces)
        if block.kind == "text":
            self.checked.text += whole
        elif block.kind == "thinking":
            self.checked.thinking += whole
            if not block.signed:
                self.problem(f"{where}: a thinking block ends without its signature_delta")
        elif block.kind == "tool_use":
            self._tool(block, whole, where)

    def _tool(self, block: _Block, whole: str, where: str) -> None:
        try:
            arguments = json.loads(whole) if whole else {}
        except ValueError as error:
            self.problem(f"{where}: the arguments of {block.start['name']} are no JSON ({error})")
            return
        if not isinstance(arguments, dict):
            self.problem(f"{where}: the arguments of {block.start['name']} are no JSON object")
            return
        self.checked.tools.append({**block.start, "input": arguments})


def check_events(events: Iterable[tuple[str, Event]]) -> CheckedMessage:
    """Hold a whole stream against the format: every event's fields, and the order of all."""
    checked = CheckedMessage()
    stream = _Stream(checked)
    count = 0
    for number, (name, event) in enumerate(events, 1):
        count = number
        kind = "error" if name == "error" else event.get("type")
        where = f"event {number} ({kind})"
        if kind not in EVENT_TYPES:
            checked.problems.append(f"event {number}: {kind!r} is no event of the Messages API")
            continue
        if name != kind:
            checked.problems.append(f"{where}: it is named {name!r}, its type says {kind!r}")
        fixed = _repair(kind, event, checked)
        if problems := _schema_problems(kind, fixed, where):
            checked.problems += problems
            return checked
        stream.read(fixed, where)
    if not count:
        checked.problems.append("the stream holds no event")
    elif not stream.stopped:
        checked.problems.append(f"the stream ends after {count} events without message_stop")
    if not checked.problems:
        _check_stop_reason(checked)
    return checked
