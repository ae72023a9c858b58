"""Waits until llama-server has a session's model ready, and starts the server's container when it is down.

This runs at the start of each session, so it uses the standard library's HTTP client: importing ``requests`` takes
longer than the rest of a start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlencode, urlsplit

from claude_local.fence.messages import PROVISION

# Seconds for one answer, and between two questions.
ANSWER, PAUSE = 2.0, 0.3
# Bytes of an answer that are read at most.
LIMIT = 1 << 20
# llama-server's answers while it holds as many models as it may (server/client.py, BUSY), and when another request has
# just taken the place of the model.
BUSY, TAKEN = "model limit reached", "is not running"
# States of a model that holds the place.
HELD = ("loading", "loaded", "sleeping")


class ServerUnusable(Exception):
    """No session can use the server. The message says why; ``fix`` is the command that fixes it."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.fix = fix


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. ``status`` 0: there was none, and ``timeout`` says whether the server accepted the connection."""

    status: int
    body: str = ""
    timeout: bool = False

    def json(self) -> Any:
        """The decoded body; None when it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def error(self) -> str | None:
        """llama-server's error message; None when the body is not of its shape."""
        try:
            message = self.json()["error"]["message"]
        except (LookupError, TypeError):
            return None
        return message if isinstance(message, str) else None


class Progress:
    """Shows what we wait for on stderr, in one line; on a terminal it is rewritten, and erased at the end."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.shown = False

    @property
    def waited(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def show(self, message: str) -> None:
        if sys.stderr.isatty():
            # A line that wraps could not be erased.
            room = _columns() - len(f" ({self.waited:.0f} s)") - 1
            line = f"claude-local: {message}"
            line = line if len(line) <= room else line[: room - 1] + "…"
            print(f"\r\033[K{line} ({self.waited:.0f} s)", end="", file=sys.stderr, flush=True)
        elif not self.shown:
            print(f"claude-local: {message} ({self.waited:.0f} s)", file=sys.stderr, flush=True)
        self.shown = True

    def clear(self) -> None:
        if self.shown and sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


@dataclass
class SessionServer:
    """The server of one session. ``url``: its base URL. ``installed``: whether that is the server of this machine, in
    the Docker container ``container``. ``token``: its API key, which ``token_file`` holds. ``path``: the PATH for
    docker and sudo. ``start_timeout``: seconds that it may take to start and load ``model``. ``profile``: the id
    of the profile that ``model`` means. ``users``: who uses the
    model with this id, in words, empty when nobody is known. ``load_seconds``: how long a load of the profile takes,
    from earlier ones; None when unknown."""

    url: str
    installed: bool
    container: str
    token: str
    token_file: str
    path: str
    start_timeout: int
    model: str
    profile: str
    users: Callable[[str], str] = lambda model: ""
    load_seconds: float | None = None
    started: bool = False

    def props(self) -> dict[str, Any]:
        """llama-server's /props of the model, as soon as it is loaded. Raises ServerUnusable."""
        progress = Progress()
        try:
            while (answer := self._get("/props")).status != 200:
                progress.show(self._obstacle(answer, progress))
                if progress.waited >= self.start_timeout:
                    raise ServerUnusable(f"llama-server is not ready after {self.start_timeout} s", self._log)
                time.sleep(PAUSE)
        finally:
            progress.clear()
        props = answer.json()
        if not isinstance(props, dict):
            raise self._another_program(answer)
        return props

    @property
    def _log(self) -> str:
        return f"sudo docker logs --tail 40 {self.container}"

    def _get(self, path: str) -> Answer:
        """GET ``path`` for the model. No proxy of the environment is used."""
        address = urlsplit(self.url)
        connection = HTTPConnection(address.hostname or "", address.port or 80, timeout=ANSWER)
        try:
            connection.request(
                "GET", f"{path}?{urlencode({'model': self.model})}",
                headers={"Authorization": f"Bearer {self.token}", "Connection": "close"},
            )  # fmt: skip
            response = connection.getresponse()
            return Answer(response.status, response.read(LIMIT).decode(errors="replace"))
        except TimeoutError:
            return Answer(0, timeout=True)
        except OSError:
            return Answer(0)
        except HTTPException as error:
            raise self._another_program(Answer(0, str(error))) from None
        finally:
            connection.close()

    def _obstacle(self, answer: Answer, progress: Progress) -> str:
        """What the session waits for. Raises ServerUnusable when waiting does not help."""
        if (100 <= answer.status < 500 or answer.status == 501) and answer.error is None:
            raise self._another_program(answer)
        message = answer.error or f"HTTP {answer.status}"
        if answer.timeout or BUSY in message or TAKEN in message:
            return self._waiting()
        if answer.status == 0:
            self._start(progress)
            return "waiting for llama-server"
        if answer.status == 503:
            return self._waiting(loading=True)
        if answer.status == 401:
            why = f"llama-server at {self.url} refuses the token in {self.token_file}: {message}"
            raise ServerUnusable(why, PROVISION)
        if answer.status == 403:
            raise ServerUnusable(f"llama-server at {self.url} refuses the request: {message}", PROVISION)
        if answer.status in (400, 404):
            raise ServerUnusable(f"llama-server at {self.url} cannot serve {self.profile}: {message}", PROVISION)
        raise ServerUnusable(f"llama-server cannot serve {self.profile}: {message}", self._log)

    def _another_program(self, answer: Answer) -> ServerUnusable:
        said = f"HTTP {answer.status} " if answer.status else ""
        text = " ".join("".join(each if each.isprintable() else " " for each in answer.body).split())[:200]
        port = urlsplit(self.url).port or 80
        fix = f"sudo ss -ltnp sport = :{port}   (shows the program)" if self.installed else "unset CLAUDE_LOCAL_SERVER"
        return ServerUnusable(f"another program answers at {self.url}: {said}{text}", fix)

    def _loading(self, status: dict[str, Any]) -> str:
        """How far the load of the model is. ``status``: the router's entry."""
        done = status.get("progress")
        done = done.get("value") if isinstance(done, dict) else None
        words = f"loading {self.profile}"
        if isinstance(done, int | float):
            words += f" {done:.0%}"
            if self.load_seconds:
                words += f", {self.load_seconds * (1 - done):.0f} s left"
        elif self.load_seconds:
            words += f", about {self.load_seconds:.0f} s"
        return words

    def _waiting(self, loading: bool = False) -> str:
        """What a slow server does: it loads the model, or other models have all the places."""
        models = self._get("/models").json()
        try:
            held = {entry["id"]: entry["status"] for entry in models["data"] if entry["status"]["value"] in HELD}
        except (LookupError, TypeError):
            return f"loading {self.profile}" if loading else "waiting for llama-server"
        others = [model for model in held if model != self.profile]
        if not others or len(others) < len(held):
            return self._loading(held.get(self.profile, {}))
        users = self.users(others[0])
        return f"waiting for {others[0]}, in use by {users}" if users else f"waiting for {others[0]}, which is in use"

    def _start(self, progress: Progress) -> None:
        """Start the installed container, unless it is starting already. Raises ServerUnusable."""
        if not self.installed:
            raise ServerUnusable(
                f"nothing answers at {self.url} (CLAUDE_LOCAL_SERVER)", "unset CLAUDE_LOCAL_SERVER"
            )  # fmt: skip
        client, state = self._container()
        if state in ("running", "restarting"):
            return
        if self.started:
            raise ServerUnusable(
                "llama-server stopped again after it was started", f"{' '.join(client)} logs --tail 40 {self.container}"
            )
        progress.show("starting llama-server")
        done = self._docker(client, "start", self.container)
        if done.returncode:
            raise ServerUnusable(
                f"llama-server does not start: {_last_line(done.stderr)}", f"{' '.join(client)} start {self.container}"
            )
        self.started = True

    def _container(self) -> tuple[list[str], str]:
        """The docker command that works, and the container's state: running, exited ... Raises ServerUnusable."""
        for client in (["docker"], ["sudo", "-n", "docker"]):
            done = self._docker(client, "inspect", "--format", "{{.State.Status}}", self.container)
            if done.returncode == 0:
                return client, done.stdout.strip()
            if "permission denied" not in done.stderr:
                break
        if "o such object" in done.stderr or "o such container" in done.stderr:
            raise ServerUnusable(
                f"llama-server is not installed: Docker has no container {self.container}", PROVISION
            )  # fmt: skip
        if "annot connect" in done.stderr or "daemon running" in done.stderr:
            raise ServerUnusable(
                f"nothing answers at {self.url}, and Docker is not running", "sudo service docker start"
            )
        raise ServerUnusable(
            f"nothing answers at {self.url}, and Docker cannot start it: {_last_line(done.stderr)}",
            f"sudo docker start {self.container}",
        )

    def _docker(self, client: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [*client, *arguments], env={**os.environ, "PATH": self.path}, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, errors="replace", check=False,
            )  # fmt: skip
        except OSError as error:
            return subprocess.CompletedProcess(client, 127, "", f"{client[0]}: {error.strerror}")


def _columns() -> int:
    """The width of the terminal."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def context_window(props: dict[str, Any]) -> int | None:
    """The model's context window in tokens; None when the server does not say."""
    try:
        window = props["default_generation_settings"]["n_ctx"]
        return int(window) if type(window) in (int, float) and window >= 1 else None
    except (LookupError, TypeError, ValueError, OverflowError):
        return None
