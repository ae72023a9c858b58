"""A scripted backend that can hold back its answers, so that a test can act in the middle of a turn; and what a session
says that runs a list of commands with it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from claude_local.verify.scripted_backend import ScriptedBackend, Turn, text, tool_use
from tests.integration.fenced_home import TOKEN, Person

LONGEST = 180.0  # seconds that an answer is held back at most
ROOMY = 200_000  # tokens: no script here comes near the size at which Claude Code compacts the conversation


class SlowBackend(ScriptedBackend):
    """Answers at once until ``hold`` is set, then not before it is cleared.

    ``asked`` is set by each held request; ``left`` when the client of one has hung up: only then is it sure that it
    takes no turn of the script.
    """

    def __init__(self, *turns: Turn, hold: bool = False) -> None:
        super().__init__(turns, ROOMY, token=TOKEN)
        self.hold = hold
        self.asked = threading.Event()
        self.left = threading.Event()

    def start(self) -> SlowBackend:
        super().start()
        return self

    def __enter__(self) -> SlowBackend:
        return self.start()

    async def _answer(self, request: Request) -> Response:
        if request.url.path == "/v1/messages" and self.hold:
            await request.body()
            self.asked.set()
            until = time.monotonic() + LONGEST
            while self.hold and time.monotonic() < until:
                if await request.is_disconnected():
                    self.left.set()
                    return Response(status_code=499)
                await asyncio.sleep(0.02)
        return await super()._answer(request)

    def stop(self) -> None:
        self.hold = False
        super().stop()

    def results(self) -> list[str]:
        """The tool results in the last request, in order."""
        found = []
        for message in self.main_requests[-1]["body"]["messages"]:
            for block in message["content"] if isinstance(message["content"], list) else []:
                if block["type"] == "tool_result":
                    found.append(_words(block["content"]))
        return found


def _words(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(str(block.get("text", "")) for block in content)


def commands(who: Person, cwd: Path, *lines: str, arguments: tuple[str, ...] = (), **more: str) -> list[str]:
    """What the lines said that a session in ``cwd`` ran with its Bash tool."""
    with SlowBackend(*(tool_use("Bash", {"command": line}) for line in lines), text("Done.")) as backend:
        done = who.bash(backend, cwd, *arguments, **more)
        assert (done.returncode, done.stdout) == (0, "Done.\n"), done.stderr
        return backend.results()
