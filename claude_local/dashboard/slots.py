"""How fast the slots read and answer, and how long the rest of a prompt takes, from one look a second. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SlotView:
    """One place for a conversation of ``model``; counts are tokens, ``read`` has the cached ones in it.

    ``seconds_left``: until the prompt is read. ``decode``: tokens of the answer per second. None: not known yet.
    """

    model: str
    busy: bool
    prompt: int
    read: int
    cached: int
    decoded: int
    seconds_left: float | None = None
    decode: float | None = None


@dataclass
class _Begun:
    """The request in a slot: when it was first seen, when its progress last changed, and when its answer began."""

    prompt: int
    at: float
    processed: int = 0
    changed: float = 0.0
    answer: tuple[float, int] | None = None


class SlotWatch:
    """Remembers what each slot does. ``prefill``: model -> tokens per second of its last prompt."""

    def __init__(self) -> None:
        self.prefill: dict[str, float] = {}
        self._begun: dict[tuple[str, int], _Begun] = {}

    def look(self, slots: Iterable[Mapping[str, Any]], now: float) -> list[SlotView]:
        """What the management API told at ``now`` (seconds of a monotonic clock)."""
        return [self._one(slot, now) for slot in slots]

    def _one(self, slot: Mapping[str, Any], now: float) -> SlotView:
        model, prompt, processed = slot["model"], slot["prompt"], slot["processed"]
        key = model, slot["id"]
        decoded, read = slot["decoded"], slot["cached"] + slot["processed"]
        if not slot["busy"]:
            self._begun.pop(key, None)
            return SlotView(model, False, prompt, read, slot["cached"], decoded)
        begun = self._begun.get(key)
        if begun is None or begun.prompt != prompt or begun.processed > processed:
            begun = self._begun[key] = _Begun(prompt, now, processed, now)
        if processed > begun.processed:
            # The progress moves once a batch, and only then tells a speed.
            if now > begun.at:
                self.prefill[model] = processed / (now - begun.at)
            begun.processed, begun.changed = processed, now
        left = decode = None
        if decoded:
            begun.answer = begun.answer or (now, decoded)
            since, first = begun.answer
            decode = (decoded - first) / (now - since) if now > since else None
        elif speed := self.prefill.get(model):
            left = (prompt - read) / speed - (now - begun.changed)
            # Slower than before: say nothing rather than something wrong.
            left = left if left > 0 else None
        return SlotView(model, True, prompt, read, slot["cached"], decoded, left, decode)
