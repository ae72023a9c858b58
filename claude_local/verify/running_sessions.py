"""What verify says about the running sessions before it loads other models."""

from __future__ import annotations

from collections.abc import Sequence

from claude_local.claude.running_sessions import shortened

# A variable that says that a person who sits at the terminal may be asked.
ASK = "CLAUDE_LOCAL_ASK"


def notice(workspaces: Sequence[str], profiles: tuple[str, ...], home: str) -> list[str]:
    """What verify will take from the sessions in ``workspaces``, a line each; nothing without sessions."""
    if not workspaces:
        return []
    many = len(workspaces) > 1
    lines = [f"{len(workspaces)} claude-local session{'s' if many else ''} {'are' if many else 'is'} running:"]
    lines += [f"  {shortened(workspace, home)}" for workspace in workspaces]
    if len(profiles) > 1:
        lines.append(f"verify loads {len(profiles)} models, one after the other, and asks them questions.")
    else:
        lines.append("verify asks the same model questions.")
    lines.append("Until it ends, answers in a running session take minutes longer.")
    return lines
