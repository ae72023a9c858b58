"""The real llama-server of the pinned build with one chat template and the tiny model, and a client for it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from claude_local.server.client import read_sse
from tests.chat.tiny_model import CONTEXT

START_SECONDS, ANSWER_SECONDS = 60, 300
# The text in a prompt where a picture belongs. Without LLAMA_MEDIA_MARKER, llama-server chooses one at each start.
MEDIA = "<__picture__>"


@dataclass
class Answer:
    """The content blocks of a streamed answer, or the error's text."""

    status: int
    blocks: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""

    @property
    def calls(self) -> list[tuple[str, Any]]:
        """(tool, input) of each tool_use block; input is a string when it is not JSON."""
        return [(block["name"], block["input"]) for block in self.blocks if block["type"] == "tool_use"]

    def words(self, kind: str) -> str:
        """All text of the blocks of a type, ``text`` or ``thinking``."""
        return "".join(block[kind] for block in self.blocks if block["type"] == kind)


class LlamaServer:
    """llama-server on a free loopback port; a context manager. Without ``template`` it uses the model's own.

    Raises RuntimeError with the end of the log when it does not start.
    """

    def __init__(self, binary: Path, model: Path, log: Path, template: Path | None = None, mmproj: Path | None = None):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._command = [str(binary), "-m", str(model), "--host", "127.0.0.1", "--port", str(self.port), "--jinja"]
        self._command += ["-c", str(CONTEXT), "-np", "1", "--no-ui", "--offline", "--temp", "0", "--cache-ram", "0"]
        # One thread: on a busy machine, two threads that wait for each other take many times as long.
        self._command += ["-t", "1"]
        if template is not None:
            self._command += ["--chat-template-file", str(template)]
        if mmproj is not None:
            self._command += ["--mmproj", str(mmproj)]

    def __enter__(self) -> LlamaServer:
        environment = os.environ | {"LLAMA_SERVER_SLOTS_DEBUG": "1", "LLAMA_MEDIA_MARKER": MEDIA}
        # libgomp is copied from the image with the program; a machine without a compiler has none.
        environment["LD_LIBRARY_PATH"] = str(Path(self._command[0]).parent)
        with self._log.open("w") as sink:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if requests.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return self
            except requests.ConnectionError:
                pass
            time.sleep(0.05)
        self._end()
        raise RuntimeError(f"llama-server did not start: {self._log.read_text()[-2000:]}")

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, body: dict[str, Any], max_tokens: int = 400) -> Answer:
        """POST a body of the Messages API as a stream. The answer has at most ``max_tokens`` tokens."""
        sent = {**body, "stream": True, "max_tokens": max_tokens, "temperature": 0}
        with requests.post(
            f"{self.url}/v1/messages?beta=true", json=sent, stream=True, timeout=ANSWER_SECONDS
        ) as reply:
            reply.encoding = "utf-8"
            if reply.status_code != 200:
                return Answer(reply.status_code, error=reply.text)
            return assemble(list(read_sse(reply.iter_lines(decode_unicode=True))))

    def prompt(self) -> str:
        """The prompt of the last request, with special tokens and without pictures."""
        slots = requests.get(f"{self.url}/slots", timeout=30).json()
        return str(slots[0]["prompt"])

    def rendered(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        """The prompt of an OpenAI request, with :data:`MEDIA` for each picture. Nothing is generated."""
        sent = {"messages": messages, "tools": tools}
        reply = requests.post(f"{self.url}/apply-template", json=sent, timeout=ANSWER_SECONDS)
        reply.raise_for_status()
        return str(reply.json()["prompt"])


def assemble(events: list[tuple[str, dict[str, Any]]]) -> Answer:
    """The content blocks of a stream's events, assembled as a client does."""
    answer = Answer(200)
    blocks: dict[int, dict[str, Any]] = {}
    for kind, event in events:
        if kind == "content_block_start":
            blocks[event["index"]] = {**event["content_block"], "partial": ""}
        elif kind == "content_block_delta":
            block, delta = blocks[event["index"]], event["delta"]
            if delta["type"] == "input_json_delta":
                block["partial"] += delta["partial_json"]
            elif delta["type"] in ("text_delta", "thinking_delta"):
                word = delta["type"].removesuffix("_delta")
                block[word] = block.get(word, "") + delta[word]
        elif kind == "error":
            answer.status, answer.error = 500, json.dumps(event)
    for _, block in sorted(blocks.items()):
        partial = block.pop("partial")
        if block["type"] == "tool_use":
            try:
                block["input"] = json.loads(partial or "{}")
            except ValueError:
                block["input"] = partial
        answer.blocks.append(block)
    return answer
