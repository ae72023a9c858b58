"""A signal ends pyinfra and all that it started, and pyinfra reads what programs print in English."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from claude_local.deploy.signals import descendants
from tests.deploy.test_provision_runs import running, wait_until
from tests.integration.machine import PYINFRA, ROOT

# What config.py installs, in a process that starts quickly.
PROGRAM = """
import signal, subprocess, sys
from claude_local.deploy import signals
signals.PATIENCE = 1.0
signals.end_all_on_signal()
subprocess.run(["sh", "-c", sys.argv[1]])
"""


@contextmanager
def started(*command: str, programs: int) -> Iterator[tuple[subprocess.Popen[bytes], set[int]]]:
    """A process as a shell starts one in the background, and the pids of the ``programs`` that it has started."""
    ignore = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    process = subprocess.Popen([*ignore, *command], cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pids: set[int] = set()
    try:
        wait_until(lambda: len(descendants(process.pid)) >= programs)
        pids = descendants(process.pid)
        yield process, pids
    finally:
        process.kill()
        process.wait(60)
        for pid in pids:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_programs_and_those_that_they_left(number: int) -> None:
    script = "(sleep 61 & setsid sleep 62 & wait) & sleep 63 & exec sleep 64"
    with started(sys.executable, "-c", PROGRAM, script, programs=5) as (process, pids):
        process.send_signal(number)
        assert process.wait(60) == -number
        assert not running(pids)


def test_a_program_that_ignores_the_signal_is_killed() -> None:
    with started(sys.executable, "-c", PROGRAM, 'trap "" TERM; sleep 61; sleep 62', programs=2) as (process, pids):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
        assert not running(pids)


@pytest.mark.slow
def test_pyinfra_ends_with_its_operation(tmp_path: Path) -> None:
    deploy = tmp_path / "sleep.py"
    deploy.write_text('from pyinfra.operations import server\nserver.shell(commands=["sleep 61 & exec sleep 62"])\n')
    with started(PYINFRA, "-y", "@local", str(deploy), programs=3) as (process, pids):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
        assert not running(pids)


@pytest.mark.slow
def test_facts_and_operations_are_read_in_english_on_a_german_machine(tmp_path: Path) -> None:
    german = {**os.environ, "LANGUAGE": "de", "LANG": "C.UTF-8", "LC_ALL": ""}
    policy = ["apt-cache", "policy", "bash"]
    translated = subprocess.run(policy, env=german, capture_output=True, text=True, check=True, timeout=30).stdout
    if "Installiert" not in translated:
        pytest.skip("apt's German messages are not installed")
    fact = ["fact", "claude_local.deploy.facts.docker.DockerPackages", 'names=["bash"]']
    done = subprocess.run(
        [PYINFRA, "--json", "@local", *fact], cwd=ROOT, env=german, capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    (answer,) = json.loads(done.stdout).values()
    assert answer == {"@local": {"installed": ["bash"], "candidates": ["bash"]}}
    deploy = tmp_path / "policy.py"
    deploy.write_text(
        "from pyinfra.api import operation\nfrom claude_local.deploy.operations.streaming import stream\n"
        f"@operation()\ndef policy():\n    yield stream({' '.join(policy)!r})\n    yield 'true'\npolicy()\n"
    )
    done = subprocess.run(
        [PYINFRA, "-vv", "-y", "@local", str(deploy)], cwd=ROOT, env=german, capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    assert "Installed:" in done.stdout + done.stderr
    # What counts under sudo and over ssh.
    assert "export LC_ALL=C &&" in done.stdout + done.stderr
