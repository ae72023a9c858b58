"""Where the seconds of a switch go, beside the load alone."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass

from tests.integration.machine import SHARE
from tests.two_containers import Pair

QUESTION = "Answer with one word: yes or no?"


@dataclass(frozen=True)
class Times:
    """Seconds of one switch to ``model``. ``bare``: of the router's load alone, without a switch. ``total``: until the
    answer to POST /switch. ``stages``: as the answer tells them. ``first_token``: of a question after it.
    ``restored``: tokens that llama-server read from a file for it, and the seconds of that, by its log."""

    model: str
    bare: float
    total: float
    stages: dict[str, float]
    first_token: float
    restored: tuple[int, float]

    @property
    def overhead(self) -> float:
        """What the switch costs beyond the load."""
        return self.total - self.bare


def real_models(pair: Pair) -> Pair:
    """The pair with this machine's deployed profiles instead of tiny ones. It does not run yet."""
    for source, target in (("server/presets.ini", "server"), ("manager/profiles.json", "profiles")):
        shutil.copy(SHARE / source, pair.folder / target)
    shutil.copytree(SHARE / "server/chat-templates", pair.folder / "server/chat-templates")
    return pair.with_models(SHARE / "models", 8192)


def bare_load(pair: Pair, model: str) -> float:
    """Seconds of llama-server's own load, with nothing loaded before."""
    pair.post("/stop").raise_for_status()
    began = time.monotonic()
    pair.llama.activate(model, "claude-local")
    while not pair.llama.router()[model].ready:
        time.sleep(0.01)
    return time.monotonic() - began


def timed_switch(pair: Pair, model: str, bare: float, tokens: int = 0) -> Times:
    """Switch to ``model`` from another one that has just answered, in a conversation of at least ``tokens`` tokens."""
    first_token(pair, tokens)
    began = time.monotonic()
    answer = pair.switch(model)
    total = time.monotonic() - began
    answer.raise_for_status()
    log = pair.folder / "log/server.log"
    before = len(log.read_text())
    first = first_token(pair, tokens)
    read = re.search(r"read a prompt of (\d+) tokens from a file in ([\d.]+) ms", log.read_text()[before:])
    restored = (int(read[1]), float(read[2]) / 1000) if read else (0, 0.0)
    return Times(model, bare, total, answer.json()["seconds"], first, restored)


def first_token(pair: Pair, tokens: int = 0) -> float:
    """Seconds until the first token of an answer of the active model, after a text of about ``tokens`` tokens. The
    question is another one each time, so the conversation is one that no file has."""
    asked = f"{' word' * tokens}\n{QUESTION} {time.monotonic()}"
    body = {"model": "claude-local", "max_tokens": 1, "messages": [{"role": "user", "content": asked}]}
    began = time.monotonic()
    for name, _ in pair.llama.stream("/v1/messages", {**body, "stream": True}, timeout=900):
        if name == "content_block_delta":
            return time.monotonic() - began
    raise AssertionError("no token came")
