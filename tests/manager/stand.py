"""The management API on a free port over a scripted router, for tests."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests
import uvicorn

from claude_local.fence.server_requests import SESSION
from claude_local.manager.app import application
from claude_local.manager.profiles import read_profiles
from claude_local.manager.sessions import Sessions
from claude_local.manager.switching import Switchboard
from claude_local.server.client import LlamaClient
from tests.manager.scripted_router import ScriptedRouter, until

TOKEN = "a-token"
HOLD = """
import sys, time
from claude_local.claude.running_sessions import record_session
kept = record_session(*sys.argv[1:])
print(flush=True)
time.sleep(60)
"""


class Manager:
    """The management API on a free port, over a scripted router with the profiles small, large and broken."""

    def __init__(
        self, folder: Path, router: ScriptedRouter, drain: float = 5.0, token: str = TOKEN, records: str = ""
    ) -> None:
        self.router = router
        self.folder = folder
        profiles = {
            name: {"name": name.title(), "description": f"the {name} one", "ctx_size": 1000 * len(name)}
            for name in router.models
        }
        (folder / "profiles.json").write_text(json.dumps({"default": "small", "profiles": profiles}))
        (folder / "server.log").write_text("starting\nready\n")
        self.board = Switchboard(
            LlamaClient(router.url, token), lambda: read_profiles(folder / "profiles.json"), str(folder / "wish.json"),
            folder / "server.log", Sessions(records or str(folder / "sessions")), drain=drain, load=5,
        )  # fmt: skip
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.app = application(self.board, folder / "server.log", self.port, token)
        self._server = uvicorn.Server(uvicorn.Config(self.app, log_level="error", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> Manager:
        self._thread.start()
        until(lambda: self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(5)
        with suppress(OSError):
            self._socket.close()

    def get(self, path: str, **more: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=60, **more)

    def post(self, path: str, body: Any = None, token: str | None = TOKEN, **more: Any) -> requests.Response:
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **more.pop("headers", {})}
        return requests.post(self.url + path, json=body, headers=headers, timeout=60, **more)

    def state(self) -> str:
        return str(self.get("/status").json()["state"])


@contextmanager
def running(manager: Manager, *workspaces_and_profiles: tuple[str, str]) -> Iterator[list[int]]:
    """Sessions with records; their processes."""
    processes = []
    for workspace, profile in workspaces_and_profiles:
        argv = [sys.executable, "-c", HOLD, str(manager.folder / "sessions"), workspace, profile]
        processes.append(subprocess.Popen(argv, stdout=subprocess.PIPE))
        processes[-1].stdout.readline()
    try:
        yield [each.pid for each in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()


def report(manager: Manager, process: int, tokens: int) -> requests.Response:
    """What the fence makes of a status line's report."""
    return manager.post("/sessions", {"tokens": tokens}, headers={SESSION: str(process)})
