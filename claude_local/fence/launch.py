"""The fence's launcher: starts Claude Code behind the fence that this machine allows, and stays as its parent.

claude_local/claude/start.py calls :func:`launch`. README.md in this directory describes the order of a start.
"""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Sequence
from contextlib import suppress
from os.path import exists, isfile, join
from typing import NoReturn

from claude_local.fence import policy
from claude_local.fence.claude_sandbox import ClaudeSandbox, session_settings
from claude_local.fence.config import FenceConfig
from claude_local.fence.credentials import moved_secrets, secret_settings
from claude_local.fence.downloads import leave_out_settings
from claude_local.fence.environment import layers_name, session_environment, system_program
from claude_local.fence.files import realpath
from claude_local.fence.messages import PROVISION, fail, note
from claude_local.fence.options import Options, read_config
from claude_local.fence.session import run_fenced
from claude_local.fence.workspace import WorkspaceRefused

RETURN = "cd to a directory that exists, and start again"


def close_descriptors(arguments: Sequence[str], keep: int | None = None) -> None:
    """Close what the caller left open, from descriptor 3 on: a session could open files and directories outside the
    fence through ``/proc/PID/fd``. Pipes stay open that ``arguments`` name, as ``claude-local --mcp-config <(...)``
    does. So does ``keep``."""
    for number in sorted(int(name) for name in os.listdir("/proc/self/fd")):
        # One of them was the listing's own.
        with suppress(OSError):
            if (
                number > 2
                and number != keep
                and not (f"/dev/fd/{number}" in arguments and stat.S_ISFIFO(os.fstat(number).st_mode))
            ):
                os.close(number)


def check_programs(config: FenceConfig) -> None:
    """End the program when one that the fence needs is missing; Claude Code's own message would not name a fix."""
    if config.outer and not isfile(config.bwrap):
        fail(f"the fence cannot be set up: {config.bwrap} is missing", PROVISION)
    for name, program in (("bwrap", config.bwrap), ("socat", system_program("socat"))) if config.inner else ():
        if program is None or not os.access(program, os.X_OK):
            fail(f"the fence around commands cannot be set up: {name} is not installed", PROVISION)


def closed_paths(config: FenceConfig, home: str) -> tuple[list[str], list[str]]:
    """What a session must not read and must not write where only the inner layer works: existing paths, and names in
    the workspace."""
    try:
        workspace = os.getcwd()
    except OSError as error:
        fail(f"the fence cannot be set up: {error}", RETURN)
    names = [join(home, name) for name in (*policy.MASKED_IN_HOME, ".claude")]
    names += moved_secrets(os.environ, [workspace]) + secret_settings(home, os.environ, [workspace])
    unreadable = [path for path in [*names, *config.hidden] if exists(path) and path not in config.visible]
    # Start-up files of shells are closed by the sandbox itself.
    return unreadable, [join(workspace, name) for name in (*policy.STUB_DIRECTORIES, ".mcp.json", ".envrc")]


def run_without_outer(
    config: FenceConfig, options: Options, enforced: dict[str, object], keep: int | None = None
) -> NoReturn:
    """Become Claude Code, with the inner layer alone or, when the user asked for it, with none. ``keep``: see
    ``launch``."""
    unreadable, read_only = closed_paths(config, realpath(options.home)) if config.inner else ([], [])
    sandbox = ClaudeSandbox(
        enabled=config.inner, allow_write=config.writable, allowed_domains=config.domains,
        all_unix_sockets=bool(config.sockets), deny_read=unreadable, deny_write=read_only,
    )  # fmt: skip
    env = session_environment(config, options.sandbox_bin)
    claude, *arguments = options.command
    if keep is not None:
        os.set_inheritable(keep, True)
    os.execve(claude, [claude, "--settings=" + json.dumps(session_settings(enforced, sandbox)), *arguments], env)


def launch(options: Options, enforced: dict[str, object], keep: int | None = None) -> int:
    """Run Claude Code with the ``enforced`` settings behind the fence. ``keep``: an open file of ours that stays open
    in this process, and behind the outer layer in no other: the session could write it.

    Returns Claude Code's exit status, or 128 + the number of the signal that ended it. Ends the program with status 1
    when the fence cannot be set up or the workspace is refused.
    """
    # From here on there is something to clean up after Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config = read_config(options.config)
    if options.unfenced:
        note("no fence for this call: the session may do everything that you may do")
        run_without_outer(FenceConfig(layers=()), options, enforced, keep)
    close_descriptors(options.command, keep)
    if not config.layers:
        fail(
            f"no fence can be set up on this machine: {config.reason or 'the reason is unknown'}",
            "./provision verify   says what is missing; claude-local --unfenced   runs one call without a fence",
        )
    check_programs(config)
    if options.downloads:
        leave_out_settings(options.command, options.config_dir)
    if config.outer:
        try:
            return run_fenced(config, options, enforced)
        except WorkspaceRefused as refused:
            fail(str(refused), refused.fix)
        except OSError as error:
            fail(f"the fence cannot be set up: {error}", RETURN)
    note(f"only one layer of the fence works here ({layers_name(config)}): {config.reason or 'the reason is unknown'}")
    if os.getuid() == 0:
        note("as root, this layer does not protect the kernel's settings from commands: work as an ordinary user")
    run_without_outer(config, options, enforced, keep)
