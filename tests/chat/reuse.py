"""How many tokens of a prompt llama-server reads again: sessions of Claude Code's kind on a model of random weights.

The server is the real one in router mode, with one slot. The counts are those of its answers to POST /v1/messages.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from claude_local.models.architecture import DATA
from claude_local.models.profiles import parse
from claude_local.server.client import LlamaClient, ServerError
from tests.chat.random_model import random_model

ROOT = Path(__file__).parents[2]
# Characters, and so tokens, of system and tools, of the project's part of the first turn, and of a question.
SHARED, PROJECT, QUESTION = 6000, 1500, 60
START_SECONDS, ANSWER_SECONDS = 60.0, 300.0
MODEL, OTHER = "model", "other"


def words(count: int, seed: str) -> str:
    """A text of ``count`` characters."""
    dice = random.Random(seed)
    return "".join(dice.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(count))


@dataclass(frozen=True)
class Counts:
    """Tokens of a prompt: ``cached``, ``computed``, and ``fresh``, those that the session has added."""

    cached: int
    computed: int
    fresh: int


@dataclass
class Session:
    """A conversation in a project."""

    project: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    answered: int = 0
    answer_tokens: int = 24
    answer: str = ""

    def ask(self, client: LlamaClient, model: str = MODEL) -> Counts:
        """One more turn."""
        question = words(QUESTION, f"{self.project} {len(self.messages)}")
        begin = words(PROJECT, self.project) if not self.messages else ""
        self.messages.append({"role": "user", "content": begin + question})
        body = {
            "model": model, "max_tokens": self.answer_tokens, "temperature": 0, "messages": self.messages,
            "system": words(SHARED - 800, "system"), "tools": [tool("Read"), tool("Glob")],
        }  # fmt: skip
        answer = client.json("POST", "/v1/messages", body, timeout=ANSWER_SECONDS)
        text = "".join(block.get("text") or block.get("thinking") or "" for block in answer["content"])
        usage = answer["usage"]
        fresh = len(begin) + len(question) + self.answered
        self.answered = usage["output_tokens"]
        self.answer = text
        self.messages.append({"role": "assistant", "content": text or "none"})
        return Counts(usage.get("cache_read_input_tokens", 0), usage["input_tokens"], fresh)


def tool(name: str) -> dict[str, Any]:
    """A tool with one parameter."""
    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    return {"name": name, "description": words(250, name), "input_schema": schema}


class Router:
    """llama-server in router mode with the sections MODEL and OTHER; a context manager, which can be entered again.

    ``flags`` are those of MODEL's section. Raises RuntimeError with the end of the log when it does not start.
    """

    def __init__(self, binary: Path, model: Path, folder: Path, template: Path, flags: Mapping[str, str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.client = LlamaClient(f"http://127.0.0.1:{self.port}")
        self.folder = folder
        self._log = folder / "server.log"
        self._presets = folder / "presets.ini"
        common = {"model": str(model), "chat-template-file": str(template), "jinja": "true", "ctx-size": "32768"}
        common |= {"parallel": "1", "cache-ram": "512", "threads": "1", **flags}
        lines = ["version = 1"]
        for section in (MODEL, OTHER):
            lines += [f"[{section}]", *(f"{key} = {value}" for key, value in common.items())]
            common = {**common, "cache-disk": f"{folder}/none"} if "cache-disk" in common else common
        self._presets.write_text("\n".join(lines) + "\n")
        self._command = [
            str(binary), "--models-preset", str(self._presets), "--models-max", "1", "--host", "127.0.0.1",
            "--port", str(self.port), "--offline", "--no-ui",
        ]  # fmt: skip

    def __enter__(self) -> Router:
        environment = os.environ | {"LD_LIBRARY_PATH": str(Path(self._command[0]).parent)}
        with self._log.open("a") as sink:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self.client.router()
                return self
            except ServerError:
                time.sleep(0.05)
        self.end(signal.SIGKILL)
        raise RuntimeError(f"llama-server did not start: {self._log.read_text()[-2000:]}")

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.end(signal.SIGTERM)

    def end(self, number: signal.Signals) -> None:
        """Send a signal, and wait for the end. SIGKILL ends the models' processes as well."""
        if number == signal.SIGKILL:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """As ``docker restart`` does it, or with another signal."""
        self.end(number)
        self.__enter__()

    def switch_there_and_back(self) -> None:
        """Another model answers in between."""
        ask = {"model": OTHER, "max_tokens": 1, "temperature": 0, "messages": [{"role": "user", "content": "hello"}]}
        self.client.json("POST", "/v1/messages", ask, timeout=ANSWER_SECONDS)


# The rows of the table, in the order in which they happen.
FIRST, NEXT, OTHER_PROJECT, FIRST_AGAIN = (
    "first session",
    "its next turn",
    "new session, new project",
    "first session goes on",
)
RESTARTED, GOES_ON, SWITCHED, SWITCHED_NEW = (
    "new session after a restart", "first session after a restart", "first session after a switch there and back",
    "new session after a switch there and back",
)  # fmt: skip


def matrix(router: Router) -> dict[str, Counts]:
    """The counts of each situation."""
    first, client = Session("first"), router.client
    counts = {FIRST: first.ask(client), NEXT: first.ask(client)}
    counts[OTHER_PROJECT] = Session("second").ask(client)
    counts[FIRST_AGAIN] = first.ask(client)
    router.restart()
    counts[RESTARTED] = Session("third").ask(client)
    counts[GOES_ON] = first.ask(client)
    router.switch_there_and_back()
    counts[SWITCHED] = first.ask(client)
    router.switch_there_and_back()
    counts[SWITCHED_NEW] = Session("fourth").ask(client)
    return counts


def serve(binary: Path, folder: Path, architecture: str, files: bool = True) -> Router:
    """A router with a model of a shipped architecture (a name in architectures.json) and the template of its profile.

    ``files``: whether prompts are kept in files.
    """
    record = json.loads(DATA.read_text())[architecture]
    profiles = parse((ROOT / "models.conf").read_text())
    profile = next(each for each in profiles.values() if each.architecture == architecture)
    template = ROOT / "files" / "chat-templates" / str(profile.chat_template)
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.gguf"
    random_model(model, record["architecture"], record["keys"])
    (folder / "prompts").mkdir(exist_ok=True)
    warm = {"cache-disk": f"{folder}/prompts/key", "cache-disk-limit": "1024"} if files else {}
    return Router(binary, model, folder, template, warm)
