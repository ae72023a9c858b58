"""Preflight says in one line what stands in the way, and nothing when nothing does."""

from dataclasses import replace

from claude_local.preflight import GIB, Findings, Mount, disk_needs, problems

GOOD = Findings(
    distro="debian",
    release="12",
    arch="x86_64",
    apt=True,
    uid=1000,
    sudo=True,
    root_without_password=False,
    terminal=True,
    mounts={
        "/home/u": Mount("/dev/a", "ext4", 100 * GIB),
        "/var/lib/docker": Mount("/dev/a", "ext4", 100 * GIB),
        "/data/models": Mount("/dev/b", "ext4", 100 * GIB),
    },
)
PORTS = [("server_port", 8080), ("manager_port", 8081)]


def needs(found: Findings, models: dict[str, int] | None = None) -> list[tuple[str, str, int]]:
    return disk_needs(found, "/home/u", "/var/lib/docker", "/data/models", models or {})


def test_a_good_machine_has_no_problem() -> None:
    assert problems(GOOD, PORTS, needs(GOOD, {"m.gguf": GIB})) == []


def test_every_problem_is_told_at_once() -> None:
    bad = replace(GOOD, release="10", arch="riscv64", sudo=False, listening=frozenset({8080}))
    lines = problems(bad, PORTS, needs(bad))
    assert [line.split(":")[0] for line in lines] == ["distribution", "architecture", "sudo", "server_port"]


def test_a_cuda_image_needs_more_room() -> None:
    small = replace(GOOD, mounts=dict.fromkeys(GOOD.mounts, Mount("/dev/a", "ext4", 12 * GIB)))
    directories = ("/home/u", "/var/lib/docker", "/data/models", {})
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
    small = Mount("/dev/a", "ext4", 6 * GIB)
    found = replace(GOOD, mounts=dict.fromkeys(GOOD.mounts, small))
    (line,) = problems(found, PORTS, needs(found, {"m.gguf": 2 * GIB}))
    assert "6.0 GiB free, needed 9.0 GiB" in line
    assert "runtime and Claude Code 2.0 GiB + image build 4.0 GiB + models 2.0 GiB + margin 1.0 GiB" in line


def test_what_is_there_already_needs_no_space() -> None:
    found = replace(GOOD, image_built=True, runtime_there=True, present={"m.gguf": 2 * GIB})
    assert needs(found, {"m.gguf": 2 * GIB}) == []
    assert needs(found, {"m.gguf": 3 * GIB}) == [("models", "/data/models", GIB)]


def test_ubuntu_releases_compare_as_versions() -> None:
    assert problems(replace(GOOD, distro="ubuntu", release="22.04"), PORTS, []) == []
    assert problems(replace(GOOD, distro="ubuntu", release="20.04"), PORTS, []) != []
