"""A Debian of another release in a directory, made by debootstrap from the mirror that apt uses here.

Commands enter it with pivot_root, so user namespaces work in it as on a real machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.machine import copy_project, need, run

USER = "tester"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# The variables through which this machine reaches package registries.
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

# $0 the target directory, $1 packages, $2 codename, $3 mirror. It is built in memory: dpkg syncs every file, which on
# a disk takes half of the time.
DEBOOTSTRAP = r"""
mount -t tmpfs tmpfs /mnt
debootstrap --variant=minbase --include="$1" "$2" /mnt/root "$3"
cp -a /mnt/root/. "$0"
"""


class Debian:
    """The system below ``root``; the home directory of its user is ``home``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home" / USER

    def enter(
        self, *words: str, home: str = "/root", timeout: int = 180, network: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it as root, and end everything the command started. ``network``: whether it has one."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        env = {name: os.environ[name] for name in NETWORK if name in os.environ}
        env |= {"HOME": home, "PATH": path, "TERM": "dumb", "LANG": "C.UTF-8"}
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *([] if network else ["--net"])]
        return run(*namespaces, "bash", "-c", ENTER, str(self.root), *words, env=env, cwd="/", timeout=timeout)

    def user(self, script: str, timeout: int = 180, network: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a script in it as the user, in the copy of the project."""
        words = ["runuser", "-u", USER, "--", "sh", "-c", f"cd ~/claude-local && {script}"]
        return self.enter(*words, home=f"/home/{USER}", timeout=timeout, network=network)


def mirror() -> str:
    """The mirror that this machine's apt gets Debian from. Skips the test if there is none."""
    form = "$(REPO_URI) $(ORIGIN) $(COMPONENT)"
    words = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    found = [line.split()[0] for line in listed if line.split()[1:] == ["Debian", "main"] and "security" not in line]
    if not found:
        pytest.skip("apt's sources name no Debian mirror to make a Debian from")
    return found[0]


@contextmanager
def bootstrapped(codename: str, packages: Sequence[str] = ("ca-certificates", "sudo")) -> Iterator[Debian]:
    """Create a bare Debian with ``packages``, a user with sudo and a copy of the project, and remove it afterwards.

    Its apt has deb822 sources, as the installer of Debian 13 writes them. Services are not started when a package is
    installed: they would run on this machine's network.
    """
    root = Path(tempfile.mkdtemp(prefix=f"{codename}-"))
    root.chmod(0o755)
    try:
        need("debootstrap")
        words = ["unshare", "--mount", "sh", "-ec", DEBOOTSTRAP, str(root), ",".join(packages), codename, mirror()]
        assert run(*words, timeout=1200).returncode == 0
        shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
        shutil.copyfile(f"/{CERTIFICATES}", root / CERTIFICATES)
        (root / "etc/hosts").write_text(f"127.0.0.1 localhost {os.uname().nodename}\n")
        (root / "etc/apt/sources.list").unlink()
        (root / "etc/apt/sources.list.d/debian.sources").write_text(
            f"Types: deb\nURIs: {mirror()}\nSuites: {codename} {codename}-updates\nComponents: main\n"
            "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        )
        (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
        (root / "usr/sbin/policy-rc.d").chmod(0o755)
        made = Debian(root)
        assert made.enter("useradd", "--create-home", "--shell", "/bin/bash", USER).returncode == 0
        (root / "etc/sudoers.d/tester").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
        copy_project(made.home / "claude-local")
        assert made.enter("chown", "-R", f"{USER}:", f"/home/{USER}").returncode == 0
        yield made
    finally:
        shutil.rmtree(root)
