"""The format of each family of models: thinking, words and tool calls as its makers document them.

One function for each family turns (thinking, words, calls) into the text that the model generates after the generation
prompt, without the token that ends its turn. ``calls`` are (tool, arguments). With an empty ``thinking``, the text is
that of a model that does not think.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

Calls = Sequence[tuple[str, dict[str, Any]]]
Writer = Callable[[str, str, Calls], str]


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _raw(value: Any) -> str:
    """A string as it is, anything else as JSON."""
    return value if isinstance(value, str) else _compact(value)


def fenced(thinking: str, words: str, calls: Calls) -> str:
    """Small Qwen2.5-Coder with any template (decision 4): all calls of a turn in one json block."""
    block = ",\n".join(f'{{"name": "{name}", "arguments": {_compact(given)}}}' for name, given in calls)
    return words + (("\n" if words else "") + f"```json\n{block}\n```" if calls else "")


def hermes(thinking: str, words: str, calls: Calls) -> str:
    """Qwen2.5 with its own template: one <tool_call> with JSON for each call."""
    written = [
        f'<tool_call>\n{{"name": "{name}", "arguments": {_compact(given)}}}\n</tool_call>' for name, given in calls
    ]
    return "\n".join([*([words] if words else []), *written])


def _function(name: str, given: dict[str, Any]) -> str:
    inside = "".join(f"<parameter={key}>\n{_raw(value)}\n</parameter>\n" for key, value in given.items())
    return f"<tool_call>\n<function={name}>\n{inside}</function>\n</tool_call>"


def qwen3_coder(thinking: str, words: str, calls: Calls) -> str:
    """Qwen3-Coder: XML of functions and parameters, no thinking."""
    return "\n".join(
        [*([words + "\n"] if words and calls else [words] if words else []), *(_function(*c) for c in calls)]
    )


def qwen3_5(thinking: str, words: str, calls: Calls) -> str:
    """Qwen3.5 and its successors: as Qwen3-Coder, after thinking, which the generation prompt opens."""
    rest = "\n\n".join([*([words] if words else []), *(["\n".join(_function(*c) for c in calls)] if calls else [])])
    return f"{thinking}\n</think>\n\n{rest}"


def glm(thinking: str, words: str, calls: Calls) -> str:
    """GLM-4.5 to 4.7: pairs of keys and values; the generation prompt opens the thinking."""
    written = ""
    for name, given in calls:
        pairs = "".join(f"<arg_key>{k}</arg_key><arg_value>{_raw(v)}</arg_value>" for k, v in given.items())
        written += f"<tool_call>{name}{pairs}</tool_call>"
    return f"{thinking}</think>{words}{written}"


def harmony(thinking: str, words: str, calls: Calls) -> str:
    """gpt-oss: channels. A call ends the turn, so only the first of ``calls`` is written."""
    parts = []
    if thinking:
        parts.append(f"<|channel|>analysis<|message|>{thinking}<|end|>")
    if words:
        parts.append(
            f"<|channel|>{'commentary' if calls else 'final'}<|message|>{words}" + ("<|end|>" if calls else "")
        )
    for name, given in calls[:1]:
        parts.append(f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{_compact(given)}")
    return "<|start|>assistant".join(parts)


def _gemma_value(value: Any) -> str:
    if isinstance(value, str):
        return f'<|"|>{value}<|"|>'
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_gemma_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_gemma_value(each) for each in value) + "]"
    return _compact(value)


def gemma4(thinking: str, words: str, calls: Calls) -> str:
    """Gemma 4: its own object notation between special tokens."""
    thought = f"<|channel>thought\n{thinking}<channel|>" if thinking else ""
    return (
        thought + words + "".join(f"<|tool_call>call:{name}{_gemma_value(given)}<tool_call|>" for name, given in calls)
    )
