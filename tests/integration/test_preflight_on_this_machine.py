"""Preflight refuses a real occupied port and a real small disk, one line each, and changes nothing."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.integration.machine import PYINFRA, ROOT

pytestmark = pytest.mark.integration

# Mounts a small disk at $1 in a new mount namespace, then runs the command.
SMALL_DISK = 'mount -t tmpfs -o size=64m small "$1" && shift && exec "$@"'


def deploy(home: Path, *data: str, disk: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the whole deploy in a new home. It must stop at preflight."""
    options = [word for each in ("server_container=claude-local-preflight", *data) for word in ("--data", each)]
    words = [PYINFRA, "-y", "@local", "deploy.py", *options]
    if disk is not None:
        rights = [] if os.geteuid() == 0 else ["sudo", "-n", "-E"]
        words = [*rights, "unshare", "--mount", "sh", "-c", SMALL_DISK, "sh", str(disk), *words]
    return subprocess.run(
        words, cwd=ROOT, env={**os.environ, "HOME": str(home)}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True,
        check=False, timeout=120,
    )  # fmt: skip


def told(done: subprocess.CompletedProcess[str], home: Path) -> list[str]:
    """Check that preflight refused and changed nothing. Returns its lines."""
    assert done.returncode == 1
    assert "this machine is not ready, nothing has been changed:" in done.stderr
    assert "Starting operation" not in done.stderr and "Traceback" not in done.stderr
    assert not (home / ".local").exists() and not (home / ".claude-local").exists()
    return [line.strip() for line in done.stderr.splitlines()]


def test_a_port_in_use_is_named_with_its_setting(tmp_path: Path) -> None:
    with socket.socket() as first, socket.socket() as second:
        ports = []
        for listener in (first, second):
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            ports.append(listener.getsockname()[1])
        lines = told(deploy(tmp_path, f"server_port={ports[0]}", f"manager_port={ports[1]}"), tmp_path)
    for setting, port in zip(("server_port", "manager_port"), ports, strict=True):
        assert len([line for line in lines if line.startswith(f"{setting}: port {port} is in use by another")]) == 1


def test_a_disk_that_is_too_small_is_named_with_what_is_needed(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    ports = ("server_port=19080", "manager_port=19081")
    small = ("default_profile=qwen2.5-coder-1.5b", 'model_profiles=["qwen2.5-coder-0.5b"]')
    lines = told(deploy(tmp_path, f"model_dir={disk}", *ports, *small, disk=disk), tmp_path)
    (line,) = (each for each in lines if each.startswith("disk small"))
    assert "0.1 GiB free, needed 2.5 GiB (models 1.5 GiB + margin 1.0 GiB)" in line
    assert "set model_dir to a bigger disk" in line
