"""The machine and its user: what nothing in the deploy changes."""

from __future__ import annotations

from typing import TypedDict

from pyinfra.api import FactBase

from claude_local.hardware.distribution import OsRelease, distribution

# Prints "NAME VALUE" lines, also on a machine without /etc/os-release, sudo or dpkg.
SCRIPT = """
echo "uid $(id -u)"; echo "gid $(id -g)"; echo "user $(id -un)"; echo home ~; echo "arch $(uname -m)";
echo "userland $(dpkg --print-architecture 2>/dev/null)";
! command -v sudo >/dev/null 2>&1 || echo sudo yes;
test ! -r /etc/os-release || . /etc/os-release;
echo "ID ${ID:-unknown}"; echo "VERSION_ID ${VERSION_ID:-}"; echo "VERSION_CODENAME ${VERSION_CODENAME:-}";
echo "ID_LIKE ${ID_LIKE:-}"; echo "UBUNTU_CODENAME ${UBUNTU_CODENAME:-}";
echo "DEBIAN_CODENAME ${DEBIAN_CODENAME:-}"; echo "PRETTY_NAME ${PRETTY_NAME:-}"
"""


class Identity(TypedDict):
    """The connecting user and the machine.

    ``distro``, ``release`` and ``codename``: the Debian or Ubuntu release that the machine has, or is derived from
    (claude_local.hardware.distribution). ``system``: its name for itself. ``derived``: whether that is another
    distribution. ``arch``: the kernel's. ``userland``: that of dpkg's packages, empty without dpkg. ``sudo``: whether
    sudo is installed.
    """

    uid: int
    gid: int
    user: str
    home: str
    arch: str
    userland: str
    sudo: bool
    distro: str
    release: str
    codename: str
    system: str
    derived: bool


class WorkstationIdentity(FactBase[Identity]):
    """User (uid, gid, name, home), machine (``uname -m``), distribution (/etc/os-release) and sudo, in one command.

    pyinfra's facts would take seven, and ``server.OsRelease`` fails on a machine without /etc/os-release.
    """

    def command(self) -> str:
        return f"( {SCRIPT.strip()} )"

    def process(self, output: list[str]) -> Identity:
        values = {name: value.strip() for name, _, value in (line.partition(" ") for line in output)}
        names = ("ID", "ID_LIKE", "VERSION_ID", "VERSION_CODENAME", "UBUNTU_CODENAME", "DEBIAN_CODENAME", "PRETTY_NAME")
        release = distribution(OsRelease(*(values.get(name, "") for name in names)))
        return Identity(
            uid=int(values["uid"]),
            gid=int(values["gid"]),
            user=values["user"],
            home=values["home"],
            arch=values["arch"],
            userland=values.get("userland", ""),
            sudo="sudo" in values,
            distro=release.distro,
            release=release.version,
            codename=release.codename,
            system=release.system,
            derived=release.derived,
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
            userland="amd64",
            sudo=True,
            distro="debian",
            release="12",
            codename="bookworm",
            system="Debian GNU/Linux 12 (bookworm)",
            derived=False,
        )
