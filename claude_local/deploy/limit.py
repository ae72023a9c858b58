"""A run for no machine: pyinfra ends with status 0 when ``--limit`` or ``--exclude`` leaves none."""

from __future__ import annotations

import atexit
import os
import sys

from pyinfra import state


def refuse_no_machine() -> None:
    """At the end of such a run, say which machines there are, with status 1."""
    atexit.register(_end)


def _end() -> None:
    if getattr(state, "limit_hosts", None) != []:
        return
    names = ", ".join(host.name for host in state.inventory)
    print(f"no machine is left, so nothing was done; use --limit with one of: {names}", file=sys.stderr, flush=True)
    os._exit(1)
