"""apt-get as this package calls it: patient with another apt, and it finishes what an interrupted one has left."""

from __future__ import annotations

from pathlib import Path

from pyinfra.api import StringCommand

from claude_local.deploy.operations.streaming import shell

SCRIPT = (Path(__file__).parents[3] / "files" / "apt.sh").read_text()


def apt(arguments: list[str], lock_timeout: int) -> StringCommand:
    """``apt-get ARGUMENTS``, to be run as root; ``lock_timeout``: seconds to wait for another apt or dpkg."""
    return shell(["sh", "-c", SCRIPT, "apt.sh", str(int(lock_timeout)), *arguments])
