"""Rows about the Messages API of llama-server: plain and streamed answers, counting, thinking, tools.

Short on purpose: tests/conformance holds every field and every event against the documented format.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from claude_local.server.client import ANSWER, Event, ServerError
from claude_local.server.presets import ACTIVE
from claude_local.verify.checks import ANSWERS, Check, Failed
from claude_local.verify.server_rows import LOAD, load, loaded_in
from claude_local.verify.workbench import Workbench

WRONG_BUILD = "./provision    (the server does not answer as the pinned llama.cpp does; this builds the pinned one)"

TOOL = {
    "name": "Read",
    "description": "Reads a file and returns its content.",
    "input_schema": {
        "type": "object",
        "properties": {"file_path": {"type": "string", "description": "The path of the file"}},
        "required": ["file_path"],
    },
}


@dataclass
class Message:
    """An answer of the model: its text, its thinking, its tool calls (name, input), and how it ended."""

    text: str = ""
    thinking: str = ""
    tools: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    stop_reason: str | None = None
    output_tokens: int = 0

    def start(self, limit: int) -> str:
        """The first ``limit`` characters of the text, quoted."""
        return repr(self.text.strip()[:limit])


def message(answer: Any) -> Message:
    """The parts of a plain answer. Raises LookupError, TypeError or ValueError if it is not a message."""
    if answer["type"] != "message" or answer["role"] != "assistant":
        raise ValueError(f"type {answer['type']!r} and role {answer['role']!r}")
    parts = Message(stop_reason=answer["stop_reason"], output_tokens=int(answer["usage"]["output_tokens"]))
    for block in answer["content"]:
        if block["type"] == "text":
            parts.text += block["text"]
        elif block["type"] == "thinking":
            parts.thinking += block["thinking"]
        elif block["type"] == "tool_use":
            parts.tools.append((block["name"], dict(block["input"])))
    return parts


def streamed_message(events: list[Event]) -> Message:
    """The parts of a streamed answer. Raises LookupError, TypeError or ValueError if it is not one whole message."""
    names = [name for name, _ in events]
    if "error" in names:
        raise ValueError(f"the server reports an error: {events[names.index('error')][1]}")
    if names[:1] != ["message_start"] or names[-1] != "message_stop":
        raise ValueError(f"not one whole message, but the events {', '.join(dict.fromkeys(names)) or '(none)'}")
    blocks: list[dict[str, Any]] = []
    pieces: list[str] = []
    ending: dict[str, Any] = {}
    for name, event in events:
        if name == "content_block_start":
            blocks.append(dict(event["content_block"]))
            pieces.append("")
        elif name == "content_block_delta":
            delta = event["delta"]
            pieces[event["index"]] += delta.get("text") or delta.get("thinking") or delta.get("partial_json") or ""
        elif name == "message_delta":
            ending = event
    for block, whole in zip(blocks, pieces, strict=True):
        if block["type"] == "tool_use":
            block["input"] = json.loads(whole or "{}")
        else:
            block[block["type"]] = whole
    opening = events[0][1]["message"]
    ending = {"stop_reason": ending["delta"]["stop_reason"], "usage": ending["usage"]}
    return message({**opening, "content": blocks, **ending})


def request(prompt: str, max_tokens: int = 24, **more: Any) -> dict[str, Any]:
    """A small body for ``/v1/messages``; temperature 0 makes its answer repeatable."""
    messages = [{"role": "user", "content": prompt}]
    return {"model": ACTIVE, "max_tokens": max_tokens, "temperature": 0, "messages": messages, **more}


def ask(bench: Workbench, body: dict[str, Any], *, stream: bool = False) -> Message:
    """The model's answer to ``body``. Raises Failed or ServerError."""
    try:
        if stream:
            return streamed_message(bench.server.events("/v1/messages", {**body, "stream": True}))
        return message(bench.server.json("POST", "/v1/messages", body, timeout=ANSWER))
    except (LookupError, TypeError, ValueError) as error:
        what = f"/v1/messages{', streamed' if stream else ''}"
        raise Failed(f"{what}: the answer is not a message: {type(error).__name__}: {error}", WRONG_BUILD) from None


def _hello(bench: Workbench, *, stream: bool) -> str:
    answer = ask(bench, request("Say hello in one word."), stream=stream)
    if not answer.text.strip():
        raise Failed("/v1/messages: the answer has no text", bench.logs_command)
    return f"{answer.start(60)}, {answer.output_tokens} tokens, stop reason {answer.stop_reason}"


def _plain(bench: Workbench) -> str:
    return _hello(bench, stream=False)


def _streamed(bench: Workbench) -> str:
    return _hello(bench, stream=True)


def _count(bench: Workbench) -> str:
    def count(prompt: str) -> int:
        body = {"model": ACTIVE, "messages": [{"role": "user", "content": prompt}]}
        answer = bench.server.json("POST", "/v1/messages/count_tokens", body)
        tokens = answer.get("input_tokens") if isinstance(answer, dict) else None
        if not isinstance(tokens, int) or tokens < 1:
            raise Failed(f"count_tokens: no input_tokens in {str(answer)[:120]}", WRONG_BUILD)
        return tokens

    short, long = count("hello"), count("hello " * 200)
    if not short < long:
        raise Failed(f"count_tokens: {short} tokens for one word, {long} for two hundred", WRONG_BUILD)
    return f"{short} tokens for one word, {long} for two hundred"


def _thinking(bench: Workbench) -> str:
    body = request("What is 2 + 2? Answer with the number.", 1280, thinking={"type": "enabled", "budget_tokens": 1024})
    body.pop("temperature")
    answer = ask(bench, body, stream=True)
    if answer.thinking:
        return f"accepted: {len(answer.thinking)} characters of thinking, then {answer.start(40)}"
    if not answer.text.strip():
        raise Failed("a request with thinking got neither thinking nor text", bench.logs_command)
    return f"accepted; {bench.active} does not think, it answered {answer.start(40)}"


def _tool_call(bench: Workbench) -> str:
    prompts = (
        "Use the Read tool to read the file notes.txt.",
        "Read the file notes.txt with the Read tool. Answer with the tool call only.",
    )
    answers = []
    for attempt, prompt in enumerate(prompts, 1):
        answer = ask(bench, request(prompt, 160, tools=[TOOL], tool_choice={"type": "auto"}), stream=True)
        for name, given in answer.tools:
            if name == "Read" and "notes.txt" in str(given.get("file_path", "")):
                again = "" if attempt == 1 else " (second attempt)"
                return f"Read({given['file_path']!r}), stop reason {answer.stop_reason}{again}"
        answers.append(answer.start(80) if answer.text.strip() else str(answer.tools)[:80])
    raise Failed(
        f"{bench.active} made no tool call in {len(prompts)} attempts; it answered {answers[0]}",
        "choose another default_profile: the server works, but this model or its chat template does not call tools",
    )


def _mid_conversation(profile: str) -> Check:
    def run(bench: Workbench) -> str:
        before = bench.server.router().get(profile)
        evidence = answer(bench)
        # Unload the model that this check loaded, unless a session uses it by now.
        loaded_here = before is not None and not before.ready and profile != bench.active
        if loaded_here and not any(slot.busy for slot in bench.server.slots(profile)):
            bench.server.unload(profile)
        return evidence

    def answer(bench: Workbench) -> str:
        took = load(bench, profile)
        body = request("Good morning.", 8, model=profile)
        body["messages"] += [
            {"role": "system", "content": "The user's name is Ada."},
            {"role": "user", "content": "Say hello."},
        ]
        try:
            told = ask(bench, body)
        except ServerError as error:
            if error.status is None:
                raise
            fix = f"give {profile} a chat_template that folds system messages (models.conf), then ./provision"
            raise Failed(f"{profile} refuses a system message in mid-conversation: {error}", fix) from None
        return f"accepted, answered {told.start(40)}{loaded_in(took)}"

    return Check(
        f"messages.mid-system.{profile}",
        f"{profile} accepts a system message in mid-conversation",
        run,
        needs=("server.model", f"model.{profile}"),
        limit=LOAD + ANSWER + 60,
        about=ANSWERS,
    )


def checks(profiles: tuple[str, ...], default: str) -> list[Check]:
    """The rows of this subject, in order. The last ones load every profile: the default one must be loaded again."""
    model = ("server.model", f"model.{default}")
    limit = ANSWER + 30
    return [
        Check("messages.plain", "/v1/messages answers", _plain, needs=model, limit=limit),
        Check("messages.stream", "/v1/messages streams", _streamed, needs=model, limit=limit, about=ANSWERS),
        Check("messages.count", "count_tokens counts", _count, needs=model, about=ANSWERS),
        Check(
            "messages.thinking",
            "the server accepts a request with thinking",
            _thinking,
            needs=model,
            limit=limit,
            about=ANSWERS,
        ),
        Check(
            "messages.tool",
            "the real model calls a tool",
            _tool_call,
            needs=model,
            limit=2 * ANSWER + 30,
            about=ANSWERS,
        ),
        *(_mid_conversation(profile) for profile in profiles),
    ]
