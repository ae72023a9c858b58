"""Measures one loaded model by the timings that llama-server itself reports."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from claude_local.server.client import LlamaClient, ServerError
from claude_local.server.turns import Turn

# Tokens of the prompts, and of the answer to each.
SIZES = (512, 4096, 16384)
ANSWER = 48
# Tokens of the prompt that a warm first answer still has to read: a question, and what Claude Code says of the project.
QUESTION = 128
# Seconds that reading one prompt may take, where the caller names no size. On two cores, 16,384 tokens take minutes.
LONGEST = 300.0
# A longer prompt is read more slowly, because attention looks at all of it. Where only one speed is known, it falls
# with this power of the length (0.2 to 0.35 measured from 512 to 4,096 tokens).
FADING = 0.2
# Seconds for one request.
PATIENCE = 3600.0


class Bench:
    """Requests to ``profile`` on the server behind ``client``. The prompts are the text of a Python module, each the
    beginning of the next, so that llama-server's cache in main memory keeps none of them."""

    def __init__(self, client: LlamaClient, profile: str) -> None:
        self._client = client
        self.profile = profile
        props = client.json("GET", f"/props?model={profile}", timeout=PATIENCE)
        self.window: int = props["default_generation_settings"]["n_ctx"]
        self.build: str = props["build_info"]
        text = Path(argparse.__file__).read_text()
        body = {"model": profile, "content": text}
        self._tokens: list[int] = client.json("POST", "/tokenize", body, timeout=PATIENCE)["tokens"]

    def request(self, tokens: int, answer: int, *, reuse: bool) -> Turn:
        """Have a prompt of ``tokens`` read and ``answer`` tokens written. ``reuse``: the part that the slot holds is
        not read again.

        Raises ServerError.
        """
        prompt = (self._tokens * (tokens // len(self._tokens) + 1))[:tokens]
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

    def speed(self, size: int) -> dict[str, Any]:
        """Tokens a second with a prompt of ``size`` tokens. Raises ServerError."""
        done = self.request(size, ANSWER, reuse=False)
        return {
            "tokens": size,
            "prefill": done.read_speed and round(done.read_speed, 2),
            "decode": done.decode_speed and round(done.decode_speed, 2),
        }

    def first_answer(self, prompt: int) -> dict[str, Any]:
        """Seconds to the first token of an answer, after ``prompt`` tokens: all of them new (``cold``), and all but
        QUESTION of them in the slot (``warm``). Raises ServerError.

        The second request extends the first, because some models cannot go back to an earlier place.
        """
        shared = self.request(prompt - QUESTION, 1, reuse=False)
        warm = self.request(prompt, 1, reuse=True)
        return {
            "tokens": prompt,
            "cold_seconds": round((shared.read_ms + warm.read_ms + warm.decode_ms) / 1000, 2),
            "warm_seconds": round(warm.seconds, 2),
            "warm_cached": warm.cached,
        }


def measure(
    bench: Bench, load_seconds: float, prompt: int, up_to: int | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """One whole run as JSON data, without its time. Raises ServerError.

    ``prompt``: tokens of Claude Code's own. ``up_to``: the longest prompt; None: the longest that takes at
    most LONGEST seconds. ``say`` is told each step before it begins, and the seconds that are left.
    """
    say(f"reading {SIZES[0]} tokens")
    speeds = [bench.speed(SIZES[0])]
    first: dict[str, Any] | None = None
    skipped: list[dict[str, str]] = []
    steps = {size: f"{size:,} tokens" for size in SIZES[1:]} | {prompt: f"first answer after {prompt:,} tokens"}
    for size, name in sorted(steps.items()):
        if why := _skipped(bench.window, size, up_to, speeds):
            skipped.append({"what": name, "why": why})
            continue
        ahead = [each for each in steps if each >= size and not _skipped(bench.window, each, up_to, speeds)]
        say(f"reading {size:,} tokens; {about(sum(_seconds(each, speeds) for each in ahead))} left")
        if size == prompt:
            first = bench.first_answer(prompt)
        else:
            speeds.append(bench.speed(size))
    return {
        "profile": bench.profile,
        "build": bench.build,
        "load_seconds": round(load_seconds, 2),
        "first_answer": first,
        "speeds": speeds,
        "skipped": skipped,
    }


def _seconds(size: int, known: Sequence[dict[str, Any]]) -> float:
    """How long a prompt of ``size`` tokens will take, by the speeds with shorter ones.

    The time for a token grows in a straight line with the length of the prompt.
    """
    last = known[-1]
    if not last["prefill"] or not last["decode"]:
        return 0.0
    token = (size / last["tokens"]) ** FADING / last["prefill"]
    if len(known) > 1 and known[-2]["prefill"]:
        growth = (1 / last["prefill"] - 1 / known[-2]["prefill"]) / (last["tokens"] - known[-2]["tokens"])
        token = 1 / last["prefill"] + max(growth, 0.0) * (size - last["tokens"])
    return float(size * token + ANSWER / last["decode"])


def _skipped(window: int, size: int, up_to: int | None, known: Sequence[dict[str, Any]]) -> str:
    """Why a size is not measured; empty when it is."""
    if size + ANSWER > window:
        return f"the profile's window holds {window:,}"
    if up_to is not None:
        return f"longer than {up_to:,}" if size > up_to else ""
    seconds = _seconds(size, known)
    return f"would take {about(seconds)}; --up-to {size} measures it" if seconds > LONGEST else ""


def about(seconds: float) -> str:
    """For people: ``about 4 minutes``."""
    return f"about {seconds / 60:.0f} minutes" if seconds >= 90 else f"about {max(seconds, 1):.0f} s"
