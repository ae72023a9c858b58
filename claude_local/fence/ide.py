"""Finds the ports of the IDEs that a session may talk to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from os.path import join

from claude_local.fence.files import read_text


def ide_ports(directories: Iterable[str], own_terminal: str | None) -> list[int]:
    """The loopback ports of the IDEs with a lock file in ``directories`` (PORT.lock, made by Claude Code's
    extensions): the IDE whose terminal this is (``own_terminal``: CLAUDE_CODE_SSE_PORT), and those whose process
    runs."""
    ports = []
    for directory in directories:
        with suppress(OSError):
            for name in sorted(os.listdir(directory)):
                port, _, end = name.partition(".")
                is_lock = end == "lock" and port.isascii() and port.isdigit() and 0 < int(port) < 65536
                if is_lock and (port == own_terminal or _is_running(read_text(join(directory, name)))):
                    ports.append(int(port))
    return list(dict.fromkeys(ports))


def _is_running(lock: str) -> bool:
    """Whether the process that a lock file names runs."""
    try:
        process = json.loads(lock).get("pid")
        if isinstance(process, bool) or process <= 0:
            return False
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ValueError, TypeError, AttributeError, OSError, OverflowError, RecursionError):
        return False
    return True
