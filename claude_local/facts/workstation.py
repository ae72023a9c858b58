"""What a deploy needs to know of the machine and its user, and what nothing in the deploy changes."""

from __future__ import annotations

from typing import TypedDict

from pyinfra.api import FactBase


class Identity(TypedDict):
    """The connecting user and the machine; ``systemd`` says whether systemd runs as PID 1."""

    uid: int
    gid: int
    user: str
    home: str
    arch: str
    distro: str
    release: str
    codename: str
    systemd: bool
    sudo: bool


class WorkstationIdentity(FactBase[Identity]):
    """User (uid, gid, name, home), machine (``uname -m``), distribution (/etc/os-release), systemd and sudo."""

    def command(self) -> str:
        return (
            "id -u; id -g; id -un; echo ~; uname -m; "
            '( . /etc/os-release 2>/dev/null; echo "${ID:-unknown}"; echo "${VERSION_ID:-}"; echo "${VERSION_CODENAME:-}" ); '
            "test -d /run/systemd/system && echo yes || echo no; "
            "command -v sudo >/dev/null 2>&1 && echo yes || echo no"
        )

    def process(self, output: list[str]) -> Identity:
        uid, gid, user, home, arch, distro, release, codename, systemd, sudo = (line.strip() for line in output[:10])
        return Identity(
            uid=int(uid),
            gid=int(gid),
            user=user,
            home=home,
            arch=arch,
            distro=distro,
            release=release,
            codename=codename,
            systemd=systemd == "yes",
            sudo=sudo == "yes",
        )

    @staticmethod
    def default() -> Identity:
        """A machine that answers nothing (pyinfra's @fake): an ordinary user on Debian 12."""
        return Identity(
            uid=1000,
            gid=1000,
            user="user",
            home="/home/user",
            arch="x86_64",
            distro="debian",
            release="12",
            codename="bookworm",
            systemd=True,
            sudo=True,
        )
