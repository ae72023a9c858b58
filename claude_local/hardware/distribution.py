"""Which Debian or Ubuntu release a machine has, or is derived from. Pure.

Everything after preflight uses that release only: Docker's repository, the base image, the package names. So a derived
distribution (Linux Mint, Pop!_OS, LMDE ...) is treated as the release that it is derived from.
"""

from __future__ import annotations

from dataclasses import dataclass

# Version of each release by codename (Debian's distro-info-data, Ubuntu's release list). Other codenames are newer than
# this table, or no release.
CODENAMES = {
    "debian": {
        "stretch": "9", "buster": "10", "bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14",
    },
    "ubuntu": {
        "xenial": "16.04", "bionic": "18.04", "focal": "20.04", "jammy": "22.04", "noble": "24.04", "plucky": "25.04",
        "questing": "25.10", "resolute": "26.04",
    },
}  # fmt: skip

# The oldest release of each distribution with the package names that we use and Python 3.10 or newer.
OLDEST = {"debian": "12", "ubuntu": "22.04"}
SUPPORTED = "Debian 12 or newer, or Ubuntu 22.04 or newer"

# Major version of each release's own g++ package (packages.debian.org, packages.ubuntu.com).
GCC = {"bookworm": 12, "trixie": 14, "jammy": 11, "noble": 13, "resolute": 15}
# GCC that compiles llama.cpp's CPU variants with SME (-march=armv9.2-a+sme), which image_cpu "all" includes on ARM.
GCC_SME = 14

# Architecture as `uname -m` prints it -> the name in Debian's packages.
DEBIAN_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class OsRelease:
    """The lines of /etc/os-release that matter; empty where a line is missing."""

    id: str = ""
    id_like: str = ""
    version_id: str = ""
    version_codename: str = ""
    ubuntu_codename: str = ""
    debian_codename: str = ""
    pretty_name: str = ""


@dataclass(frozen=True)
class Distribution:
    """The Debian or Ubuntu release of a machine, or the machine's own release when that is unknown.

    ``version`` is empty for a release newer than :data:`CODENAMES`. ``system`` is the machine's own name for itself.
    ``derived`` says whether that is another distribution, derived from ``distro``.
    """

    distro: str
    version: str
    codename: str
    system: str
    derived: bool

    @property
    def known(self) -> bool:
        """Whether it is a release of Debian or Ubuntu."""
        return self.distro in CODENAMES and bool(self.codename)


def distribution(os_release: OsRelease) -> Distribution:
    """The Debian or Ubuntu release that a machine has, or that its distribution says it is derived from."""
    own_id = os_release.id or "unknown"
    likes = [os_release.id, *os_release.id_like.split()]
    system = os_release.pretty_name or f"{own_id} {os_release.version_id}".strip()
    if os_release.id in CODENAMES:
        distro, codename = os_release.id, os_release.version_codename
    elif os_release.ubuntu_codename and "ubuntu" in likes:
        distro, codename = "ubuntu", os_release.ubuntu_codename
    elif os_release.debian_codename and "debian" in likes:
        distro, codename = "debian", os_release.debian_codename
    else:
        return Distribution(own_id, os_release.version_id, os_release.version_codename, system, derived=False)
    derived = distro != os_release.id
    version = CODENAMES[distro].get(codename, "")
    return Distribution(distro, version if derived else os_release.version_id or version, codename, system, derived)


def problems(
    release: Distribution,
    *,
    apt: bool,
    arch: str,
    userland: str = "",
    image_base: str = "auto",
    image_cpu: str = "native",
) -> list[str]:
    """What about the distribution and architecture prevents a deploy, one line a problem.

    ``apt`` says whether the machine has apt-get. ``arch`` is the output of ``uname -m``, ``userland`` that of
    ``dpkg --print-architecture``. The settings image_base and image_cpu decide what the release must provide.
    """
    return [
        *_distribution_problems(release, apt=apt, image_base=image_base),
        *_architecture_problems(release, arch, userland, image_base, image_cpu),
    ]


def _distribution_problems(release: Distribution, *, apt: bool, image_base: str) -> list[str]:
    if not apt:
        return [f"distribution: found {release.system}, which has no apt-get; {SUPPORTED}, is needed"]
    oldest = OLDEST.get(release.distro, "")
    if oldest and release.version and _numbers(release.version) < _numbers(oldest):
        original = f"{release.distro.capitalize()} {release.version or release.codename}"
        derived = f", derived from {original}" if release.derived else ""
        return [f"distribution: found {release.system}{derived}; {SUPPORTED}, is needed"]
    if not release.known and image_base == "auto":
        return [
            f"distribution: found {release.system}, which does not say which Debian or Ubuntu release it is derived "
            "from; choose one for the server's image, e.g. --data image_base=debian:bookworm-slim"
        ]
    return []


def _architecture_problems(
    release: Distribution, arch: str, userland: str, image_base: str, image_cpu: str
) -> list[str]:
    if arch not in DEBIAN_ARCHITECTURES:
        return [f"architecture: found {arch}; {' or '.join(DEBIAN_ARCHITECTURES)} is needed"]
    native = DEBIAN_ARCHITECTURES[arch]
    if userland and userland != native:
        return [f"architecture: found packages for {userland} on {arch}; a system installed for {native} is needed"]
    gcc = GCC.get(release.codename, GCC_SME)
    if arch == "aarch64" and image_cpu == "all" and image_base == "auto" and gcc < GCC_SME:
        return [
            f"image_cpu: 'all' needs GCC {GCC_SME} on {arch}, {release.codename} has {gcc}; "
            "use 'native', or set image_base to a newer release, e.g. debian:trixie-slim"
        ]
    return []


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
