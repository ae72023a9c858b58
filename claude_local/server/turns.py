"""The answered requests that llama-server's log tells of, and why a prompt had to be read anew. Pure.

The lines are those of b11434 at its usual verbosity.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

# The share of a prompt that must come from the cache for the request to count as a hit.
HIT = 0.5
# Tokens that are read so quickly that nobody asks why.
FEW = 512


@dataclass(frozen=True)
class Turn:
    """A request that was answered. ``cached``, ``computed``, ``decoded``: tokens of its prompt that were there, tokens
    that were read, and tokens of the answer. ``read_ms``, ``decode_ms``: milliseconds for the last two. ``cause``: why
    most of a prompt had to be read, as far as the log tells it; empty for a hit, and where it was short. ``model``: its
    id, empty if these lines do not name it."""

    cached: int
    computed: int
    decoded: int
    read_ms: float
    decode_ms: float
    cause: str = ""
    model: str = ""

    @property
    def seconds(self) -> float:
        """For reading and answering, without waiting."""
        return (self.read_ms + self.decode_ms) / 1000

    @property
    def read_speed(self) -> float | None:
        """Tokens of the prompt a second; None where too few were read to tell."""
        return self.computed / self.read_ms * 1000 if self.computed > 1 and self.read_ms else None

    @property
    def decode_speed(self) -> float | None:
        """Tokens of the answer a second; None for an answer of a single token."""
        return self.decoded / self.decode_ms * 1000 if self.decoded > 1 and self.decode_ms else None

    def as_data(self) -> dict[str, Any]:
        """For JSON, with both speeds."""
        return {**asdict(self), "read_speed": self.read_speed, "decode_speed": self.decode_speed}


# The router puts the port of the model's process before its lines, and says which model it is at each request.
_PORT = re.compile(r" proxying request to model (\S+) on port (\d+)$")
_LINE = re.compile(r"^(?:\[(?P<port>\d+)\])? ?[\d.]+ \w slot .* id +(?P<slot>\d+) \| task -?\d+ \| (?P<message>.*)")
_CHOSEN = re.compile(r"selected slot by (LRU|LCP)[^\d-]+(-?[\d.]+)")
_TIME = re.compile(r" *(prompt eval|eval) time = +([\d.]+) ms / +(\d+) tokens")
_END = re.compile(r"stop processing: n_tokens = (\d+)")


@dataclass
class _Request:
    """What is known of a slot's request. ``chosen``: how the slot was. ``times``: milliseconds and tokens."""

    chosen: tuple[str, float] = ("", 0.0)
    times: dict[str, tuple[float, int]] = field(default_factory=dict)


class TurnReader:
    """Takes the log line by line. Of a request that was cancelled the log has no times, so it is none of the turns."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str | None, str], _Request] = {}
        self._models: dict[str | None, str] = {}

    def read(self, line: str) -> Turn | None:
        """The turn that ends with this line."""
        if named := _PORT.search(line):
            self._models[named[2]] = named[1]
        if not (found := _LINE.match(line)):
            return None
        slot, message = (found["port"], found["slot"]), found["message"]
        request = self._requests.setdefault(slot, _Request())
        if match := _CHOSEN.match(message):
            self._requests[slot] = _Request((match[1], float(match[2])))
        elif match := _TIME.match(message):
            request.times[match[1]] = float(match[2]), int(match[3])
        elif match := _END.match(message):
            del self._requests[slot]
            return _turn(request, int(match[1]), self._models.get(found["port"], ""))
        return None


def turns(log: Iterable[str]) -> list[Turn]:
    """The answered requests in these lines, the newest last."""
    reader = TurnReader()
    return [turn for line in log if (turn := reader.read(line))]


def _turn(request: _Request, total: int, model: str) -> Turn | None:
    """``total``: tokens in the slot at the end: the whole prompt, and the answer but its last token."""
    if request.times.keys() != {"prompt eval", "eval"}:
        return None
    (read_ms, computed), (decode_ms, decoded) = request.times["prompt eval"], request.times["eval"]
    cached = max(0, total - computed - max(0, decoded - 1))
    hit = computed < FEW or cached >= HIT * (cached + computed)
    cause = "" if hit else _cause(*request.chosen, cached)
    return Turn(cached, computed, decoded, read_ms, decode_ms, cause, model)


def _cause(by: str, number: float, cached: int) -> str:
    """``by`` LRU: no slot had the prompt's beginning; ``number``: when this one was last used, -1 never. LCP: a slot
    had this share of the prompt. ``cached``: tokens that were used of it."""
    if by == "LRU":
        return "the first turn after a load" if number < 0 else "a new conversation"
    if by == "LCP" and number >= HIT:
        uncut = "this model's cache cannot be cut back to where the text changed"
        # The log does not say that a request came with "cache_prompt": false.
        return uncut if cached else f"the request wanted no cache, or {uncut}"
    return f"only {number:.0%} of the text was cached" if by == "LCP" else "the log does not say why"
