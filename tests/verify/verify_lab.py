"""A made-up workstation for the tests of verify: a home with what a deploy leaves, and Docker's answers about it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from claude_local.claude import json_merge, settings_json
from claude_local.fence.config import FenceConfig, dump
from claude_local.server.container import LOG_DIRECTORY
from claude_local.server.presets import PROMPTS
from claude_local.verify.checks import Check, Row
from claude_local.verify.parameters import Parameters
from claude_local.verify.workbench import Workbench

IMAGE = "claude-local/llama-server:b11434-cpu-0123456789ab"
TOKEN = "t" * 43
GGUF = b"GGUF" + bytes(range(256)) * 16


class Silent:
    """An observer of a run that shows nothing."""

    def started(self, check: Check) -> None: ...
    def detail(self, text: str) -> None: ...
    def finished(self, row: Row) -> None: ...


CONTAINER: dict[str, Any] = {
    "Image": "sha256:0123456789abcdef",
    "Config": {
        "Image": IMAGE,
        "User": "10001:10001",
        "Healthcheck": {"Test": ["CMD-SHELL", "probe"], "StartPeriod": 600_000_000_000, "Interval": 15_000_000_000},
    },
    "State": {
        "Running": True, "Status": "running", "StartedAt": "2026-01-01T00:00:00Z", "Health": {"Status": "healthy"},
    },
    "HostConfig": {
        "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]},
        "NetworkMode": "default", "ReadonlyRootfs": True, "CapDrop": ["ALL"], "CapAdd": None,
        "SecurityOpt": ["no-new-privileges"], "Init": True, "Memory": 2**33, "PidsLimit": 512, "Privileged": False,
        "PidMode": "", "IpcMode": "private", "RestartPolicy": {"Name": "always"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}, "Tmpfs": {"/tmp": "rw"},
    },
    "Mounts": [
        {"Type": "bind", "Source": "/home/u/models", "Destination": "/models", "RW": False},
        {"Type": "bind", "Source": "/home/u/log", "Destination": LOG_DIRECTORY, "RW": True},
        {"Type": "bind", "Source": "/home/u/prompts", "Destination": PROMPTS, "RW": True},
    ],
    "NetworkSettings": {"Networks": {"claude-local": {"IPAddress": "172.19.0.3", "IPPrefixLen": 16}}},
}  # fmt: skip


def docker_answers(container: dict[str, Any] | None = None, **answers: tuple[int, str]) -> str:
    """What docker_rows.SCRIPT prints; ``container`` in place of the good one, ``answers`` in place of whole answers."""
    outputs = {
        "version": (0, json.dumps({"Version": "20.10.24"})),
        "image": (0, json.dumps({"Id": "sha256:0123456789abcdef", "Size": 150_000_000})),
        "container": (0, json.dumps(CONTAINER if container is None else container)),
        "build": (0, "version: 11434 (b11434)\nbuilt with cc for Linux"),
        "reach": (0, "172.19.0.1 Connection refused\n192.0.2.2 No route to host\nfd00::2 Network is unreachable"),
        **answers,
    }
    return "".join(f"@@ {name} {status}\n{text}\n" for name, (status, text) in outputs.items())


def altered(path: str, value: Any) -> dict[str, Any]:
    """CONTAINER with another value at a dotted path."""
    found: dict[str, Any] = copy.deepcopy(CONTAINER)
    place = found
    *parents, last = path.split(".")
    for name in parents:
        place = place[name]
    place[last] = value
    return found


def parameters(home: Path, **changed: Any) -> Parameters:
    values: dict[str, Any] = {
        "home": str(home), "model_dir": str(home / "models"), "bin_dir": str(home / "bin"), "server_port": 8080,
        "manager_port": 8081,
        "container": "claude-local-server", "image": IMAGE, "build": 11434, "profiles": ("small",), "default": "small",
        "claude_tested": "2.1.330", "claude_minimum": "2.1.330",
        "enforced_settings": {"permissions.disableAutoMode": "disable"}, "docker": docker_answers(), **changed,
    }  # fmt: skip
    return Parameters(**values)


def write(path: str | Path, text: str | bytes, mode: int = 0o600) -> Path:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # it may be read-only
    target.write_bytes(text if isinstance(text, bytes) else text.encode())
    target.chmod(mode)
    return target


def deployed(home: Path, **changed: Any) -> Workbench:
    """A home as a deploy leaves it (token, settings, one placed model), and a workbench for it."""
    given = parameters(home, **changed)
    paths = given.paths
    write(paths.token, TOKEN + "\n")
    write(paths.api_key_file, TOKEN + "\n", 0o400)
    write(paths.settings, json_merge.dump(settings_json.user_settings("plan")))
    write(paths.claude_json, json_merge.dump({**settings_json.FIRST_RUN, "projects": {"/secret/place": {}}}))
    write(paths.enforced_settings, json_merge.dump(settings_json.enforced_settings([8080, 8081])))
    write(paths.fence_config, dump(FenceConfig(ports=(8080, 8081))))
    write(paths.bash_env, "export FROM_BASH_ENV=1\n")
    model = write(Path(paths.model_dir) / "small.gguf", GGUF)
    info = os.stat(model)
    stamp = {
        "sha256": hashlib.sha256(GGUF).hexdigest(), "size": info.st_size, "mtime_ns": info.st_mtime_ns,
        "inode": info.st_ino, "placed": True,
    }  # fmt: skip
    placements = {"files": {str(model): stamp}, "profiles": {"small": {"model": str(model), "files": [str(model)]}}}
    write(paths.placements, json.dumps(placements))
    return Workbench(given)
