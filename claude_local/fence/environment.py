"""The environment that Claude Code is started with, and the programs that its own sandbox is made of."""

from __future__ import annotations

import os
from contextlib import suppress
from os.path import dirname, isfile, islink, join

from claude_local.fence import policy
from claude_local.fence.config import FenceConfig
from claude_local.fence.files import realpath
from claude_local.fence.plan import covers

# The directories of the distribution's programs.
SYSTEM_PATH = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin", "/usr/local/sbin")


def layers_name(config: FenceConfig) -> str:
    """The layers as the status line and the session see them, such as ``outer+inner``."""
    return "+".join(config.layers) or "none"


def session_environment(config: FenceConfig, sandbox_bin: str = "") -> dict[str, str]:
    """The part of our environment that a session gets; all of it when there is no fence. ``sandbox_bin``: see Options."""
    env = dict(os.environ)
    if config.layers:
        env = policy.environment(env, config.environment, config.sockets)
        # Only Claude Code's own sandbox needs these; files/bash-env.sh takes them off the PATH of commands.
        if config.inner and sandbox_bin:
            env["CLAUDE_LOCAL_SANDBOX_BIN"] = sandbox_bin
            env["PATH"] = os.pathsep.join([*link_programs(config, sandbox_bin), env.get("PATH", "/usr/bin:/bin")])
    return env | {"CLAUDE_LOCAL_FENCE": layers_name(config), "CLAUDE_LOCAL_SOCKETS": " ".join(config.sockets)}


def link_programs(config: FenceConfig, sandbox_bin: str) -> list[str]:
    """Link the system's bwrap and socat (or the bwrap copy that AppArmor wants) into ``sandbox_bin``.

    Claude Code's sandbox runs the first bwrap and socat on PATH, and a project's ``.venv/bin`` or ``node_modules/.bin`` may
    be on it. Returns the directories to put first on PATH: ``sandbox_bin``, preceded by the programs' own directories
    where no links can be made (verify starts sessions on a read-only home).
    """
    candidates = {"bwrap": config.bwrap, "socat": system_program("socat")}
    programs = {name: program for name, program in candidates.items() if program is not None}
    try:
        os.makedirs(sandbox_bin, exist_ok=True)
        for name, program in programs.items():
            link = join(sandbox_bin, name)
            if not (islink(link) and os.readlink(link) == program):
                new = f"{link}.{os.getpid()}"
                os.symlink(program, new)
                os.rename(new, link)
    except OSError:
        return [*dict.fromkeys(map(dirname, programs.values())), sandbox_bin]
    return [sandbox_bin]


def system_program(name: str) -> str | None:
    """The path of the program ``name``: in the system's directories, else in a directory on PATH that no session can have
    written, so not below the home directory or the current one. None when there is none."""
    elsewhere = [each for each in os.environ.get("PATH", "").split(os.pathsep) if each.startswith("/")]
    for directory in [*SYSTEM_PATH, *elsewhere]:
        path = join(directory, name)
        if not (isfile(path) and os.access(path, os.X_OK)):
            continue
        if directory in SYSTEM_PATH:
            return path
        with suppress(OSError):
            writable = [os.environ.get("HOME") or "/root", os.getcwd()]
            if not any(covers(realpath(each), realpath(directory)) for each in writable):
                return path
    return None
