"""Kill a part of the system at a random moment of a switch, and look at what the next start makes of it."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import requests

from claude_local.manager.wish import Wish
from tests.own_docker import OwnDocker
from tests.streaming_clients import StreamingClient
from tests.two_containers import PROMPT, TOKEN, Pair

# Seconds in which a switch of a tiny model is under way, and that the next start may take.
SWITCH, RESOLVED = 0.4, 90.0
# Docker waits longer before each restart of a container that ran for less than ten seconds.
SETTLED = 11.0


@dataclass(frozen=True)
class Round:
    """One kill. ``moment``: seconds after the begin of the switch, ``stage`` where it was. ``active``: the profile that
    answers afterwards. ``seconds``: until it did. ``wrong``: what is not as it has to be."""

    victim: str
    moment: float
    stage: str
    before: str
    asked: str
    active: str
    seconds: float
    wrong: list[str]


def victims(pair: Pair, victim: str) -> list[int]:
    """The processes to kill: this machine's numbers."""
    found = {number: words for number, words in pair.processes().items() if "docker-init" not in words}
    chosen = {
        "manager": lambda words: "claude_local.manager" in words,
        "server": lambda words: "--models-preset" in words,
        "child": lambda words: "llama-server" in words and "--models-preset" not in words,
    }[victim]
    return [number for number, words in found.items() if chosen(words)]


def kill_during_switch(pair: Pair, victim: str, asked: str, moment: float, daemon: OwnDocker | None) -> Round:
    """Begin a switch to ``asked``, kill after ``moment`` seconds, wait until the state is resolved."""
    before = str(pair.get("/status")["model"])
    # Found before, because looking takes a tenth of a second; a child may be another one in the meantime.
    numbers = victims(pair, victim) if victim in ("manager", "server") else []
    switch = threading.Thread(target=_switch, args=(pair, asked), daemon=True)
    switch.start()
    time.sleep(moment)
    stage = _stage(pair)
    end = time.monotonic() + 5
    while daemon is None and not numbers and time.monotonic() < end:
        numbers = victims(pair, victim)
    for number in numbers:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    began = time.monotonic()
    if daemon is not None:
        daemon.kill()
        daemon.start()
    switch.join(RESOLVED)
    return resolved(pair, Round(victim, round(moment, 2), stage, before, asked, "", 0.0, []), began)


def resolved(pair: Pair, one: Round, began: float) -> Round:
    """The round with what came of it."""
    wrong = []
    try:
        # The router notices a killed process a moment later.
        pair.until(lambda: pair.get("/status")["state"] == "ready" and bool(pair.ask()), RESOLVED)
    except AssertionError as error:
        wrong.append(f"not ready after {RESOLVED:.0f} s: {error}")
    active, seconds = "", time.monotonic() - began
    with suppress(Exception):
        active = pair.ask()
    models = pair.get("/models")["models"]
    if active not in (one.before, one.asked):
        wrong.append(f"{active or 'nothing'} answers")
    if [each["id"] for each in models if each["active"]] != [active]:
        wrong.append("another profile is called active")
    try:
        if Wish(**json.loads(pair.wish.read_text())).active != active:
            wrong.append("the wish is another profile")
    except (OSError, ValueError, TypeError) as error:
        wrong.append(f"the wish is damaged: {error}")
    kinds = {kind: len(victims(pair, kind)) for kind in ("manager", "server", "child")}
    if kinds != {"manager": 1, "server": 1, "child": 1}:
        wrong.append(f"processes: {kinds}")
    if pair.switch(one.asked).status_code != 200 or pair.ask() != one.asked:
        wrong.append("the next switch fails")
    return Round(one.victim, one.moment, one.stage, one.before, one.asked, active, round(seconds, 1), wrong)


def moments(rounds: int) -> list[float]:
    """Random moments, spread over a switch."""
    return [(number + random.random()) * SWITCH / rounds for number in range(rounds)]


def _stage(pair: Pair) -> str:
    with suppress(requests.RequestException, ValueError):
        status = requests.get(f"{pair.api}/status", timeout=1).json()
        return str((status["switch"] or {"stage": "over"})["stage"])
    return "unknown"


def _switch(pair: Pair, asked: str) -> None:
    """Ask for a switch whose answer may never come, while a request is answered."""
    with suppress(requests.RequestException):
        pair.switch(asked)


def kill_rounds(pair: Pair, victim: str, rounds: int, daemon: OwnDocker | None = None) -> Iterator[Round]:
    """So many kills of ``victim`` at random moments, while a client streams. ``daemon``: the one for dockerd."""
    names = [each["id"] for each in pair.get("/models")["models"]]
    pair.switch(names[-1]).raise_for_status()
    for moment in moments(rounds):
        active = pair.get("/status")["model"]
        asked = next(name for name in names if name != active)
        client = StreamingClient(pair.llama.url, TOKEN, PROMPT)
        client.start()
        one = kill_during_switch(pair, victim, asked, moment, daemon)
        client.finish()
        if rounds > 3:
            time.sleep(SETTLED)
        yield replace(one, wrong=[*one.wrong, *client.unanswered])
