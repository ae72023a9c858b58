"""files/image/base-image.sh ended in the middle of a debootstrap, and the run after that."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.image.test_base_image import BASE_SCRIPT, DEBOOTSTRAP, IMPORT

pytestmark = pytest.mark.slow

# A mount namespace, in which a user who is not root becomes root.
MOUNT_NAMESPACE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
# Mounts a file system in its folder, as debootstrap does, and ignores a terminal's signals.
HANGS = (
    DEBOOTSTRAP + 'mkdir -p "$root/proc"; mount -t tmpfs hangs "$root/proc"; trap "" INT TERM HUP; : >"$LOG.began"\n'
    "while :; do sleep 0.1; done"
)


def start(tmp_path: Path, debootstrap: str, before: str = "") -> subprocess.Popen[str]:
    """Start the script with stand-ins in a mount namespace of its own, after the commands ``before``."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "log.root").mkdir(exist_ok=True)
    targets = "printf '%s\\n' 'http://mirror.example/debian/ bookworm main Debian'"
    for name, script in {"docker": IMPORT, "debootstrap": debootstrap, "apt-get": targets}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    argv = [
        "sh",
        str(BASE_SCRIPT),
        "bootstrap",
        "docker",
        "base:b",
        "debian",
        "bookworm",
        f"{tmp_path}/scratch",
        "bookworm",
    ]
    return subprocess.Popen(
        [*MOUNT_NAMESPACE, "sh", "-ec", f'{before}\nexec "$@"', "sh", *argv], text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "LOG": str(tmp_path / "log")},
    )  # fmt: skip


def assert_succeeds(process: subprocess.Popen[str], tmp_path: Path) -> None:
    """The script imports the image and removes its scratch folder."""
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "import base:b" in (tmp_path / "log").read_text() and not (tmp_path / "scratch").exists()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait a minute for ``condition``; ``what`` is for the message."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"waited for {what}")


def running(tmp_path: Path) -> list[str]:
    """The command lines of the script's and debootstrap's processes."""
    lines = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True, timeout=30).stdout
    return [line for line in lines.splitlines() if f"{tmp_path}/scratch" in line]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_debootstrap_ends_with_the_script_and_the_next_run_starts_over(tmp_path: Path, how: signal.Signals) -> None:
    process = start(tmp_path, HANGS)
    wait_until(lambda: (tmp_path / "log.began").exists() or process.poll() is not None, "debootstrap")
    assert any("debootstrap" in line for line in running(tmp_path))
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # what a terminal does on Ctrl-C
    else:
        process.send_signal(how)
    assert process.wait(60) == -how
    wait_until(lambda: not running(tmp_path), "debootstrap's end")
    assert_succeeds(start(tmp_path, DEBOOTSTRAP), tmp_path)


def test_mounts_of_a_killed_debootstrap_do_not_stop_the_next_run(tmp_path: Path) -> None:
    """They are left when the kernel gives debootstrap no namespaces of its own."""
    left = tmp_path / "scratch/root/proc"
    assert_succeeds(start(tmp_path, DEBOOTSTRAP, f'mkdir -p "{left}"; mount -t tmpfs left "{left}"'), tmp_path)


def test_a_run_waits_for_an_earlier_one_in_the_same_folder(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        process = start(tmp_path, DEBOOTSTRAP)
        assert process.stdout is not None
        assert "earlier run that is still making a base image" in process.stdout.readline()
        assert not (tmp_path / "scratch").exists()
    finally:
        os.close(folder)
    assert_succeeds(process, tmp_path)
