"""The claude-local sessions of this user that run now, as /proc shows them."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from claude_local.claude.arguments import UsageError, read


@dataclass(frozen=True)
class RunningSession:
    """``process``: its first process. ``workspace``: the directory it was started in. ``profile``: of its --model,
    empty for the default one."""

    process: int
    workspace: str
    profile: str


def running_sessions(program: str) -> list[RunningSession]:
    """The sessions that use the installed server, by workspace. ``program``: Paths.start_program, which they run."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (session := _session(int(name), program)) is not None:
            found[session.process] = session
    # A process that was forked a moment ago still has the name of its parent.
    first = [session for session in found.values() if _parent(session.process) not in found]
    return sorted(first, key=lambda session: session.workspace)


def _session(process: int, program: str) -> RunningSession | None:
    """The session whose first process this is; None for any other process, and for one that has ended."""
    with suppress(OSError, ValueError, UsageError):
        if os.stat(f"/proc/{process}").st_uid != os.getuid():
            return None
        argv = os.fsdecode(_words(process, "cmdline")).split("\0")[:-1]
        # python -I -S start.py ... -- ARGUMENTS: bubblewrap and strace have the name among their arguments, too.
        if program not in argv[1:4]:
            return None
        asked = read(argv[argv.index("--") + 1 :])
        elsewhere = any(
            each.startswith(b"CLAUDE_LOCAL_SERVER=") and each != b"CLAUDE_LOCAL_SERVER="
            for each in _words(process, "environ").split(b"\0")
        )
        if asked.needs_server and not elsewhere:
            return RunningSession(process, os.readlink(f"/proc/{process}/cwd"), asked.profile)
    return None


def _words(process: int, name: str) -> bytes:
    with open(f"/proc/{process}/{name}", "rb") as file:
        return file.read()


def _parent(process: int) -> int:
    """The parent's id, 0 for a process that has ended."""
    with suppress(OSError):
        return int(_words(process, "stat").rpartition(b")")[2].split()[1])
    return 0


def shortened(path: str, home: str) -> str:
    """``path`` with ``~`` for the home directory."""
    return "~" + path[len(home) :] if path == home or path.startswith(home + "/") else path
