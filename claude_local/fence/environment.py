"""The environment of a session: which variables it gets, and the PATH with the programs of Claude Code's own
sandbox."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from os.path import dirname, isfile, islink, join

from claude_local.fence.config import FenceConfig
from claude_local.fence.files import read_text, realpath
from claude_local.fence.messages import fail
from claude_local.fence.plan import covers
from claude_local.fence.secret_shapes import holds_a_login, looks_like_a_credential, looks_like_a_secret

# The directories of the distribution's programs.
SYSTEM_PATH = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin", "/usr/local/sbin")


# Variables that name sockets and sessions outside, or a directory that does not exist inside (TMPDIR).
POINTERS = frozenset({
    "SSH_AUTH_SOCK", "SSH_AGENT_PID", "SSH_ASKPASS", "SUDO_ASKPASS", "GIT_ASKPASS", "GPG_AGENT_INFO",
    "DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS", "DBUS_STARTER_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY",
    "XAUTHORITY", "ICEAUTHORITY", "SESSION_MANAGER", "TMUX", "TMUX_PANE", "TMUX_TMPDIR", "STY", "ZELLIJ",
    "ZELLIJ_SESSION_NAME", "DOCKER_HOST", "DOCKER_CONFIG", "CONTAINER_HOST", "KUBECONFIG", "PULSE_SERVER",
    "GNOME_KEYRING_CONTROL", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "JOURNAL_STREAM", "INVOCATION_ID",
    "VSCODE_IPC_HOOK_CLI", "VSCODE_GIT_IPC_HANDLE", "VSCODE_GIT_ASKPASS_NODE", "VSCODE_GIT_ASKPASS_MAIN",
    "VSCODE_GIT_ASKPASS_EXTRA_ARGS", "NVIM", "NVIM_LISTEN_ADDRESS", "EMACS_SERVER_FILE", "KITTY_LISTEN_ON",
    "ALACRITTY_SOCKET", "WEZTERM_UNIX_SOCKET", "SWAYSOCK", "I3SOCK", "HYPRLAND_INSTANCE_SIGNATURE", "TMPDIR", "TMP",
    "TEMP", "LD_PRELOAD", "LD_AUDIT",
})  # fmt: skip
# Variables of Claude Code's that the wrapper sets.
_OWN = ("ANTHROPIC_", "CLAUDE_")
# The values of ``fence_sockets``, and the variables that name these sockets.
SOCKET_VARIABLES = {
    "ssh-agent": ("SSH_AUTH_SOCK",),
    "gpg-agent": (),
    "display": ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"),
}


def filtered(env: Mapping[str, str], keep: Iterable[str] = (), sockets: Iterable[str] = ()) -> dict[str, str]:
    """``env`` without credentials and without what points outside the session.

    ``keep``: names that stay in any case. ``sockets``: keys of SOCKET_VARIABLES, whose variables stay.
    """
    kept = {*keep, *(name for each in sockets for name in SOCKET_VARIABLES[each])}
    return {
        name: value
        for name, value in env.items()
        if name in kept or not (name in POINTERS or looks_like_a_credential(name) or _is_secret(name, value))
    }


def _is_secret(name: str, value: str) -> bool:
    """Whether the value says that it is a secret. The session needs the token for llama-server."""
    return holds_a_login(value) if name.startswith(_OWN) else looks_like_a_secret(value)


def layers_name(config: FenceConfig) -> str:
    """The layers as the status line and the session see them, such as ``outer+inner``."""
    return "+".join(config.layers) or "none"


def session_environment(config: FenceConfig, sandbox_bin: str = "", read_only: Sequence[str] = ()) -> dict[str, str]:
    """The part of our environment that a session gets; all of it when there is no fence. ``sandbox_bin``: see
    Options. ``read_only``: what the outer layer lets Claude Code write and commands must not."""
    env = dict(os.environ)
    if config.layers:
        env = filtered(env, config.environment, config.sockets)
        # Only Claude Code's own sandbox needs these; files/bash-env.sh takes them off the PATH of commands.
        if config.inner and sandbox_bin:
            env["CLAUDE_LOCAL_SANDBOX_BIN"] = sandbox_bin
            link_programs(config, sandbox_bin, read_only)
            env["PATH"] = os.pathsep.join([sandbox_bin, env.get("PATH", "/usr/bin:/bin")])
    return env | {
        "CLAUDE_LOCAL_FENCE": layers_name(config),
        "CLAUDE_LOCAL_SOCKETS": " ".join(config.sockets),
        "CLAUDE_LOCAL_PORTS": " ".join(map(str, command_ports(config))),
        # For the end of a command (files/bash-env.sh).
        "CLAUDE_LOCAL_PYTHON": sys.executable,
        "CLAUDE_LOCAL_COMMAND_END": join(dirname(realpath(__file__)), "command_end.py") if config.layers else "",
        "CLAUDE_LOCAL_WORKSPACE": os.getcwd(),
    }


def command_ports(config: FenceConfig) -> list[int]:
    """The ports of this machine that commands reach, without those below 1024: there an ordinary user cannot listen."""
    if not config.inner:
        return []
    places = [domain.rpartition(":") for domain in config.domains]
    named = [int(port) for host, _, port in places if host in ("127.0.0.1", "localhost") and port.isdigit()]
    return [port for port in dict.fromkeys([*config.ports, *named]) if port >= 1024]


# With the outer layer, Claude Code's sandbox leaves files to it. Commands must not change everything that Claude Code
# may, so this adds some mounts to each of its calls. Nothing in it is looked up in the session's environment.
_BWRAP = """#!/bin/sh
# What the sandbox of Claude Code runs as bwrap. claude-local writes this at each start.
added=
for word; do
  shift
  case $added$word in --) added=1; set -- "$@" {options} ;; esac
  set -- "$@" "$word"
done
exec {bwrap} "$@"
"""


def commands_bwrap(bwrap: str, read_only: Iterable[str]) -> str:
    """The text of a program that runs ``bwrap`` with the paths ``read_only``, where they exist."""
    options = [word for path in read_only for word in ("--ro-bind-try", path, path)]
    return _BWRAP.format(options=shlex.join(options), bwrap=shlex.quote(bwrap))


def link_programs(config: FenceConfig, sandbox_bin: str, read_only: Sequence[str] = ()) -> None:
    """Link the system's bwrap and socat (or the bwrap copy that AppArmor wants) into ``sandbox_bin``. With
    ``read_only``, bwrap is a program that makes these paths read-only (``commands_bwrap``).

    Claude Code's sandbox runs the first bwrap and socat on PATH, and a project's ``.venv/bin`` or ``node_modules/.bin``
    may be on it. Ends the program where ``sandbox_bin`` cannot be written: a command must run no other bwrap.
    """
    candidates = {"bwrap": config.bwrap, "socat": system_program("socat")}
    programs = {name: program for name, program in candidates.items() if program is not None}
    try:
        os.makedirs(sandbox_bin, exist_ok=True)
        for name, program in programs.items():
            link, new = join(sandbox_bin, name), join(sandbox_bin, f"{name}.{os.getpid()}")
            if name == "bwrap" and read_only:
                text = commands_bwrap(program, read_only)
                if read_text(link, os.O_NOFOLLOW) != text:
                    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755), "w") as file:
                        file.write(text)
                    os.rename(new, link)
            elif not (islink(link) and os.readlink(link) == program):
                os.symlink(program, new)
                os.rename(new, link)
    except OSError as error:
        fail(f"the fence around commands cannot be set up: {sandbox_bin}: {error.strerror}",
             f"make {sandbox_bin} writable, and start again")  # fmt: skip


def system_program(name: str) -> str | None:
    """The path of the program ``name``: in the system's directories, else in a directory on PATH that no session can
    have written, so not below the home directory or the current one. None when there is none."""
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
