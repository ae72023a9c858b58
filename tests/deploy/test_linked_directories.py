"""The user's directories may be links to another disk: the tasks that make them run twice in such a home."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.plan.test_deploy_plan import PYINFRA, ROOT


def changed(home: Path, task: str) -> list[str]:
    """The operations of a task that changed something, in a home of its own."""
    done = subprocess.run(
        [PYINFRA, "-y", "--json", "@local", f"tasks/{task}.py"], cwd=ROOT, env={**os.environ, "HOME": str(home)},
        capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [each["name"] for each in json.loads(done.stdout)["results"]["operations"] if each["success"]]


@pytest.mark.slow
def test_a_linked_configuration_directory_is_used_and_closed(tmp_path: Path) -> None:
    home, disk = tmp_path / "home", tmp_path / "disk"
    for path in (home / ".local/share", disk / "config", disk / "share"):
        path.mkdir(parents=True)
    (home / ".claude-local").symlink_to(disk / "config")
    (home / ".local/share/claude-local").symlink_to(disk / "share")
    assert "Make the configuration directory" in changed(home, "home")
    assert (home / ".claude-local").is_symlink() and (disk / "config").stat().st_mode & 0o777 == 0o700
    assert (disk / "config/enforced.json").exists() and (disk / "share/state/settings.applied.json").exists()
    assert changed(home, "home") == []
