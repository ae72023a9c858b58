"""Many switches while clients stream, and two sessions on two profiles: what it costs, and whether anything is lost."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_local.server.client import ANSWER
from tests.streaming_clients import StreamingClient
from tests.two_containers import PROMPT, TOKEN, Pair


@dataclass(frozen=True)
class Use:
    """What both containers use while nothing runs in them."""

    processes: int
    descriptors: int
    memory_mib: float


@dataclass
class Load:
    """The result. ``statuses``: of the switches. ``seconds``: of each switch. ``asked``: the last model that was asked
    for, ``active``: the one that answers. ``requests``: complete answers; ``failures``: tries that clients repeated."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    asked: str = ""
    active: str = ""
    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    unanswered: list[str] = field(default_factory=list)
    slowest_request: float = 0.0
    before: Use = Use(0, 0, 0.0)
    after: Use = Use(0, 0, 0.0)


def use(pair: Pair) -> Use:
    """The processes of both containers, their open files, and their memory without shared pages."""
    numbers = list(pair.processes())
    memory = 0.0
    for number in numbers:
        rollup = Path(f"/proc/{number}/smaps_rollup").read_text()
        memory += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")) / 1024
    return Use(len(numbers), sum(len(os.listdir(f"/proc/{number}/fd")) for number in numbers), round(memory, 1))


def switch_under_load(pair: Pair, names: Sequence[str], switches: int, clients: int = 4) -> Load:
    """Switch from one model to the next while ``clients`` stream. The first round is not in ``before``."""
    result = Load()
    for name in (*names[1:], names[0]):
        pair.switch(name).raise_for_status()
        pair.ask()
    result.before = use(pair)
    streaming = [StreamingClient(pair.llama.url, TOKEN, PROMPT) for _ in range(clients)]
    for client in streaming:
        client.start()
    for number in range(switches):
        result.asked = names[(number + 1) % len(names)]
        began = time.monotonic()
        result.statuses[pair.switch(result.asked).status_code] += 1
        result.seconds.append(time.monotonic() - began)
    for client in streaming:
        client.finish()
        result.requests += client.answers.total()
        result.failures += client.failures
        result.unanswered += client.unanswered
        result.slowest_request = max(result.slowest_request, client.slowest)
    result.active = pair.ask()
    # The same model as before, so that the figures can be compared.
    pair.switch(names[0]).raise_for_status()
    pair.ask()
    result.after = use(pair)
    return result


def two_sessions(pair: Pair, other: str, turns: int) -> tuple[int, float]:
    """Two sessions answer in turns, one on the active profile and one started with ``--model other``. The loads of the
    server since its start, and the seconds of all turns."""
    conversations: dict[str, list[dict[str, Any]]] = {"claude-local": [], other: []}
    began = time.monotonic()
    for _ in range(turns):
        for model, messages in conversations.items():
            messages.append({"role": "user", "content": PROMPT})
            body = {"model": model, "max_tokens": 8, "messages": messages}
            answer = pair.llama.json("POST", "/v1/messages", body, timeout=ANSWER)
            assert (answer["model"] == other) is (model == other), answer["model"]
            messages.append({"role": "assistant", "content": answer["content"]})
    return pair.loads(), time.monotonic() - began
