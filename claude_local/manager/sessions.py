"""The running sessions, as the management API tells them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from claude_local.claude.running_sessions import running_sessions

# What everybody may know who reaches the port, another session for instance.
PUBLIC = ("profile", "own", "since", "tokens")
# Tokens that Claude Code (2.1.330) shows the model after a compaction: up to five files of 5,000 tokens, and a
# generous 15,000 for the system prompt, the tools and the summary.
AFTER_COMPACTION = 40_000


def fits(tokens: int, window: int | None) -> bool:
    """Whether a conversation of ``tokens`` fits into a window of ``window`` tokens, at once or after a compaction.
    ``window`` is None if it is not known.

    For a compaction, Claude Code sends what fits, and keeps the rest of the conversation as it is. So the rest and
    AFTER_COMPACTION must fit together. Otherwise it compacts again and again, and adds the files each time.
    """
    return window is None or tokens <= max(window, 2 * window - AFTER_COMPACTION)


def public(session: dict[str, Any]) -> dict[str, Any]:
    """An entry of :meth:`Sessions.entries` without what only the user may know."""
    return {key: session[key] for key in PUBLIC}


class Sessions:
    """The sessions with a record in ``directory``, and what they report."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._tokens: dict[int, int] = {}

    def report(self, process: int, tokens: int) -> None:
        """Keep the size of a conversation with the active profile, as its session tells it; 0 for another profile."""
        running = {each.process for each in running_sessions(self._directory)}
        self._tokens = {each: known for each, known in self._tokens.items() if each in running}
        if process in running:
            self._tokens[process] = tokens

    def entries(self, active: str) -> list[dict[str, Any]]:
        """One entry a session. ``profile``: what it uses; ``own``: it was started with --model, and does not follow
        ``active``; ``tokens``: of its conversation, None if unknown. ``workspace`` and ``process`` are for the user
        alone (:func:`public`)."""
        return [
            {
                **asdict(each),
                "profile": each.profile or active,
                "own": bool(each.profile),
                "tokens": self._tokens.get(each.process),
            }
            for each in running_sessions(self._directory)
        ]
