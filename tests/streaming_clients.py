"""Clients that ask for streamed answers one after the other, and try again as Claude Code does."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import requests

from claude_local.server.client import ServerError, read_sse

# As Claude Code 2.1.330: tries after the first one, and seconds before the first of them and at most.
RETRIES, FIRST_PAUSE, LONGEST_PAUSE = 10, 0.5, 32.0


class Unanswered(Exception):
    """Nothing came after all tries, or an answer that no client tries again."""


def retried(response: requests.Response) -> bool:
    """Whether Claude Code tries again after this answer."""
    if (advice := response.headers.get("x-should-retry")) is not None:
        return advice == "true"
    return response.status_code in (408, 409, 429) or response.status_code >= 500


class StreamingClient(threading.Thread):
    """One client, from ``start()`` to ``finish()``. ``answers``: model -> its complete answers; ``failures``: what went
    wrong -> tries; ``unanswered``: requests that were given up; ``slowest``: seconds of the slowest request."""

    def __init__(self, url: str, token: str, question: str, most_tokens: int = 400) -> None:
        super().__init__(daemon=True)
        self.answers: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.unanswered: list[str] = []
        self.slowest = 0.0
        self._url, self._ending = f"{url}/v1/messages?beta=true", threading.Event()
        self._headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
        messages = [{"role": "user", "content": question}]
        self._body = {"model": "claude-local", "max_tokens": most_tokens, "stream": True, "messages": messages}

    def run(self) -> None:
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                self.answers[self._ask()] += 1
            except Unanswered as error:
                self.unanswered.append(str(error))
            self.slowest = max(self.slowest, time.monotonic() - began)

    def finish(self, seconds: float = 120) -> None:
        """Let the running request end."""
        self._ending.set()
        self.join(seconds)
        if self.is_alive():
            self.unanswered.append(f"no answer after {seconds:.0f} s")

    def _ask(self) -> str:
        for attempt in range(RETRIES + 1):
            try:
                return self._try()
            except (requests.RequestException, ServerError) as error:
                self.failures[f"{type(error).__name__}: {str(error)[:80]}"] += 1
            time.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.75, 1))
        raise Unanswered(f"{RETRIES} tries failed: {self.failures}")

    def _try(self) -> str:
        """The model of a complete answer."""
        with requests.post(self._url, json=self._body, headers=self._headers, stream=True, timeout=(5, 300)) as answer:
            if answer.status_code != 200:
                if not retried(answer):
                    raise Unanswered(f"HTTP {answer.status_code}: {answer.text[:200]}")
                raise ServerError(f"HTTP {answer.status_code}: {answer.text[:60]}", "status", answer.status_code)
            answer.encoding = "utf-8"
            events = list(read_sse(answer.iter_lines(decode_unicode=True)))
        names = [name for name, _ in events]
        if names[-1:] != ["message_stop"] or names[0] != "message_start":
            raise ServerError(f"the stream is {names[:1]} ... {names[-1:]}", "broken")
        model = str(events[0][1]["message"]["model"])
        text = "".join(data["delta"].get("text", "") for name, data in events if name == "content_block_delta")
        if not text.startswith(model) or not text.endswith("0119 "):
            raise Unanswered(f"{model} said {text[:20]!r} ... {text[-20:]!r}")
        return model
