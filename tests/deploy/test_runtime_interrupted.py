"""The runtime's Python environment when the run before this one was killed."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from claude_local.deploy.operations.runtime import RUN_PIP, VENV_SCRIPT

pytestmark = pytest.mark.slow


def start(tmp_path: Path) -> subprocess.Popen[str]:
    """The real script, with nothing to install from the network."""
    lib = tmp_path / "lib"
    lib.mkdir()
    for module in ("claude_local", "requests"):
        (lib / f"{module}.py").touch()
    (tmp_path / "lock").touch()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "requests.py").write_text("raise RuntimeError('the caller has an old requests')\n")
    words = [f"{tmp_path}/venv", f"{tmp_path}/lock", str(lib), RUN_PIP.read_text(), "the-stamp"]
    return subprocess.Popen(
        ["sh", "-c", VENV_SCRIPT, "sh", *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "CLAUDE_LOCAL_SAY_SECONDS": "0.1", "PIP_USER": "1", "PYTHONPATH": f"{tmp_path}/old"},
    )  # fmt: skip


def comes_through(process: subprocess.Popen[str], tmp_path: Path) -> str:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert (tmp_path / "venv/claude-local.stamp").read_text() == "the-stamp\n"
    return said


def test_half_an_environment_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").write_text("half")
    (tmp_path / "venv/left").touch()
    said = comes_through(start(tmp_path), tmp_path)
    assert not (tmp_path / "venv/left").exists()
    assert "still fetching packages ..." in said, "pip takes longer than the tenth of a second that is set here"


def test_a_pip_that_a_killed_run_left_has_ended_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        process = start(tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline() == "An earlier run is still at it, waiting for its end ...\n"
        (tmp_path / "venv/pip-writes-on").touch()
    finally:
        os.close(folder)
    comes_through(process, tmp_path)
    assert not (tmp_path / "venv/pip-writes-on").exists()
