"""The cheap stages over ssh to a loopback sshd, as an ordinary user with sudo, twice.

Claude Code's binary is this machine's; test_ordinary_user and test_debian_13 download it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.accounts import sudoer
from tests.integration.fenced_home import real_claude
from tests.integration.machine import PYINFRA, need, run

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("claude_code")]

USER = "claude-local-ssh"
CHEAP = ("preflight", "packages", "runtime", "fence", "docker", "claude", "home", "commands")
STAGES = [f"tasks/{stage}.py" for stage in CHEAP]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with sudoer(USER) as path:
        claude = real_claude()
        versions = path / ".local/share/claude/versions"
        versions.mkdir(parents=True)
        shutil.copy2(claude, versions)
        subprocess.run(["chown", "-R", f"{USER}:", str(path / ".local")], check=True, timeout=60)
        yield path


@pytest.fixture(scope="module")
def inventory(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An inventory with one host: an sshd that this fixture runs on a free loopback port."""
    folder = tmp_path_factory.mktemp("ssh")
    need(sshd="openssh-server")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    ssh = home / ".ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "authorized_keys").write_text((folder / "user.pub").read_text())
    for path in (ssh, ssh / "authorized_keys"):
        os.chown(path, home.stat().st_uid, home.stat().st_gid)
    port = free_port()
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\nUsePAM no\n"
        "PasswordAuthentication no\nStrictModes no\nSubsystem sftp internal-sftp\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    known = (folder / "host.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {known[0]} {known[1]}\n")
    daemon = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert daemon.poll() is None and time.monotonic() < until, "sshd does not listen"
            time.sleep(0.1)
        data = {
            "ssh_user": USER,
            "ssh_port": port,
            "ssh_key": str(folder / "user"),
            "ssh_known_hosts_file": str(folder / "known_hosts"),
            "model_profiles": ["qwen2.5-coder-0.5b"],
        }
        path = folder / "inventory.py"
        path.write_text(f"machines = [('127.0.0.1', {data!r})]\n")
        yield path
    finally:
        daemon.terminate()
        daemon.wait(10)


def totals(inventory: Path) -> dict[str, int]:
    done = run(PYINFRA, "--json", "-y", str(inventory), *STAGES, timeout=900)
    assert done.returncode == 0
    result: dict[str, int] = json.loads(done.stdout)["results"]["totals"]
    return result


def test_the_cheap_stages_run_over_ssh_and_the_second_run_changes_nothing(inventory: Path, home: Path) -> None:
    first = totals(inventory)
    assert first["hosts"] > 0 and first["error"] == 0 and first["success"] > 0
    second = totals(inventory)
    assert (second["success"], second["error"]) == (0, 0)


def test_the_ssh_user_owns_every_file(home: Path) -> None:
    uid = home.stat().st_uid
    config = home / ".claude-local"
    assert stat.S_IMODE(config.stat().st_mode) == 0o700
    for path in (config / "settings.json", home / "bin/claude-local", home / ".local/share/claude-local/lib"):
        assert path.stat().st_uid == uid, path
    done = run("su", "-", USER, "-c", "~/.local/bin/claude --version", timeout=60)
    assert done.stdout.startswith("2.1.330")
