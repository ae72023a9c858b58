"""The problems that ``llama-local doctor`` looks for, shows and fixes.

Our locks are the kernel's and end with their process, so none can be stale; one can be held by a stopped process.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote

from claude_local.cli.containers import DockerFailed, docker
from claude_local.cli.machine import Machine
from claude_local.cli.output import in_terminal
from claude_local.models.stored import StoredError, inventory
from claude_local.server.client import LlamaClient, ServerError
from claude_local.server.container import owner

PROVISION = "./provision"
# Seconds that a container which has just been started gets to answer.
GRACE = 20.0
# Bytes that the disk of the state directory should have left: logs, reports, snapshots.
SPARE = 1 << 30


class MendFailed(Exception):
    """A finding is still there; the message says why."""


@dataclass(frozen=True)
class Finding:
    """``id``: the check that found it. ``what``: one line. ``fix``: the command that fixes it. ``mend``: does the same
    from here, None if only the person can. It raises MendFailed, DockerFailed or OSError."""

    id: str
    what: str
    fix: str
    mend: Callable[[], object] | None = None


def token(machine: Machine) -> Iterator[Finding]:
    """The API token is there, and only for its user."""
    path = machine.paths.token
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError as error:
        yield Finding("token", f"the API token {path} cannot be read: {error.strerror}", PROVISION)
        return
    if mode & 0o077:
        yield Finding(
            "token", f"other users can read the API token: {path} has mode {mode:o}", f"chmod 600 {path}",
            partial(os.chmod, path, 0o600),
        )  # fmt: skip


def commands(machine: Machine) -> Iterator[Finding]:
    """The shell finds our claude-local, and it can start Claude Code."""
    found = shutil.which("claude-local")
    text = ""
    with suppress(OSError):
        text = Path(found or "").read_text(errors="replace")
    if found is None:
        yield Finding("path", "claude-local is not on PATH in this shell", "exec $SHELL -l    (or a new terminal)")
    elif machine.paths.share not in text:
        yield Finding("path", f"another program comes first on PATH: {found}", "type -a claude-local")
    if not os.access(machine.paths.claude, os.X_OK):
        yield Finding("claude", f"Claude Code is missing: {machine.paths.claude}", PROVISION)


def models(machine: Machine) -> Iterator[Finding]:
    """Every file that a profile uses is there, unchanged, and the disk has room."""
    with suppress(OSError):
        free = shutil.disk_usage(machine.paths.share).free
        if free < SPARE:
            what = f"only {free // 1024**2} MiB are free on the disk of {machine.paths.share}"
            yield Finding("disk", what, "llama-local models prune --unfinished")
    try:
        files = inventory(machine.paths.placements, machine.paths.presets).files
    except (StoredError, OSError) as error:
        yield Finding("models", str(error), PROVISION)
        return
    for file in files:
        if file.used_by and file.state in ("missing", "changed"):
            yield Finding("models", f"{file.path} is {file.state}; {', '.join(file.used_by)} needs it", PROVISION)


def stopped_run(machine: Machine) -> Iterator[Finding]:
    """No stopped process (Ctrl-Z) holds the lock on the models."""
    with suppress(OSError, ValueError):
        process = int(Path(machine.paths.placing_lock).read_text())
        if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            yield Finding(
                "lock", f"process {process} places models and holds their lock, but is stopped",
                f"kill -CONT {process}", partial(os.kill, process, signal.SIGCONT),
            )  # fmt: skip


def ownership(machine: Machine) -> Iterator[Finding]:
    """The containers' user can write the log and what the management API remembers."""
    uid, gid = owner(os.getuid(), os.getgid())
    for path in (machine.paths.server_logs, machine.paths.manager_state):
        with suppress(FileNotFoundError):
            status = os.stat(path)
            if status.st_uid != uid or status.st_mode & 0o700 != 0o700:
                script = f"chown -R {uid}:{gid} {quote(path)} && chmod u+rwx {quote(path)}"
                yield Finding(
                    "ownership", f"the containers cannot write to {path}", f"sudo sh -c '{script}'",
                    partial(_run, "sudo", "sh", "-c", script),
                )  # fmt: skip


def containers(machine: Machine) -> Iterator[Finding]:
    """Docker answers, and both containers run."""
    for name in (machine.container, machine.manager_container):
        try:
            state = _state(name)
        except DockerFailed as error:
            if "o such" in str(error):
                yield Finding("containers", f"Docker has no container {name}", PROVISION)
                continue
            if "password" in str(error):
                yield Finding("docker", f"Docker cannot be asked: {error}", "sudo -v; llama-local doctor")
                return
            fix = "sudo service docker start"
            yield Finding("docker", f"Docker does not answer: {error}", fix, partial(_run, *fix.split()))
            try:
                state = _state(name)
            except DockerFailed:
                return
        mend = {"exited": "start", "created": "start", "dead": "start", "paused": "unpause", "unhealthy": "restart"}
        if verb := mend.get(state):
            yield Finding(
                "containers", f"the container {name} is {state}", f"sudo docker {verb} {name}",
                partial(docker, verb, name, password=in_terminal()),
            )  # fmt: skip
        elif state == "restarting":
            yield Finding("containers", f"the container {name} ends right after each start", "llama-local logs")


def _state(name: str) -> str:
    """running, exited, paused ..., or unhealthy. Raises DockerFailed."""
    form = "{{.State.Status}} {{with .State.Health}}{{.Status}}{{end}}"
    state, _, health = docker("inspect", "--format", form, name, password=in_terminal()).strip().partition(" ")
    return health if state == "running" and health == "unhealthy" else state


def answers(machine: Machine) -> Iterator[Finding]:
    """The management API answers and accepts our token; the server behind it answers, and the model has not failed."""
    try:
        key = Path(machine.paths.token).read_text().strip()
    except OSError:
        return
    manager = LlamaClient(f"http://127.0.0.1:{machine.port}", key)
    try:
        status = _status(manager)
    except ServerError as error:
        name = machine.manager_container
        yield Finding(
            "manager", f"the management API does not answer: {error}", f"sudo docker restart {name}",
            partial(docker, "restart", name, password=in_terminal()),
        )  # fmt: skip
        return
    # A body that it refuses, after it has looked at the token.
    if manager.request("POST", "/stop", {"nothing": True}).status_code == 401:
        yield Finding("token", f"the token of the containers differs from {machine.paths.token}", PROVISION)
    if status["state"] == "down":
        yield Finding(
            "server", f"llama-server does not answer: {status['status']}", f"sudo docker restart {machine.container}",
            partial(docker, "restart", machine.container, password=in_terminal()),
        )  # fmt: skip
    if status["state"] == "failed":
        yield Finding("model", status["status"], "llama-local logs; llama-local switch    (to another model)")


def _status(manager: LlamaClient) -> dict[str, str]:
    """GET /status. A container that has just been started gets time. Raises ServerError."""
    end = time.monotonic() + GRACE
    while True:
        try:
            status: dict[str, str] = manager.json("GET", "/status")
            if status["state"] != "down" or time.monotonic() > end:
                return status
        except ServerError:
            if time.monotonic() > end:
                raise
        time.sleep(0.5)


def _run(*words: str) -> None:
    command = words[1:] if os.geteuid() == 0 and words[0] == "sudo" else words
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise MendFailed((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])


# In this order: what a later one needs is mended before it looks. The quick ones ask no other program.
QUICK = (token, commands, models, stopped_run, ownership)
CHECKS = (*QUICK, containers, answers)
