"""`./provision` up to the virtual environment: which Python it uses, what it installs, what it refuses."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ["sh", "env", "id", "cat", "cut", "date", "dirname", "flock", "grep", "mkdir", "mktemp", "rm", "setpriv",
         "sha256sum", "sleep", "tee", "uname"]  # fmt: skip


def stand_in(folder: Path, name: str, script: str) -> None:
    """A shell script in place of a program."""
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def python(folder: Path, name: str, version: tuple[int, int], *, venv: bool = True) -> None:
    """A Python that reports ``version``. ``-m venv`` creates a .venv whose pip logs its arguments."""
    report = f"import sys; sys.version_info = {(*version, 0, 'final', 0)}"
    missing = "pass" if venv else "sys.modules.update(ensurepip=None)"
    stand_in(
        folder,
        name,
        f'case $1 in\n--version) echo "Python {version[0]}.{version[1]}.0"; exit ;;\n'
        f'-m) mkdir -p "$3/bin"; printf \'#!/bin/sh\\necho "{name} $*" >>"$LOG"\\n\' >"$3/bin/python"; '
        'cp "$3/bin/python" "$3/bin/pyinfra"; chmod +x "$3/bin/python" "$3/bin/pyinfra"; exit ;;\nesac\n'
        f'exec {sys.executable} -c "{report}; {missing}; exec(sys.argv[1])" "$2"',
    )


class Bare:
    """A copy of ./provision on a machine whose PATH, /usr/bin/python3 and /etc/os-release a test controls."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.project, self.log = folder / "bin", folder / "project", folder / "log"
        self.os_release = folder / "os-release"
        for directory in (self.bin, self.project):
            directory.mkdir()
        for tool in (*TOOLS, "chmod", "cp", "touch"):
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        text = (ROOT / "provision").read_text()
        text = text.replace("/etc/os-release", str(self.os_release)).replace("/usr/bin/python3", f"{self.bin}/none")
        (self.project / "provision").write_text(text)
        (self.project / "files").mkdir()
        shutil.copy(ROOT / "files" / "apt.sh", self.project / "files")
        for lock in ("requirements.lock", "requirements-test.lock"):
            (self.project / lock).write_text("x\n")
        stand_in(self.bin, "apt-get", 'echo "apt-get $*" >>"$LOG"')
        stand_in(self.bin, "sudo", 'test "$1" != -n || exit 1; "$@"')

    def release(self, **lines: str) -> None:
        """Write /etc/os-release."""
        self.os_release.write_text("".join(f'{name}="{value}"\n' for name, value in lines.items()))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """``./provision`` as the leader of a process group, its messages in a pipe."""
        env = {"PATH": str(self.bin), "LOG": str(self.log), "HOME": str(self.project)}
        return subprocess.Popen(
            ["sh", "provision", *arguments], cwd=self.project, env=env, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def provision(self, *arguments: str) -> tuple[int, str, list[str]]:
        """Exit status and messages of ``./provision``, and the lines that the stand-ins wrote to the log so far."""
        process = self.start(*arguments)
        try:
            _, messages = process.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, messages, self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    machine = Bare(tmp_path)
    machine.release(ID="debian", VERSION_CODENAME="bookworm", PRETTY_NAME="Debian GNU/Linux 12 (bookworm)")
    return machine


# Ubuntu 22.04, Debian 12, Ubuntu 24.04, Debian 13, Ubuntu 26.04.
@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 12), (3, 13), (3, 14)])
def test_each_supported_releases_python_is_used_as_it_is(bare: Bare, version: tuple[int, int]) -> None:
    python(bare.bin, "python3", version)
    status, messages, log = bare.provision("--dry")
    assert status == 0, messages
    assert f"Creating .venv from requirements.lock with Python {version[0]}.{version[1]}.0" in messages
    assert log[0].startswith("python3 -I claude_local/run_pip.py install") and "--require-hashes" in log[0]
    assert not any(line.startswith("apt-get") for line in log)


@pytest.mark.parametrize("newer", ["python3.10", "python3.14"])
def test_a_newer_python_is_found_beside_one_that_is_too_old(bare: Bare, newer: str) -> None:
    python(bare.bin, "python3", (3, 9))
    python(bare.bin, newer, (3, int(newer.split(".")[1])))
    status, messages, log = bare.provision("--dry")
    assert status == 0, messages
    assert log[0].startswith(f"{newer} -I claude_local/run_pip.py install")


def test_a_python_without_venv_gets_its_venv_package(bare: Bare) -> None:
    python(bare.bin, "python3", (3, 14), venv=False)
    status, messages, log = bare.provision("--dry")
    assert status == 1 and "cannot create virtual environments" in messages
    assert log[-1].endswith("install --yes --no-install-recommends python3.14-venv")


@pytest.mark.parametrize(
    "release",
    [
        {"ID": "ubuntu", "VERSION_CODENAME": "focal", "PRETTY_NAME": "Ubuntu 20.04.6 LTS"},
        {"ID": "debian", "VERSION_CODENAME": "bullseye", "PRETTY_NAME": "Debian GNU/Linux 11 (bullseye)"},
        {"ID": "linuxmint", "VERSION_CODENAME": "una", "UBUNTU_CODENAME": "focal", "PRETTY_NAME": "Linux Mint 20.3"},
        {"ID": "linuxmint", "VERSION_CODENAME": "elsie", "DEBIAN_CODENAME": "bullseye", "PRETTY_NAME": "LMDE 5"},
    ],
)
def test_a_release_that_is_too_old_is_refused_before_anything_is_installed(bare: Bare, release: dict[str, str]) -> None:
    bare.release(**release)
    python(bare.bin, "python3", (3, 9))
    status, messages, log = bare.provision("--dry")
    assert (status, log) == (1, [])
    name = release["PRETTY_NAME"]
    assert messages.startswith(f"provision: {name} is too old; use Debian 12")


def test_without_apt_and_python_it_names_what_it_needs(bare: Bare) -> None:
    bare.release(ID="fedora", PRETTY_NAME="Fedora Linux 40")
    os.remove(bare.bin / "apt-get")
    status, messages, _ = bare.provision("--dry")
    assert status == 1
    assert messages.startswith("provision: this needs Python 3.10 or newer")
