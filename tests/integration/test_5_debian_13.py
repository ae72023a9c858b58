"""A bare Debian 13 with neither Python nor npm, as an ordinary user: every stage that needs no Docker, twice.

debootstrap makes it from the mirror that apt uses here; it is entered with a root of its own, so that user namespaces
work there as on a real machine. The network is this machine's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.machine import copy_project, run

pytestmark = pytest.mark.integration

USER = "tester"
STAGES = [f"tasks/{stage}.py" for stage in ("packages", "runtime", "fence", "claude", "home", "commands")]
# This machine's own server has the usual ones.
PORTS = "--data server_port=18090 --data manager_port=18091"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# How this machine reaches package registries.
NETWORK = ("http_proxy", "https_proxy", "no_proxy", "PIP_CERT", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")

# $0 the new root, then the command. The mounts vanish with the namespace.
ENTER = r"""
set -e
mount --make-rprivate /
mount --bind "$0" "$0"; cd "$0"
mount -t proc proc proc; mount -t sysfs sysfs sys; mount --rbind /dev dev; mount -t tmpfs tmpfs run
mkdir -p .old; pivot_root . .old; umount -l .old; cd /
exec "$@"
"""

# A session in the user's home against the scripted backend; prints what the model was told of its command.
SESSION = r"""
import json, os, subprocess
from pathlib import Path
from claude_local.paths import Paths
from claude_local.runtime.scripted_backend import ScriptedBackend, text, tool_use

home, token = Path.home(), "a-token"
paths = Paths(home=str(home), model_dir="", bin_dir=str(home / "bin"))
for path, words in {
    paths.token: token,
    paths.profiles: json.dumps({"default": "p", "profiles": {"p": {"tools": None}}}),
}.items():
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(words)
workspace = home / "work"
workspace.mkdir()
command = 'echo "fence: $CLAUDE_LOCAL_FENCE"; touch ~/outside; touch inside'
with ScriptedBackend([tool_use("Bash", {"command": command}), text("Done.")], token=token) as backend:
    subprocess.run(
        [paths.wrapper, "-p", "Go on.", "--allowedTools", "Bash"], cwd=workspace, stdin=subprocess.DEVNULL, check=True,
        env={**os.environ, "CLAUDE_LOCAL_SERVER": backend.url}, timeout=120,
    )
    print(json.dumps(backend.main_requests[-1]["body"]["messages"][-1]))
"""


class Debian:
    """The system below ``root``; the user's home is ``home``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home" / USER

    def enter(self, *words: str, home: str = "/root", timeout: int = 60) -> subprocess.CompletedProcess[str]:
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        env = {name: os.environ[name] for name in NETWORK if name in os.environ}
        env |= {"HOME": home, "PATH": path, "TERM": "dumb", "LANG": "C.UTF-8"}
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        return run(*namespaces, "bash", "-c", ENTER, str(self.root), *words, env=env, cwd="/", timeout=timeout)

    def user(self, script: str, timeout: int = 60) -> subprocess.CompletedProcess[str]:
        words = ["runuser", "-u", USER, "--", "sh", "-c", f"cd ~/claude-local && {script}"]
        return self.enter(*words, home=f"/home/{USER}", timeout=timeout)

    def totals(self) -> dict[str, int]:
        """Deploy the stages; pyinfra's totals."""
        done = self.user(f".venv/bin/pyinfra --json -y @local {' '.join(STAGES)} {PORTS}", timeout=600)
        assert done.returncode == 0
        totals: dict[str, int] = json.loads(done.stdout)["results"]["totals"]
        return totals


def mirror() -> str:
    """Where this machine's apt gets Debian from."""
    form = "$(REPO_URI) $(ORIGIN) $(COMPONENT)"
    words = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    found = [line.split()[0] for line in listed if line.split()[1:] == ["Debian", "main"] and "security" not in line]
    if not found:
        pytest.skip("apt's sources name no Debian mirror to make a Debian 13 from")
    return found[0]


@pytest.fixture(scope="module")
def debian() -> Iterator[Debian]:
    root = Path(tempfile.mkdtemp(prefix="debian-13-"))
    root.chmod(0o755)
    try:
        if shutil.which("debootstrap") is None:
            assert (
                run("apt-get", "-q", "install", "-y", "--no-install-recommends", "debootstrap", timeout=300).returncode
                == 0
            )
        bootstrap = [
            "debootstrap",
            "--variant=minbase",
            "--include=ca-certificates,sudo",
            "trixie",
            str(root),
            mirror(),
        ]
        assert run(*bootstrap, timeout=600).returncode == 0
        shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
        shutil.copyfile(f"/{CERTIFICATES}", root / CERTIFICATES)
        made = Debian(root)
        assert made.enter("useradd", "--create-home", "--shell", "/bin/bash", USER).returncode == 0
        (root / "etc/sudoers.d/tester").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
        copy_project(made.home / "claude-local")
        assert made.enter("chown", "-R", f"{USER}:", f"/home/{USER}").returncode == 0
        yield made
    finally:
        shutil.rmtree(root)


def test_dry_brings_python_and_plans_every_stage(debian: Debian) -> None:
    assert not any((debian.root / "usr/bin" / name).exists() for name in ("python3", "npm"))
    done = debian.user(f"./provision --dry {PORTS} </dev/null", timeout=600)
    assert done.returncode == 0
    assert debian.user(".venv/bin/python --version").stdout.startswith("Python 3.13")
    assert not (debian.home / ".local").exists() and not (debian.home / ".claude-local").exists()


def test_claude_code_is_installed_though_there_was_no_npm(debian: Debian) -> None:
    assert debian.totals()["error"] == 0
    assert (debian.root / "usr/bin/npm").exists()
    assert debian.user("~/.local/bin/claude --version").stdout.startswith("2.1.330")


def test_both_layers_of_the_fence_work(debian: Debian) -> None:
    found = json.loads((debian.home / ".local/share/claude-local/fence.json").read_text())
    assert found["layers"] == ["outer", "inner"]


def test_a_login_shell_finds_the_command_which_says_what_is_missing(debian: Debian) -> None:
    done = debian.user("bash -lc 'claude-local -p hi' 2>&1 </dev/null")
    assert done.returncode == 1
    assert "./provision" in done.stdout


def test_a_sessions_command_runs_behind_both_layers(debian: Debian) -> None:
    (debian.home / "session.py").write_text(SESSION)
    done = debian.user("~/.local/share/claude-local/venv/bin/python ~/session.py", timeout=180)
    assert done.returncode == 0
    assert "fence: outer+inner" in done.stdout and "Read-only file system" in done.stdout
    assert (debian.home / "work/inside").exists() and not (debian.home / "outside").exists()


def test_a_second_deploy_changes_nothing(debian: Debian) -> None:
    totals = debian.totals()
    assert (totals["success"], totals["error"]) == (0, 0)
