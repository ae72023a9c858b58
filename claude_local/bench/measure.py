"""Measures one loaded model by the timings that llama-server itself reports."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from claude_local.server.client import LlamaClient, ServerError
from claude_local.server.turns import Turn

# Tokens of the prompts, and of the answer to each.
SIZES = (512, 4096, 16384)
ANSWER = 48
# Tokens of the prompt that a warm first answer still has to read: a question, and what Claude Code says of the project.
QUESTION = 128
# Seconds for one request. Reading 16,384 tokens takes minutes on two cores.
PATIENCE = 3600.0


class Bench:
    """Requests to ``profile`` on the server behind ``client``. The prompts are the text of a module of Python's."""

    def __init__(self, client: LlamaClient, profile: str) -> None:
        self._client = client
        self.profile = profile
        props = client.json("GET", f"/props?model={profile}", timeout=PATIENCE)
        self.window: int = props["default_generation_settings"]["n_ctx"]
        self.build: str = props["build_info"]
        text = Path(argparse.__file__).read_text()
        body = {"model": profile, "content": text}
        tokens = client.json("POST", "/tokenize", body, timeout=PATIENCE)["tokens"]
        self._tokens: list[int] = tokens * (max(SIZES) // len(tokens) + 1)

    def request(self, prompt: list[int], answer: int, *, reuse: bool) -> Turn:
        """Have ``prompt`` read and ``answer`` tokens written. ``reuse``: what the slot holds of it is not read again.

        Raises ServerError.
        """
        body = {
            "model": self.profile, "prompt": prompt, "n_predict": answer, "cache_prompt": reuse, "ignore_eos": True,
            "temperature": 0,
        }  # fmt: skip
        answered = self._client.json("POST", "/completion", body, timeout=PATIENCE)
        try:
            told = answered["timings"]
            return Turn(
                told.get("cache_n", 0), told["prompt_n"], told["predicted_n"], told["prompt_ms"], told["predicted_ms"]
            )
        except (KeyError, TypeError):
            raise ServerError("/completion: the answer has no timings", "format", 200) from None

    def speeds(self, up_to: int) -> Iterator[dict[str, Any]]:
        """For each size up to ``up_to`` tokens for which the window has room: tokens a second."""
        for size in SIZES:
            if size <= up_to and size + ANSWER <= self.window:
                done = self.request(self._tokens[:size], ANSWER, reuse=False)
                yield {
                    "tokens": size,
                    "prefill": done.read_speed and round(done.read_speed, 2),
                    "decode": done.decode_speed and round(done.decode_speed, 2),
                }

    def first_answers(self, prompt: int) -> dict[str, Any] | None:
        """Seconds to the first token of an answer, after ``prompt`` tokens: all of them new (``cold``), then all but
        QUESTION of them in the slot (``warm``). None where the window is too small."""
        if prompt + 2 >= self.window:
            return None
        shared = self._tokens[: prompt - QUESTION]
        cold = self.request(self._tokens[:prompt], 1, reuse=False)
        warm = self.request([*shared, *reversed(self._tokens[prompt - QUESTION : prompt])], 1, reuse=True)
        return {
            "tokens": prompt,
            "cold_seconds": round(cold.seconds, 2),
            "warm_seconds": round(warm.seconds, 2),
            "warm_cached": warm.cached,
        }


def measure(bench: Bench, load_seconds: float, prompt: int, up_to: int, say: Callable[[str], None]) -> dict[str, Any]:
    """One whole run as JSON data, without its time. ``say`` is told the next step. Raises ServerError."""
    say("reading a prompt twice, cold and warm")
    first = bench.first_answers(min(prompt, up_to))
    speeds = []
    say("reading 512 tokens")
    for speed in bench.speeds(up_to):
        speeds.append(speed)
        say(f"reading {min(speed['tokens'] * 8, max(SIZES)):,} tokens")
    return {
        "profile": bench.profile,
        "build": bench.build,
        "load_seconds": round(load_seconds, 2),
        "first_answer": first,
        "speeds": speeds,
    }
