"""Throw-away accounts with sudo, for tests as an ordinary user."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.machine import need


def _sh(script: str) -> None:
    subprocess.run(["sh", "-ec", script], check=True, stdin=subprocess.DEVNULL, timeout=300)


@contextmanager
def sudoer(name: str) -> Iterator[Path]:
    """Create an account with passwordless sudo, yield its home directory, and remove both it and its processes."""
    need("sudo")
    _sh(
        f"userdel -rf {name} 2>/dev/null || true; useradd --create-home --shell /bin/bash --password '*' {name};"
        f"echo '{name} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{name}; chmod 440 /etc/sudoers.d/{name}"
    )
    try:
        yield Path("/home") / name
    finally:
        _sh(f"pkill -KILL -u {name} || true; rm -f /etc/sudoers.d/{name}; userdel -rf {name} 2>/dev/null || true")
