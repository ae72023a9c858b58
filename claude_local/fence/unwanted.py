"""Keeps lines off standard error that Claude Code prints with -p and that mean nothing here."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

# 2.1.330 prints the first once for each model whose id it does not know, so for each of ours. No setting silences it
# without changing the context window to 200,000 tokens. The second comes with
# CLAUDE_CODE_DISABLE_UNKNOWN_MODEL_WINDOW_ENFORCEMENT and speaks of a limit that is far above our windows.
UNWANTED = (b"[claude-code:unrecognized_model] ", b"CLAUDE_CODE_DISABLE_1M_CONTEXT is set, but the 200K limit ")
# Seconds to wait for the last lines when the session has ended.
LAST = 5.0


class FilteredErrors:
    """A pipe in place of a session's standard error. Lines pass when they are complete."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()
        self._thread = threading.Thread(target=self._pass, daemon=True)

    def close_writing(self) -> None:
        """Close our end: the session has its own, and the pipe ends with it."""
        os.close(self.writing)

    def start(self) -> None:
        """Pass lines from now on, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Wait for the last line of a session that has ended."""
        self._thread.join(LAST)

    def _pass(self) -> None:
        with open(self._reading, "rb") as lines:
            for line in lines:
                if not line.startswith(UNWANTED):
                    # Nobody may read it any more. The session must not notice.
                    with suppress(OSError):
                        os.write(2, line)
