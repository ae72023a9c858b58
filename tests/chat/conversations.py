"""The conversations that every template must render, made from recorded requests, and the parts that a prompt lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

from tests.chat.recorder import ASKED, CONTENTS, FAILED, SPOKEN, THOUGHTS, Session

Body = dict[str, Any]

BESIDE = "BESIDE-ONE: and hurry, please."
NO_PICTURE = "PICTURE-LEFT-OUT"
RESULTS = tuple(content.split()[0] for content in CONTENTS.values())


def conversations(sessions: Sequence[Session]) -> dict[str, Body]:
    """The bodies by name. Only the two that are named after pictures have any. To save time, all but ``every tool``
    offer only the tools that are called.

    * ``tools``: two questions; thinking, words, parallel calls, a failed call;
    * ``loop``: the same, ended in the middle of the work;
    * ``system turn``: as ``tools``, with Claude Code's system turn inside the conversation;
    * ``every tool``: the request that offers all of them;
    * ``tool search``: a result that is a reference to a tool, with words beside it, as Claude Code sends it;
    * ``one at a time``: an answer, then single calls with thinking but no words, which every template supports;
    * ``swapped results``: the second of two parallel calls has its result first;
    * ``words beside results``: words in the turn that returns results (an interrupted session, a hook);
    * ``picture``, ``picture as result``: in the user's words, and returned by Read.
    """
    by_name = {session.name: session.bodies for session in sessions}
    two_results = in_order(by_name["tools"][1])
    swapped, beside = deepcopy(two_results), deepcopy(two_results)
    swapped["messages"][-1]["content"].sort(key=_first_result_last)
    beside["messages"][-1]["content"].append({"type": "text", "text": BESIDE})
    made = {
        "tools": in_order(by_name["tools"][-1]),
        "loop": in_order(by_name["tools"][3]),
        "system turn": in_order(by_name["system"][-1]),
        "every tool": by_name["every tool"][-1],
        "tool search": by_name["tool search"][-1],
        "one at a time": one_at_a_time(by_name["tools"][-1]),
        "swapped results": swapped,
        "words beside results": beside,
    }
    made = {name: without_pictures(body) for name, body in made.items()}
    made |= {"picture": by_name["picture"][-1], "picture as result": in_order(by_name["tools"][-1])}
    return {name: body if name == "every tool" else called_tools(body) for name, body in made.items()}


def called_tools(body: Body) -> Body:
    """A copy that offers Read and ToolSearch only."""
    return {**body, "tools": [tool for tool in body["tools"] if tool["name"] in ("Read", "ToolSearch")]}


def in_order(body: Body) -> Body:
    """A copy with results in the order of their calls. Claude Code sends them in the order in which the tools end."""
    copied = deepcopy(body)
    calls = [block["id"] for block in _blocks(copied, "tool_use")]
    for message in copied["messages"]:
        blocks = message["content"]
        if not isinstance(blocks, str) and any(block["type"] == "tool_result" for block in blocks):
            blocks.sort(key=lambda block: calls.index(block["tool_use_id"]) if "tool_use_id" in block else len(calls))
    return copied


def one_at_a_time(body: Body) -> Body:
    """A copy in which the first question is answered without a tool and the second with one call after the other, each
    question's texts as one block."""
    copied = deepcopy(body)
    asked, _, _, listing, listed, reading, read, answer, asked_again = copied["messages"]
    copied["messages"] = [asked, answer, asked_again, listing, listed, reading, read]
    # llama-server asks templates to keep earlier thinking; the makers' template of Qwen3.5 cannot do that yet.
    copied["chat_template_kwargs"] = {"preserve_reasoning": False}
    for message in copied["messages"]:
        kinds = {block["type"] for block in message["content"]}
        if message["role"] == "user" and kinds == {"text"}:
            message["content"] = [{"type": "text", "text": "\n".join(_texts(message["content"]))}]
    return copied


def marked(body: Body, mark: str) -> Body:
    """A copy with ``mark`` at the end of its last turn."""
    copied = deepcopy(body)
    last = copied["messages"][-1]["content"][-1]
    if last["type"] == "tool_result":
        last["content"] = f"{text_of(last)} {mark}"
    else:
        last["text"] += f" {mark}"
    return copied


def _first_result_last(block: dict[str, Any]) -> bool:
    return RESULTS[0] in str(block.get("content"))


def without_pictures(body: Body) -> Body:
    """A copy with words in the place of each picture."""

    def replaced(value: Any) -> Any:
        if isinstance(value, dict) and value.get("type") == "image":
            return {"type": "text", "text": NO_PICTURE}
        if isinstance(value, dict):
            return {key: replaced(each) for key, each in value.items()}
        return [replaced(each) for each in value] if isinstance(value, list) else value

    return {**body, "messages": replaced(body["messages"])}


def pictures(body: Body) -> int:
    """How many pictures a request holds."""

    def count(value: Any) -> int:
        if isinstance(value, dict):
            return int(value.get("type") == "image") + sum(count(each) for each in value.values())
        return sum(count(each) for each in value) if isinstance(value, list) else 0

    return count(body["messages"])


def bare(text: str) -> str:
    """The letters and digits of ``text``, which stay the same however a template quotes and spaces it."""
    return re.sub(r"[\W_]+", "", re.sub(r"\\[nrt]", " ", text))


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    else:
        yield from (block["text"] for block in content if block["type"] == "text")


def _parameters(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, schema) of every parameter in a tool's schema, the nested ones too."""
    if isinstance(schema, dict):
        for name, inner in (schema.get("properties") or {}).items():
            yield name, inner
            yield from _parameters(inner)
        yield from _parameters(schema.get("items"))
    return


def _has(prompt: str) -> Callable[[str], bool]:
    stripped = bare(prompt)
    return lambda text: bare(text) in stripped


def losses(body: Body, prompt: str, thinks: bool) -> list[str]:
    """The parts of a request that the prompt lacks or has in a wrong place; empty when nothing is lost."""
    has = _has(prompt)
    found: list[str] = []

    def need(what: str, texts: Iterator[str] | Sequence[str]) -> None:
        missing = [text for text in texts if not has(text)]
        if missing:
            found.append(f"{what} lost: {missing[0][:60]!r}" + (f" and {len(missing) - 1} more" if missing[1:] else ""))

    messages = body["messages"]
    need("system prompt", list(_texts(body["system"])))
    need("system turn", [text for m in messages if m["role"] == "system" for text in _texts(m["content"])])
    need("user's words", [text for m in messages if m["role"] == "user" for text in _texts(m["content"])])
    need("model's words", [text for m in messages if m["role"] == "assistant" for text in _texts(m["content"])])
    need("tool", [tool["name"] for tool in body["tools"]])
    need("tool's description", [tool.get("description", "") for tool in body["tools"]])
    parameters = [each for tool in body["tools"] for each in _parameters(tool["input_schema"])]
    need("parameter", [name for name, _ in parameters])
    need("parameter's description", [schema["description"] for _, schema in parameters if "description" in schema])
    need("parameter's values", [word for _, schema in parameters for word in schema.get("enum", []) if word])
    need("call", [value for call in _blocks(body, "tool_use") for value in call["input"].values()])
    # The lines that a tool printed, without line numbers and blank ends.
    need("result", [line for r in _blocks(body, "tool_result") for line in text_of(r).splitlines() if bare(line)])
    return found + misplaced(body, prompt, thinks)


def _blocks(body: Body, kind: str) -> Iterator[dict[str, Any]]:
    for message in body["messages"]:
        if not isinstance(message["content"], str):
            yield from (block for block in message["content"] if block["type"] == kind)


def text_of(result: dict[str, Any]) -> str:
    """The text of a tool_result block."""
    content = result.get("content", "")
    if isinstance(content, str):
        return content
    return "\n".join(block["text"] for block in content if block["type"] == "text")


def misplaced(body: Body, prompt: str, thinks: bool) -> list[str]:
    """The parts of this conversation that are in a wrong order."""
    at = {word: prompt.find(word.split(":")[0]) for word in (*RESULTS, *THOUGHTS, SPOKEN, *ASKED, FAILED, BESIDE)}
    calls = [prompt.rfind(f"work/{name}") for name in CONTENTS]
    everything = str(body["messages"])
    found = []

    def order(what: str, *places: int) -> None:
        if -1 in places or list(places) != sorted(places):
            found.append(what)

    if all(word in everything for word in RESULTS):
        order("results are not in the order of their calls", at[RESULTS[0]], at[RESULTS[1]])
        for call, word in zip(calls, RESULTS, strict=True):
            order("a result stands before its call", call, at[word])
        if at[SPOKEN] != -1:
            order("words that came before a call stand behind it", at[SPOKEN], min(calls))
    if BESIDE in everything:
        order("words beside results stand before them", max(at[word] for word in RESULTS), at[BESIDE])
    for message in body["messages"]:
        if message["role"] == "system":
            ending = list(_texts(body["system"]))[-1].strip().splitlines()[-1]
            order("a system turn stands before the conversation", prompt.find(ending), prompt.rfind(_heading(message)))
    # Thinking since the last question belongs to the work in progress.
    thoughts = [word for word in THOUGHTS if word in everything]
    if thinks and thoughts and ASKED[1] not in everything:
        for word, place in zip(thoughts, (calls[0], at[FAILED], prompt.rfind("work/picture")), strict=False):
            order("thinking of the work in progress lost or misplaced", at[word], place)
    return list(dict.fromkeys(found))


def _heading(message: dict[str, Any]) -> str:
    return next(_texts(message["content"])).strip().splitlines()[0]
