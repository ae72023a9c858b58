"""Which Debian or Ubuntu release a machine has, or is made from. Pure.

Everything after preflight speaks of that release only: Docker's repository, the base image, the package names. So a
distribution made from one of them (Linux Mint, Pop!_OS, LMDE ...) is treated as the release that it is made from.
"""

from __future__ import annotations

from dataclasses import dataclass

# Version of each release by its codename (Debian's distro-info-data, Ubuntu's release list). What is not here is
# newer than this table, or no release.
CODENAMES = {
    "debian": {
        "stretch": "9", "buster": "10", "bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14",
    },
    "ubuntu": {
        "xenial": "16.04", "bionic": "18.04", "focal": "20.04", "jammy": "22.04", "noble": "24.04", "plucky": "25.04",
        "questing": "25.10", "resolute": "26.04",
    },
}  # fmt: skip

# Oldest release of each distribution that the package names and Python (3.10) fit.
OLDEST = {"debian": "12", "ubuntu": "22.04"}
WANTED = "Debian 12 or newer, or Ubuntu 22.04 or newer"

# g++ of the releases' own package, major version. docs/guide.md has the table of what was tested how.
GCC = {"bookworm": 12, "trixie": 14, "jammy": 11, "noble": 13, "resolute": 15}
# What the part of llama.cpp with SME instructions needs of it (-march=armv9.2-a+sme); image_cpu "all" compiles it.
GCC_SME = 14

# `uname -m` -> the architecture of Debian's packages that belongs to it.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class OsRelease:
    """/etc/os-release, the lines that matter; empty where there is none."""

    id: str = ""
    id_like: str = ""
    version_id: str = ""
    version_codename: str = ""
    ubuntu_codename: str = ""
    debian_codename: str = ""
    pretty_name: str = ""


@dataclass(frozen=True)
class Distribution:
    """The release that counts. ``distro`` is ``debian`` or ``ubuntu``, and ``codename`` not empty, where it is known;
    else they are the machine's own. ``version`` is empty for a release newer than :data:`CODENAMES`. ``system`` is what
    the machine calls itself, ``derived`` whether that is another distribution."""

    distro: str
    version: str
    codename: str
    system: str
    derived: bool

    @property
    def known(self) -> bool:
        """Whether it is a release of Debian or Ubuntu."""
        return self.distro in CODENAMES and bool(self.codename)


def distribution(found: OsRelease) -> Distribution:
    """The Debian or Ubuntu release that a machine has, or that its distribution says it is made from."""
    likes = [found.id, *found.id_like.split()]
    system = found.pretty_name or " ".join(filter(None, (found.id or "unknown", found.version_id)))
    if found.id in CODENAMES:
        codename, distro = found.version_codename, found.id
    elif found.ubuntu_codename and "ubuntu" in likes:
        codename, distro = found.ubuntu_codename, "ubuntu"
    elif found.debian_codename and "debian" in likes:
        codename, distro = found.debian_codename, "debian"
    else:
        return Distribution(found.id or "unknown", found.version_id, found.version_codename, system, derived=False)
    derived = distro != found.id
    known = CODENAMES[distro].get(codename, "")
    return Distribution(distro, known if derived else found.version_id or known, codename, system, derived)


def problems(
    found: Distribution,
    *,
    apt: bool,
    arch: str,
    userland: str = "",
    image_base: str = "auto",
    image_cpu: str = "native",
) -> list[str]:
    """What of distribution and architecture stands in the way, one line each; empty: nothing.

    ``apt``: there is apt-get. ``arch``: ``uname -m``; ``userland``: ``dpkg --print-architecture``. The settings
    image_base and image_cpu decide what the release must offer.
    """
    lines = []
    is_made_from = f", made from {found.distro.capitalize()} {found.version or found.codename}" if found.derived else ""
    oldest = OLDEST.get(found.distro, "")
    if not apt:
        lines.append(f"distribution: found {found.system}, which has no apt-get; {WANTED}, is needed")
    elif oldest and found.version and _numbers(found.version) < _numbers(oldest):
        lines.append(f"distribution: found {found.system}{is_made_from}; {WANTED}, is needed")
    elif not found.known and image_base == "auto":
        lines.append(
            f"distribution: found {found.system}, which does not say which Debian or Ubuntu release it is made from; "
            "choose one for the server's image, e.g. --data image_base=debian:bookworm-slim"
        )
    if arch not in ARCHITECTURES:
        lines.append(f"architecture: found {arch}; {' or '.join(ARCHITECTURES)} is needed")
    elif userland and userland != ARCHITECTURES[arch]:
        lines.append(
            f"architecture: found packages for {userland} on {arch}; a system installed for {ARCHITECTURES[arch]} is needed"
        )
    elif arch == "aarch64" and image_cpu == "all" and image_base == "auto" and GCC.get(found.codename, 99) < GCC_SME:
        lines.append(
            f"image_cpu: 'all' needs GCC {GCC_SME} on {arch}, {found.codename} has {GCC[found.codename]}; "
            "use 'native', or set image_base to a newer release, e.g. debian:trixie-slim"
        )
    return lines


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
