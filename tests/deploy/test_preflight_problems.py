"""Preflight says in one line what stands in the way, and nothing when nothing does."""

from dataclasses import replace

import pytest

from claude_local.deploy.preflight import GIB, Filesystem, Findings, disk_needs, problems
from claude_local.hardware.distribution import Distribution, OsRelease, distribution

GOOD = Findings(
    distribution=Distribution("debian", "12", "bookworm", "Debian GNU/Linux 12 (bookworm)", derived=False),
    arch="x86_64",
    apt=True,
    uid=1000,
    sudo=True,
    root_without_password=False,
    terminal=True,
    mounts={
        "/home/u": Filesystem("/dev/a", "ext4", 100 * GIB),
        "/var/lib/docker": Filesystem("/dev/a", "ext4", 100 * GIB),
        "/data/models": Filesystem("/dev/b", "ext4", 100 * GIB),
    },
)
PORTS = [("server_port", 8080), ("manager_port", 8081)]


def needs(found: Findings, models: dict[str, int] | None = None) -> list[tuple[str, str, int]]:
    return disk_needs(found, "/home/u", "/data/models", models or {})


def test_a_good_machine_has_no_problem() -> None:
    assert problems(GOOD, PORTS, needs(GOOD, {"m.gguf": GIB})) == []


def test_all_problems_are_reported_at_once() -> None:
    old = Distribution("debian", "10", "buster", "Debian GNU/Linux 10 (buster)", derived=False)
    bad = replace(GOOD, distribution=old, arch="riscv64", sudo=False, listening=frozenset({8080}))
    lines = problems(bad, PORTS, needs(bad))
    assert [line.split(":")[0] for line in lines] == ["distribution", "architecture", "sudo", "server_port"]


def test_a_cuda_image_needs_more_room() -> None:
    small = replace(GOOD, mounts=dict.fromkeys(GOOD.mounts, Filesystem("/dev/a", "ext4", 12 * GIB)))
    directories = ("/home/u", "/data/models", {})
    assert problems(small, PORTS, disk_needs(small, *directories)) == []
    (line,) = problems(small, PORTS, disk_needs(small, *directories, variant="cuda"))
    assert "image build 20.0 GiB" in line


def test_our_own_container_may_hold_the_port() -> None:
    assert problems(replace(GOOD, listening=frozenset({8080}), ours=frozenset({8080})), PORTS, []) == []


def test_a_taken_port_names_the_setting_that_moves_it() -> None:
    (line,) = problems(replace(GOOD, listening=frozenset({8081})), PORTS, [])
    assert "8081 is in use" in line and "--data manager_port=" in line


def test_sudo_without_password_needs_no_terminal() -> None:
    assert problems(replace(GOOD, terminal=False, root_without_password=True), PORTS, []) == []
    (line,) = problems(replace(GOOD, terminal=False), PORTS, [])
    assert line.startswith("sudo: asks for a password")


def test_needs_on_one_disk_are_summed_and_shown() -> None:
    small = Filesystem("/dev/a", "ext4", 6 * GIB)
    found = replace(GOOD, mounts=dict.fromkeys(GOOD.mounts, small))
    (line,) = problems(found, PORTS, needs(found, {"m.gguf": 2 * GIB}))
    assert "6.0 GiB free, needed 9.0 GiB" in line
    assert "runtime and Claude Code 2.0 GiB + image build 4.0 GiB + models 2.0 GiB + margin 1.0 GiB" in line


def test_existing_files_need_no_space() -> None:
    found = replace(GOOD, image_built=True, runtime_installed=True, present={"m.gguf": 2 * GIB})
    assert needs(found, {"m.gguf": 2 * GIB}) == []
    assert needs(found, {"m.gguf": 3 * GIB}) == [("models", "/data/models", GIB)]


# --- distribution and architecture: one line that says what was found and what would do -------------------------------
#
# /etc/os-release of each, from the collection github.com/which-distro/os-release.

WANTED = "Debian 12 or newer, or Ubuntu 22.04 or newer, is needed"
DEBIAN_12 = OsRelease("debian", "", "12", "bookworm", "", "", "Debian GNU/Linux 12 (bookworm)")
RESOLUTE = OsRelease("ubuntu", "debian", "26.04", "resolute", "resolute", "", "Ubuntu 26.04 LTS")
FOCAL = OsRelease("ubuntu", "debian", "20.04", "focal", "focal", "", "Ubuntu 20.04.1 LTS")
BULLSEYE = OsRelease("debian", "", "11", "bullseye", "", "", "Debian GNU/Linux 11 (bullseye)")
SID = OsRelease("debian", "", "", "trixie", "", "", "Debian GNU/Linux trixie/sid")
MINT_20 = OsRelease("linuxmint", "ubuntu", "20.3", "una", "focal", "", "Linux Mint 20.3")
MINT_22 = OsRelease("linuxmint", "ubuntu debian", "22", "wilma", "noble", "", "Linux Mint 22")
LMDE_6 = OsRelease("linuxmint", "debian", "6", "faye", "", "bookworm", "LMDE 6 (faye)")
POP = OsRelease("pop", "ubuntu debian", "22.04", "jammy", "jammy", "", "Pop!_OS 22.04 LTS")
KALI = OsRelease("kali", "debian", "2019.4", "kali-rolling", "", "", "Kali GNU/Linux Rolling")
FEDORA = OsRelease("fedora", "", "40", "", "", "", "Fedora Linux 40 (Workstation Edition)")


@pytest.mark.parametrize(
    ("release", "says"),
    [
        (FOCAL, f"distribution: found Ubuntu 20.04.1 LTS; {WANTED}"),
        (BULLSEYE, f"distribution: found Debian GNU/Linux 11 (bullseye); {WANTED}"),
        (MINT_20, f"distribution: found Linux Mint 20.3, derived from Ubuntu 20.04; {WANTED}"),
        (
            KALI,
            "distribution: found Kali GNU/Linux Rolling, which does not say which Debian or Ubuntu release it is "
            "derived from; choose one for the server's image, e.g. --data image_base=debian:bookworm-slim",
        ),
    ],
)
def test_an_unsupported_release_is_one_line(release: OsRelease, says: str) -> None:
    assert problems(replace(GOOD, distribution=distribution(release)), PORTS, []) == [says]


def test_a_distribution_without_apt_gets_the_list_of_supported_ones() -> None:
    (line,) = problems(replace(GOOD, distribution=distribution(FEDORA), apt=False), PORTS, [])
    assert line == f"distribution: found Fedora Linux 40 (Workstation Edition), which has no apt-get; {WANTED}"


@pytest.mark.parametrize(
    ("release", "distro", "version", "codename"),
    [
        (DEBIAN_12, "debian", "12", "bookworm"),
        (RESOLUTE, "ubuntu", "26.04", "resolute"),
        (SID, "debian", "13", "trixie"),
        # Made from another one: Docker's repository and the base image are that one's.
        (MINT_22, "ubuntu", "24.04", "noble"),
        (LMDE_6, "debian", "12", "bookworm"),
        (POP, "ubuntu", "22.04", "jammy"),
        # Newer than the table: it goes on.
        (OsRelease("ubuntu", "debian", "28.04", "unheard-of", "unheard-of"), "ubuntu", "28.04", "unheard-of"),
    ],
)
def test_a_release_that_counts_is_found_and_no_problem(
    release: OsRelease, distro: str, version: str, codename: str
) -> None:
    found = distribution(release)
    assert (found.distro, found.version, found.codename) == (distro, version, codename)
    assert found.derived == (release.id != distro)
    assert problems(replace(GOOD, distribution=found), PORTS, []) == []


def test_an_unknown_distribution_will_do_with_a_base_image_of_the_users_choice() -> None:
    assert problems(replace(GOOD, distribution=distribution(KALI)), PORTS, [], image_base="debian:trixie-slim") == []


def test_arm64_is_served_and_a_32_bit_system_on_it_is_not() -> None:
    arm = replace(GOOD, arch="aarch64", userland="arm64")
    assert problems(arm, PORTS, []) == []
    (line,) = problems(replace(arm, userland="armhf"), PORTS, [])
    assert line == "architecture: found packages for armhf on aarch64; a system installed for arm64 is needed"
    (line,) = problems(replace(arm, arch="armv7l", userland="armhf"), PORTS, [])
    assert line == "architecture: found armv7l; x86_64 or aarch64 is needed"


@pytest.mark.parametrize(("codename", "enough"), [("jammy", False), ("noble", False), ("trixie", True), ("new", True)])
def test_every_arm_variant_needs_a_compiler_that_knows_them(codename: str, enough: bool) -> None:
    release = Distribution("debian", "", codename, "a release", derived=False)
    arm = replace(GOOD, arch="aarch64", userland="arm64", distribution=release)
    found = problems(arm, PORTS, [], image_cpu="all")
    assert [line.split(":")[0] for line in found] == ([] if enough else ["image_cpu"])
    assert problems(arm, PORTS, [], image_cpu="native") == []
    assert problems(arm, PORTS, [], image_cpu="all", image_base="debian:trixie-slim") == []
    assert problems(replace(arm, arch="x86_64", userland="amd64"), PORTS, [], image_cpu="all") == []


def test_docker_as_a_snap_is_refused_with_the_way_out() -> None:
    (line,) = problems(replace(GOOD, docker_snap=True), PORTS, [])
    assert line.startswith("docker: installed as a snap") and "sudo snap remove docker" in line
