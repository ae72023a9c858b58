"""Our two containers beside the deployed ones, on ports of their own and with models of a megabyte: a switch takes a
second and needs nobody else's server. They run as the deploy runs them, with this project's management API."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests

from claude_local.docker.commands import logs, remove
from claude_local.manager.container import ManagerContainer, container_name
from claude_local.server.client import ANSWER, LlamaClient, ServerError
from claude_local.server.container import Container, owner
from tests.chat.tiny_model import marker, tiny_model
from tests.integration.machine import ROOT, SHARE, docker

DEPLOYED = "claude-local-server"
TOKEN = "a-token-of-the-tests"
PROMPT = f"Count. {marker(0)}"


def script(name: str, length: int = 120) -> str:
    """What the model with this name says to PROMPT: ``length`` pieces."""
    return "".join(f"{name}{number:04d} " for number in range(length))


@dataclass
class Pair:
    """The server's and the management API's container. ``client``: the docker command, with its options."""

    server: Container
    manager: ManagerContainer
    folder: Path
    client: str

    @property
    def api(self) -> str:
        """The management API's base URL."""
        return f"http://127.0.0.1:{self.manager.port}"

    @property
    def llama(self) -> LlamaClient:
        return LlamaClient(f"http://127.0.0.1:{self.server.port}", TOKEN)

    @property
    def wish(self) -> Path:
        """The file with what the user wants of the server."""
        return self.folder / "state/wish.json"

    def get(self, path: str) -> Any:
        return requests.get(self.api + path, timeout=20).json()

    def post(self, path: str, body: Any = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return requests.post(self.api + path, json=body, headers=headers, timeout=ANSWER)

    def switch(self, model: str) -> requests.Response:
        return self.post("/switch", {"model": model})

    def ask(self, model: str = "claude-local", max_tokens: int = 1) -> str:
        """The model that answers."""
        body = {"model": model, "max_tokens": max_tokens, "messages": [{"role": "user", "content": PROMPT}]}
        return str(self.llama.json("POST", "/v1/messages", body, timeout=60)["model"])

    def until(self, condition: Callable[[], bool], seconds: float = 90) -> None:
        """Wait until ``condition()``; connections that fail count as false."""
        end = time.monotonic() + seconds
        while True:
            with suppress(requests.RequestException, ServerError, ValueError, LookupError):
                if condition():
                    return
            assert time.monotonic() < end, self.state()
            time.sleep(0.1)

    def state(self) -> str:
        """Where it stands, for a message."""
        with suppress(requests.RequestException, ValueError):
            return f"{self.get('/status')}"
        return "\n".join(self.docker(*logs(self.client, each.name, 5)[1:]) for each in (self.server, self.manager))

    def docker(self, *words: str) -> str:
        done = subprocess.run([self.client, *words], capture_output=True, text=True, check=False, timeout=120)
        return done.stdout + done.stderr

    def pid(self, container: Container | ManagerContainer) -> int:
        """The first process of a container, in this machine's numbers; 0 when it does not run."""
        return int(self.docker("inspect", "--format", "{{.State.Pid}}", container.name).strip() or 0)

    def processes(self) -> dict[int, str]:
        """All processes of both containers: this machine's number -> command line."""
        found = {}
        for each in (self.server, self.manager):
            for line in self.docker("top", each.name, "-eo", "pid,args").splitlines()[1:]:
                number, _, arguments = line.strip().partition(" ")
                if number.isdigit():
                    found[int(number)] = arguments.strip()
        return found

    def with_models(self, folder: Path, memory_mib: int) -> Pair:
        """The same pair with another directory of models."""
        return replace(self, server=replace(self.server, model_dir=str(folder), memory_mib=memory_mib))

    def keeping(self, models_at_once: int) -> Pair:
        """The same pair with so many models in memory."""
        return replace(self, server=replace(self.server, models_at_once=models_at_once))

    def loads(self) -> int:
        """How many loads llama-server has begun, by its log."""
        return (self.folder / "log/server.log").read_text().count("spawning server instance with name=")

    def run(self) -> None:
        """Start both containers and wait until the default profile answers."""
        for each in (self.server, self.manager):
            subprocess.run(each.run(self.client, {}), check=True, capture_output=True, timeout=120)
        self.until(lambda: self.get("/status")["state"] == "ready")

    def remove(self) -> None:
        for each in (self.manager, self.server):
            subprocess.run(remove(self.client, each.name), check=False, capture_output=True, timeout=120)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def deployed_images() -> tuple[str, str]:
    """The images that the deployed containers run: the server's and the management API's."""
    words = [docker(), "inspect", "--format", "{{.Config.Image}}", DEPLOYED, container_name(DEPLOYED)]
    server, manager = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    return server, manager


@contextmanager
def two_containers(
    folder: Path,
    names: Sequence[str],
    images: tuple[str, str] | None = None,
    options: str = "",
    models_at_once: int = 1,
) -> Iterator[Pair]:
    """Both containers with a tiny model for each name, in ``folder``; the first one is loaded. ``images``: of the
    server and of the management API; the deployed ones. ``options``: lines for the preset of each model.
    ``models_at_once``: how many stay in memory."""
    made = prepare(folder, names, images or deployed_images(), options).keeping(models_at_once)
    try:
        made.run()
        yield made
    finally:
        made.remove()


def prepare(folder: Path, names: Sequence[str], images: tuple[str, str], options: str = "") -> Pair:
    """The files of both containers."""
    uid, gid = owner(os.getuid(), os.getgid())
    for name in ("models", "server", "profiles", "log", "state", "sessions", "prompts"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    for name in names:
        (folder / f"models/{name}.gguf").write_bytes(tiny_model([script(name)], PROMPT))
    # One thread: on a busy machine, two threads that wait for each other take many times as long.
    common = "parallel = 1\nctx-size = 8192\ntemp = 0\nthreads = 1\n"
    sections = [f"[{name}]\nmodel = /models/{name}.gguf\n{common}{options}" for name in names]
    sections[0] += "alias = claude-local\n"
    (folder / "server/presets.ini").write_text("version = 1\n" + "\n".join(sections))
    key = folder / "server/api-key"
    key.write_text(TOKEN)
    profiles = {name: {"name": name.title(), "description": "", "ctx_size": 8192} for name in names}
    (folder / "profiles/profiles.json").write_text(json.dumps({"default": names[0], "profiles": profiles}))
    for path in (key, folder / "log", folder / "state", folder / "prompts"):
        os.chown(path, uid, gid)
    name = f"claude-local-test-{uuid.uuid4().hex[:8]}-server"
    server = Container(
        name=name, image=images[0], port=free_port(), uid=uid, gid=gid, memory_mib=2048, pids=512,
        model_dir=str(folder / "models"), search_dirs={}, server_dir=str(folder / "server"),
        log_dir=str(folder / "log"), prompts_dir=str(folder / "prompts"),
    )  # fmt: skip
    manager = ManagerContainer(
        name=container_name(name), image=images[1], port=free_port(), uid=uid, gid=gid,
        server=name, lib=str(ROOT), venv=str(SHARE / "venv"), server_dir=str(folder / "server"),
        profiles_dir=str(folder / "profiles"), log_dir=str(folder / "log"), state_dir=str(folder / "state"),
        sessions_dir=str(folder / "sessions"),
    )  # fmt: skip
    return Pair(server, manager, folder, docker())
