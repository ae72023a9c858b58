"""How many tokens of a prompt llama-server reads again: sessions of Claude Code's kind on a model of random weights.

The server is the real one in router mode, with one slot. The counts are those of its answers to POST /v1/messages.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_local.models.architecture import DATA
from claude_local.models.profiles import parse
from claude_local.server.client import LlamaClient
from tests.chat.random_model import random_model
from tests.chat.router import ANSWER_SECONDS, MODEL, Router

ROOT = Path(__file__).parents[2]
# Characters, and so tokens, of system and tools, of the project's part of the first turn, and of a question.
SHARED, PROJECT, QUESTION = 6000, 1500, 60


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
