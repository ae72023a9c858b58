"""Rows about the Messages API as llama-server speaks it: format, Anthropic's own SDK, counting, thinking, tools."""

from __future__ import annotations

from typing import Any

import anthropic
import requests

from claude_local.verify import messages_events
from claude_local.verify.checks import Check, Failed
from claude_local.verify.configuration import token
from claude_local.verify.messages_events import Verdict
from claude_local.verify.server import ANSWER, LOAD, MODEL, load, refusal, server
from claude_local.verify.workbench import Workbench

REPORT = "the server speaks another dialect than the pinned build: ./provision    (builds the pinned one)"

TOOL = {
    "name": "Read",
    "description": "Reads a file and returns its content.",
    "input_schema": {
        "type": "object",
        "properties": {"file_path": {"type": "string", "description": "The path of the file"}},
        "required": ["file_path"],
    },
}


def request(words: str, max_tokens: int = 24, **more: Any) -> dict[str, Any]:
    """A small body for ``/v1/messages``; temperature 0 makes its answer repeatable."""
    messages = [{"role": "user", "content": words}]
    return {"model": MODEL, "max_tokens": max_tokens, "temperature": 0, "messages": messages, **more}


def _accepted(response: requests.Response, what: str, bench: Workbench) -> requests.Response:
    if response.status_code != 200:
        raise Failed(f"{what}: {refusal(response)}", bench.logs_command)
    return response


def _right(verdict: Verdict, what: str) -> Verdict:
    if verdict.problems:
        more = f" (and {len(verdict.problems) - 1} more)" if len(verdict.problems) > 1 else ""
        raise Failed(f"{what}: {verdict.problems[0]}{more}", REPORT)
    return verdict


def _known(verdict: Verdict) -> str:
    count = len(verdict.deviations)
    return f"; {count} known deviations: {', '.join(verdict.deviations)}" if count else "; no deviations"


def plain(bench: Workbench, body: dict[str, Any], what: str = "/v1/messages") -> Verdict:
    """Ask without streaming and hold the answer against the format. Raises Failed."""
    response = _accepted(server(bench).post("/v1/messages", body), what, bench)
    try:
        value = response.json()
    except ValueError:
        raise Failed(f"{what}: the answer is no JSON: {response.text[:120]!r}", REPORT) from None
    return _right(messages_events.check_message(value), what)


def streamed(bench: Workbench, body: dict[str, Any], what: str = "/v1/messages, streamed") -> tuple[Verdict, int]:
    """Ask with streaming and hold every event against the format. Returns the verdict and the number of events."""
    response = server(bench).post("/v1/messages", {**body, "stream": True}, stream=True)
    with response:
        _accepted(response, what, bench)
        kind = response.headers.get("Content-Type", "")
        if not kind.startswith("text/event-stream"):
            raise Failed(f"{what}: Content-Type is {kind!r}, not text/event-stream", REPORT)
        response.encoding = "utf-8"
        try:
            events = messages_events.parse_sse(response.iter_lines(decode_unicode=True))
        except messages_events.StreamError as error:
            raise Failed(f"{what}: {error}", REPORT) from None
    return _right(messages_events.check_events(events), what), len(events)


def _plain(bench: Workbench) -> str:
    verdict = plain(bench, request("Say hello in one word."))
    if not verdict.text.strip():
        raise Failed("/v1/messages: an answer without text", bench.logs_command)
    return f"{verdict.text.strip()[:60]!r}, {verdict.usage['output_tokens']} tokens" + _known(verdict)


def _streamed(bench: Workbench) -> str:
    verdict, count = streamed(bench, request("Say hello in one word."))
    if not verdict.text.strip():
        raise Failed("/v1/messages, streamed: an answer without text", bench.logs_command)
    return f"{verdict.text.strip()[:60]!r}, all {count} events valid" + _known(verdict)


def _client(bench: Workbench) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=bench.parameters.server_url,
        api_key=None,
        auth_token=token(bench),
        max_retries=0,
        timeout=ANSWER,
        # No proxy of the environment: the SDK reads those itself, whatever trust_env says.
        http_client=anthropic.DefaultHttpxClient(mounts=dict.fromkeys(("http://", "https://", "all://"))),
    )


def _with_sdk(bench: Workbench, stream: bool) -> str:
    try:
        with _client(bench) as client:
            asked: dict[str, Any] = request("Say hello in one word.")
            asked.pop("temperature")
            if stream:
                with client.messages.stream(**asked) as events:
                    seen = {event.type for event in events}
                    message = events.get_final_message()
                if "message_stop" not in seen:
                    raise Failed(f"the SDK saw no message_stop, only {', '.join(sorted(seen))}", REPORT)
            else:
                message = client.messages.create(**asked)
            said = "".join(block.text for block in message.content if block.type == "text").strip()
            counted = message.usage.output_tokens
    except anthropic.AnthropicError as error:
        raise Failed(
            f"anthropic {anthropic.__version__} refuses the answer: {type(error).__name__}: {error}", REPORT
        ) from None
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise Failed(
            f"anthropic {anthropic.__version__} stumbles over the answer: {type(error).__name__}: {error}", REPORT
        ) from None
    if not said or message.role != "assistant" or counted < 1:
        raise Failed(f"anthropic {anthropic.__version__} read {message.to_json(indent=None)[:160]}", REPORT)
    return f"anthropic {anthropic.__version__} read {said[:60]!r}, stop reason {message.stop_reason}"


def _count(bench: Workbench) -> str:
    def ask(words: str) -> int:
        body = {"model": MODEL, "messages": [{"role": "user", "content": words}]}
        response = _accepted(server(bench).post("/v1/messages/count_tokens", body), "count_tokens", bench)
        value = response.json()
        if problems := messages_events.check_token_count(value):
            raise Failed(f"count_tokens: {problems[0]}", REPORT)
        return int(value["input_tokens"])

    short, long = ask("hello"), ask("hello " * 200)
    if not short < long:
        raise Failed(f"count_tokens: {short} tokens for one word, {long} for two hundred", REPORT)
    return f"{short} tokens for one word, {long} for two hundred"


def _thinking(bench: Workbench) -> str:
    body = request("What is 2 + 2? Answer with the number.", 1280, thinking={"type": "enabled", "budget_tokens": 1024})
    body.pop("temperature")
    verdict, _ = streamed(bench, body, "a request with thinking")
    if verdict.thinking:
        return f"accepted, {len(verdict.thinking)} characters of thinking, then {verdict.text.strip()[:40]!r}" + _known(
            verdict
        )
    if not verdict.text.strip():
        raise Failed("a request with thinking got neither thinking nor text", bench.logs_command)
    return f"accepted; {bench.parameters.default} does not think, it answered {verdict.text.strip()[:40]!r}"


def _tool_call(bench: Workbench) -> str:
    prompts = (
        "Use the Read tool to read the file notes.txt.",
        "Read the file notes.txt with the Read tool. Answer with the tool call only.",
    )
    said = []
    for attempt, prompt in enumerate(prompts, 1):
        body = request(prompt, 160, tools=[TOOL], tool_choice={"type": "auto"})
        verdict, _ = streamed(bench, body, "a request with a tool")
        for call in verdict.tools:
            if call["name"] == "Read" and "notes.txt" in str(call["input"].get("file_path", "")):
                again = "" if attempt == 1 else " (second attempt)"
                return f"Read({call['input']['file_path']!r}), stop reason {verdict.stop_reason}{again}" + _known(
                    verdict
                )
        said.append(verdict.text.strip()[:80] or str(verdict.tools)[:80])
    raise Failed(
        f"{bench.parameters.default} called no tool in {len(prompts)} attempts, it said {said[0]!r}",
        "the server works; this model or its chat template does not call tools: choose another default_profile",
    )


def _mid_conversation(profile: str) -> Check:
    def run(bench: Workbench) -> str:
        took = load(bench, profile)
        body = {
            "model": profile,
            "max_tokens": 8,
            "temperature": 0,
            "messages": [
                {"role": "user", "content": "Good morning."},
                {"role": "system", "content": "The user's name is Ada."},
                {"role": "user", "content": "Say hello."},
            ],
        }
        try:
            verdict = plain(bench, body, f"a system message in the middle, {profile}")
        except Failed as failed:
            raise Failed(
                failed.what,
                f"give {profile} a chat_template that folds system messages (models.conf), then ./provision",
            ) from None
        return f"accepted, answered {verdict.text.strip()[:40]!r}" + (f", loaded in {took:.0f} s" if took > 1 else "")

    return Check(
        f"messages.mid-system.{profile}",
        f"{profile} accepts a system message in mid-conversation",
        run,
        needs=("server.model", f"model.{profile}"),
        limit=LOAD + ANSWER + 60,
    )


def _restored(bench: Workbench) -> str:
    took = load(bench, MODEL)
    return f"{MODEL} is loaded" + (f" again, in {took:.0f} s" if took > 1 else "")


def checks(profiles: tuple[str, ...], default: str) -> list[Check]:
    """The rows of this subject, in order. The last ones load every profile and then the default one again."""
    model = ("server.model", f"model.{default}")
    limit = ANSWER + 30
    return [
        Check("messages.plain", "/v1/messages answers in the right format", _plain, needs=model, limit=limit),
        Check("messages.stream", "/v1/messages streams valid events", _streamed, needs=model, limit=limit),
        Check(
            "messages.sdk", "Anthropic's SDK reads the answer", lambda b: _with_sdk(b, False), needs=model, limit=limit
        ),
        Check(
            "messages.sdk-stream",
            "Anthropic's SDK reads the stream",
            lambda b: _with_sdk(b, True),
            needs=model,
            limit=limit,
        ),
        Check("messages.count", "count_tokens counts", _count, needs=model),
        Check("messages.thinking", "a request with thinking is accepted", _thinking, needs=model, limit=limit),
        Check("messages.tool", "the real model calls a tool", _tool_call, needs=model, limit=2 * ANSWER + 30),
        *(_mid_conversation(profile) for profile in profiles),
        Check(
            "server.restored", "the default model is loaded again", _restored, needs=("server.model",), limit=LOAD + 30
        ),
    ]
