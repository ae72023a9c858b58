"""The management API's container: its image's tag, and the arguments of ``docker run``. Pure.

It is confined like the server's (``claude_local.server.container``), on the same network. What it writes is what the
user wants of the server, and the length of the server's log.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from claude_local.server.container import LOG_DIRECTORY, LOG_FILE, OwnContainer, bind
from claude_local.server.container import PORT as SERVER_PORT

REPOSITORY = "claude-local/manager"
# Where the container sees what is mounted for it.
LIBRARY, VENV, WISHES = "/opt/claude-local/lib", "/opt/claude-local/venv", "/var/lib/claude-local"
PROFILES, KEY, SESSIONS = "/etc/claude-local/manager", "/etc/claude-local/server", "/run/claude-local/sessions"
# MiB; the program takes 27 (docker stats).
MEMORY_MIB, PIDS = 128, 64


def container_name(server: str) -> str:
    """The container's name, from that of the server's container."""
    return f"{server.removesuffix('-server')}-manager"


def image_tag(dockerfile: str, base: str) -> str:
    """The image's tag, from the text of its Dockerfile and its base image."""
    return f"{REPOSITORY}:{hashlib.sha256(json.dumps([dockerfile, base]).encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class ManagerContainer(OwnContainer):
    """The container. All paths are the workstation's.

    ``port`` is on 127.0.0.1. ``server`` is the name of the server's container. ``lib`` and ``venv`` are the runtime's,
    ``server_dir`` holds the server's key, ``profiles_dir`` profiles.json, ``log_dir`` the server's log, ``state_dir``
    what the user wants, ``sessions_dir`` the records of running sessions.
    """

    name: str
    image: str
    port: int
    uid: int
    gid: int
    server: str
    lib: str
    venv: str
    server_dir: str
    profiles_dir: str
    log_dir: str
    state_dir: str
    sessions_dir: str

    def arguments(self) -> list[str]:
        """The arguments of ``docker run`` without the label, and those of the program behind the image's name."""
        read_only = [
            (self.lib, LIBRARY), (self.venv, VENV), (self.server_dir, KEY), (self.profiles_dir, PROFILES),
            (self.sessions_dir, SESSIONS),
        ]  # fmt: skip
        # fmt: off
        return [
            *self.confinement(self.port, MEMORY_MIB, PIDS, log_mb=1),
            *(part for source, target in read_only for part in bind(source, target)),
            *bind(self.log_dir, LOG_DIRECTORY, writable=True), *bind(self.state_dir, WISHES, writable=True),
            self.image,
            "--host", "0.0.0.0", "--port", str(self.port), "--server", f"http://{self.server}:{SERVER_PORT}",
            "--token", f"{KEY}/api-key", "--profiles", f"{PROFILES}/profiles.json",
            "--wish", f"{WISHES}/wish.json", "--log", LOG_FILE, "--sessions", SESSIONS,
        ]
        # fmt: on
