"""The claude-local sessions of this user that run now. They wait while verify loads other models."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from claude_local.claude.arguments import UsageError, read
from claude_local.paths import Paths
from claude_local.verify import processes

# A variable that says that a person who sits at the terminal may be asked.
ASK = "CLAUDE_LOCAL_ASK"


def _parent(pid: int) -> int:
    """The parent's id, 0 for a process that has ended."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _workspace(pid: int, program: str) -> str | None:
    """The directory of the session whose first process ``pid`` is, None for any other process."""
    with suppress(OSError, ValueError, UsageError):
        if os.stat(f"/proc/{pid}").st_uid == os.getuid():
            argv = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")[:-1]
            # python -I -S start.py ... -- ARGUMENTS: bubblewrap and strace have the name among their arguments, too.
            if program in argv[1:4] and read(argv[argv.index("--") + 1 :]).needs_server:
                return os.readlink(f"/proc/{pid}/cwd")
    return None


def running_sessions(paths: Paths) -> list[str]:
    """The workspaces of the sessions that use the server, one entry a session."""
    workspaces = {}
    for pid in processes.pids():
        if (workspace := _workspace(pid, paths.start_program)) is not None:
            workspaces[pid] = workspace
    return sorted(workspace for pid, workspace in workspaces.items() if _parent(pid) not in workspaces)


def notice(sessions: list[str], profiles: tuple[str, ...], home: str) -> list[str]:
    """What verify will take from ``sessions``, a line each; nothing without sessions."""
    if not sessions:
        return []
    many = len(sessions) > 1
    lines = [f"{len(sessions)} claude-local session{'s' if many else ''} {'are' if many else 'is'} running:"]
    for workspace in sessions:
        inside = workspace == home or workspace.startswith(home + "/")
        lines.append(f"  {'~' + workspace[len(home) :] if inside else workspace}")
    if len(profiles) > 1:
        lines.append(f"verify loads {len(profiles)} models, one after the other, and asks them questions.")
    else:
        lines.append("verify asks the same model questions.")
    lines.append("Until it ends, answers in a running session take minutes longer.")
    return lines
