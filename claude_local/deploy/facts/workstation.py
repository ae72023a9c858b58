"""What a deploy needs to know of the machine and its user, and what nothing in the deploy changes."""

from __future__ import annotations

from typing import TypedDict

from pyinfra.api import FactBase

from claude_local.hardware.distribution import OsRelease, distribution


class Identity(TypedDict):
    """The connecting user and the machine; ``systemd`` says whether systemd runs as PID 1.

    ``distro``, ``release`` and ``codename`` are those of the Debian or Ubuntu release that the machine has or is made
    from (claude_local.hardware.distribution), ``system`` is what it calls itself, ``derived`` whether that is something else.
    ``arch`` is the kernel's, ``userland`` that of dpkg's packages (empty without dpkg).
    """

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
    system: str
    derived: bool
    userland: str


class WorkstationIdentity(FactBase[Identity]):
    """User (uid, gid, name, home), machine (``uname -m``), distribution (/etc/os-release), systemd and sudo."""

    def command(self) -> str:
        return (
            "id -u; id -g; id -un; echo ~; uname -m; "
            "( test ! -r /etc/os-release || . /etc/os-release; "
            'for line in "${ID:-unknown}" "${VERSION_ID:-}" "${VERSION_CODENAME:-}"; do echo "$line"; done ); '
            "test -d /run/systemd/system && echo yes || echo no; "
            "command -v sudo >/dev/null 2>&1 && echo yes || echo no; "
            "( test ! -r /etc/os-release || . /etc/os-release; "
            'for line in "${ID_LIKE:-}" "${UBUNTU_CODENAME:-}" "${DEBIAN_CODENAME:-}" "${PRETTY_NAME:-}"; '
            'do echo "$line"; done ); '
            "dpkg --print-architecture 2>/dev/null || echo"
        )

    def process(self, output: list[str]) -> Identity:
        lines = [line.strip() for line in output] + [""] * 15
        uid, gid, user, home, arch, own, version, codename, systemd, sudo, like, ubuntu, debian, name, userland = lines[
            :15
        ]
        found = distribution(OsRelease(own, like, version, codename, ubuntu, debian, name))
        return Identity(
            uid=int(uid),
            gid=int(gid),
            user=user,
            home=home,
            arch=arch,
            distro=found.distro,
            release=found.version,
            codename=found.codename,
            systemd=systemd == "yes",
            sudo=sudo == "yes",
            system=found.system,
            derived=found.derived,
            userland=userland,
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
            system="Debian GNU/Linux 12 (bookworm)",
            derived=False,
            userland="amd64",
        )
