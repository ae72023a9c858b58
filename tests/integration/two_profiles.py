"""A person's home with two profiles of different windows: the management API, and a scripted llama-server whose name
for the active profile moves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from claude_local.verify.scripted_backend import ScriptedBackend, Turn, estimate_tokens, stream, text
from tests.integration.fenced_home import TOKEN, Person
from tests.manager.scripted_router import ScriptedRouter, until
from tests.manager.stand import Manager

WINDOWS = {"small": 32768, "large": 65536}


class TwoProfiles(ScriptedBackend):
    """Answers as the active profile of ``router``, with its window. ``answered``: the profile of each answer.
    ``manager``: the management API.

    A longer prompt is refused in llama-server's words (tests/conformance); a request for a summary gets one.
    """

    manager: Manager

    def __init__(self, router: ScriptedRouter, turns: Sequence[Turn]) -> None:
        super().__init__(turns, token=TOKEN)
        self.router = router
        self.answered: list[str] = []
        self.refused = self.summaries = 0

    async def _answer(self, request: Request) -> Response:
        self.n_ctx = WINDOWS[self.router.alias()]
        return await super()._answer(request)

    def _messages(self, body: Any) -> Response:
        profile = self.router.alias() if body["model"] == "claude-local" else body["model"]
        window, tokens = WINDOWS[profile], estimate_tokens(body)
        if tokens > window:
            self.refused += 1
            message = f"request ({tokens} tokens) exceeds the available context size ({window} tokens), try ..."
            error = {"code": 400, "message": message, "type": "exceed_context_size_error"}
            return JSONResponse({"type": "error", "error": error}, status_code=400)
        if "<analysis>" in str(body["messages"][-1]):
            self.summaries += 1
            summary = self._message(body, [text("<summary>The files were read.</summary>")])
            return StreamingResponse(stream(summary), media_type="text/event-stream")
        self.answered.append(profile)
        return super()._messages(body)


@contextmanager
def two_profiles(who: Person, folder: Path, turns: Sequence[Turn], active: str = "large") -> Iterator[TwoProfiles]:
    """The home's claude-local uses the installed server, as it does without a test; it is the scripted one."""
    router = ScriptedRouter(*WINDOWS, load_seconds=0.2)
    router.windows = WINDOWS
    wrapper, profiles = Path(who.paths.wrapper), Path(who.paths.profiles)
    before = wrapper.read_text(), profiles.read_text()
    records = who.paths.sessions
    with (
        router,
        TwoProfiles(router, turns) as backend,
        Manager(folder, router, token=TOKEN, records=records) as manager,
    ):
        backend.manager = manager
        listed = {
            name: {"name": f"{name.title()} Coder", "description": "", "ctx_size": window, "tools": "full"}
            for name, window in WINDOWS.items()
        }
        # The management API wants "small" at its start.
        (folder / "profiles.json").write_text(json.dumps({"default": "small", "profiles": listed}))
        until(lambda: manager.state() == "ready")
        assert manager.post("/switch", {"model": active}, token=TOKEN).status_code == 200
        profiles.write_text(json.dumps({"default": active, "profiles": listed}))
        wrapper.write_text(before[0].replace("http://127.0.0.1:8080", backend.url))
        ports = {"server_port": backend.port, "manager_port": manager.port, "ports": [backend.port, manager.port]}
        with who.fence_with(**ports):
            yield backend
    wrapper.write_text(before[0])
    profiles.write_text(before[1])
