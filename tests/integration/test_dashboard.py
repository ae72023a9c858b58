"""The installed dashboard in a real terminal, on the real management API."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.machine import HOME, docker
from tests.integration.test_management_api import DEFAULT, MANAGER, SMALL, Api, api
from tests.integration.tty import Tty

__all__ = ["api"]
pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

PLAIN = {"HOME": str(HOME), "PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8"}
# Megabytes, and the share of one core, that it may take while nothing happens; seconds of that.
MEMORY, CPU, IDLE = 80, 0.02, 6.0


@contextmanager
def dashboard(**environment: str) -> Iterator[Tty]:
    with Tty([str(HOME / "bin" / "llama-local"), "top"], env={**PLAIN, **environment}, cwd="/") as tty:
        yield tty
        if not tty.ended:
            tty.send("q")
            assert tty.wait_for_end() == 0


def spent(process: int) -> float:
    """The seconds of CPU of a process so far."""
    with open(f"/proc/{process}/stat") as file:
        user, system = file.read().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def megabytes(process: int) -> float:
    with open(f"/proc/{process}/status") as file:
        return int(file.read().split("VmRSS:")[1].split()[0]) * 1024 / 1e6


def test_it_switches_the_model_and_outlives_the_management_api(api: Api) -> None:
    with dashboard() as tty:
        tty.wait_for("● ready")
        tty.send("m")
        listed = ("choose a model", DEFAULT, SMALL)
        tty.wait(lambda: all(each in tty.text for each in listed), "the models to choose from")
        tty.send("\x1b[B\r")
        tty.wait_for(f"✓ {SMALL} answers", seconds=90)
        assert api.get("/status")["model"] == SMALL
        tty.wait_for(f"{SMALL}, 32,768 tokens")
        subprocess.run([docker(), "restart", "--time", "1", MANAGER], check=True, capture_output=True, timeout=60)
        tty.wait_for("✗ manager gone", "✗ docker gone")
        tty.wait_for("● ready", seconds=60)
        assert "Traceback" not in tty.text


def test_it_takes_little_while_nothing_happens(api: Api) -> None:
    with dashboard() as tty:
        tty.wait_for("● ready")
        # Its start and a message of the server take longer on a busy machine.
        for _ in range(6):
            before = spent(tty.child.pid)
            tty.read_for(IDLE)
            share, memory = (spent(tty.child.pid) - before) / IDLE, megabytes(tty.child.pid)
            print(f"dashboard: {share:.2%} of a core, {memory:.0f} MB")
            if share < CPU:
                break
        assert share < CPU and memory < MEMORY


def test_a_terminal_without_unicode_and_colour_gets_neither(api: Api) -> None:
    with dashboard(LANG="C", NO_COLOR="1") as tty:
        tty.wait_for("* ready")
        tty.send("?")
        tty.wait_for("Ctrl-C leaves")
        tty.send("\x1b")
        tty.wait(lambda: "Ctrl-C leaves" not in tty.text, "the help to close")
        assert tty.raw.isascii()
        colours = re.findall(rb"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d|10\d)(?:;\d+)*m", tty.raw)
        assert colours == []
