"""files/image/base-image.sh, with stand-ins for docker, debootstrap and apt-get."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

BASE_SCRIPT = Path(__file__).parents[2] / "files" / "image" / "base-image.sh"


def base_script(
    tmp_path: Path, *arguments: str, stall_seconds: int = 60, **scripts: str
) -> subprocess.CompletedProcess[str]:
    """Run the real script with ``scripts`` as commands. ``tmp_path/net`` stands for /proc/net/dev."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir(exist_ok=True)
    for name, script in scripts.items():
        path = bin_dir / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    env = {
        "PATH": f"{bin_dir}:{os.environ['PATH']}",
        "CLAUDE_LOCAL_REGISTRY_SECONDS": "1",
        "CLAUDE_LOCAL_STALL_SECONDS": str(stall_seconds),
        "CLAUDE_LOCAL_NET_DEV": str(tmp_path / "net"),
        "LOG": str(tmp_path / "log"),
    }
    (tmp_path / "net").write_text(NETWORK.format(loopback=0, bytes=0))
    argv = ["sh", str(BASE_SCRIPT), *arguments]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)


# /proc/net/dev with a bridge, which repeats part of the other interface's traffic.
NETWORK = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier
    lo: {loopback} 5    0    0    0     0          0         0 1799 5    0    0    0     0       0          0
  eth0:{bytes}  79    0    0    0     0          0         0 4511  526    0    0    0     0       0          0
docker0: 1  79    0    0    0     0          0         0 4511  526    0    0    0     0       0          0
"""
COUNTED = NETWORK.replace("{loopback}", "9$n").replace("{bytes}", "$n")


def test_a_registry_that_refuses_costs_no_time(tmp_path: Path) -> None:
    docker = "echo 'dial tcp: lookup registry: no such host' >&2; exit 1"
    done = base_script(tmp_path, "pull", "docker", "base:b", "debian:b", docker=docker)
    assert done.returncode == 3
    assert "no debian:b from the registry: dial tcp: lookup registry: no such host" in done.stdout


def test_a_registry_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    done = base_script(tmp_path, "pull", "docker", "base:b", "debian:b", docker="exec sleep 50")
    assert done.returncode == 3


@pytest.mark.slow
def test_a_slow_registry_gets_time_and_its_image_our_name(tmp_path: Path) -> None:
    docker = 'echo "$@" >>"$LOG"; test "$1" != pull || { echo "b: Pulling from library/debian"; sleep 3; }'
    done = base_script(tmp_path, "pull", "docker", "base:b", "debian:b", docker=docker)
    assert done.returncode == 0
    assert (tmp_path / "log").read_text() == "pull debian:b\ntag debian:b base:b\n"


# A second of the script takes a tenth of a second.
SHORT = "exec /bin/sleep 0.1"


def pull_for(seconds: int, network: str) -> str:
    """A docker whose pull loads one layer for ``seconds``, during which ``network`` counts up."""
    return (
        'test "$1" = pull || exit 0; echo "b: Pulling from library/debian"; echo "aa: Pulling fs layer"\n'
        f"n=0; until test $n -ge {seconds}0000000; do sleep 1; n=$((n + 10000000)); n3=$((n * 3))\n"
        f'cat >"$LOG.net" <<END\n{network}END\nmv "$LOG.net" "${{LOG%log}}net"; done'
    )


@pytest.mark.slow
def test_a_pull_may_take_any_time_while_data_arrives(tmp_path: Path) -> None:
    """Docker prints nothing while it loads a layer. One of 3 GB takes hours on a slow line."""
    docker = pull_for(40, COUNTED.replace("$n ", "$n3 "))
    done = base_script(tmp_path, "pull", "docker", "base:b", "debian:b", stall_seconds=15, docker=docker, sleep=SHORT)
    assert done.returncode == 0, done.stdout
    assert "pulling debian:b, 15 s, 0 of 1 layers, " in done.stdout and " MB received" in done.stdout
    assert " 0 MB" not in done.stdout


def test_a_pull_without_progress_is_given_up(tmp_path: Path) -> None:
    docker = pull_for(50, COUNTED.replace("eth0:$n", "eth0:7"))  # only the loopback interface is busy
    done = base_script(tmp_path, "pull", "docker", "base:b", "debian:b", stall_seconds=5, docker=docker, sleep=SHORT)
    assert done.returncode == 3
    assert "no debian:b from the registry: nothing arrived for 0 minutes" in done.stdout


DEBOOTSTRAP = """for root; do :; done
echo "$@" >"$LOG"
for folder do case $folder in */root) root=$folder ;; esac; done
mkdir -p "$root/etc/apt/sources.list.d" "$root/etc/dpkg/dpkg.cfg.d" "$root/usr/share/doc/x" "$root/etc/apt"
echo x >"$root/usr/share/doc/x/copyright"; echo x >"$root/usr/share/doc/x/changelog"
"""
IMPORT = 'while test "$1" != -; do shift; done; echo "import $2" >>"$LOG"; tar -x -C "$LOG.root"'


def bootstrap(
    tmp_path: Path,
    targets: str,
    distro: str = "debian",
    codename: str = "bookworm",
    host: str | None = None,
    keyring: bool = False,
) -> subprocess.CompletedProcess[str]:
    (tmp_path / "log.root").mkdir()
    keys = f'mkdir -p "$root/usr/share/keyrings"; : >"$root/usr/share/keyrings/{distro}-archive-keyring.gpg"\n'
    return base_script(
        tmp_path, "bootstrap", "docker", "base:b", distro, codename, str(tmp_path / "scratch"), host or codename,
        docker=IMPORT, debootstrap=DEBOOTSTRAP + (keys if keyring else ""), apt_get=f"printf '%s\\n' {targets}",
    )  # fmt: skip


def test_debootstrap_uses_the_mirror_that_apt_uses(tmp_path: Path) -> None:
    targets = (
        "'http://mirror.example/debian/ bookworm main Debian' "
        "'http://mirror.example/debian/ bookworm main Debian' "
        "'http://mirror.example/debian/ bookworm contrib Debian' "
        "'http://mirror.example/debian/ bookworm-updates main Debian' "
        "'http://mirror.example/security/ bookworm-security main Debian' "
        "'http://third.example/linux bookworm main Docker' "
        "'http://mirror.example/debian/ trixie main Debian'"
    )
    done = bootstrap(tmp_path, targets)
    assert done.returncode == 0, done.stdout + done.stderr
    log = (tmp_path / "log").read_text()
    assert f"bookworm {tmp_path}/scratch/root http://mirror.example/debian/" in log
    assert "import base:b" in log
    assert (tmp_path / "log.root/etc/apt/sources.list").read_text() == (
        "deb http://mirror.example/debian/ bookworm main\n"
        "deb http://mirror.example/debian/ bookworm-updates main\n"
        "deb http://mirror.example/security/ bookworm-security main\n"
    )
    # Of the documentation only licences stay. The scratch folder is removed.
    assert [path.name for path in (tmp_path / "log.root/usr/share/doc/x").iterdir()] == ["copyright"]
    assert not (tmp_path / "scratch").exists()


def test_a_host_makes_another_release_from_its_own_mirror(tmp_path: Path) -> None:
    """A Vulkan image on Debian 12 runs on Debian 13, whose Mesa is newer."""
    targets = (
        "'http://mirror.example/debian/ bookworm main Debian' "
        "'http://mirror.example/debian/ bookworm-updates main Debian' "
        "'http://mirror.example/security/ bookworm-security main Debian'"
    )
    done = bootstrap(tmp_path, targets, codename="trixie", host="bookworm")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"trixie {tmp_path}/scratch/root http://mirror.example/debian/" in (tmp_path / "log").read_text()
    assert (tmp_path / "log.root/etc/apt/sources.list").read_text() == (
        "deb http://mirror.example/debian/ trixie main\n"
        "deb http://mirror.example/debian/ trixie-updates main\n"
        "deb http://mirror.example/security/ trixie-security main\n"
    )


def test_an_ubuntu_host_makes_its_own_ubuntu_release(tmp_path: Path) -> None:
    """The sources of a fresh Ubuntu: four components, security from another host, backports, and a third party's."""
    archive, security = "http://archive.example/ubuntu/", "http://security.example/ubuntu/"
    targets = [
        f"'{mirror} {suite} {component} Ubuntu noble'"
        for mirror, suite in (
            (archive, "noble"),
            (archive, "noble-updates"),
            (archive, "noble-backports"),
            (security, "noble-security"),
        )
        for component in ("main", "restricted", "universe", "multiverse")
    ]
    targets += ["'https://esm.example/apps/ubuntu/ noble-apps-security main UbuntuESMApps noble'"]
    targets += ["'https://third.example/linux/ubuntu/ noble stable Docker noble'"]
    done = bootstrap(tmp_path, " ".join(targets), "ubuntu", "noble", keyring=True)
    assert done.returncode == 0, done.stdout + done.stderr
    called = (tmp_path / "log").read_text()
    assert f"noble {tmp_path}/scratch/root {archive}" in called and "--force-check-gpg" in called
    signed = "[signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg]"
    assert (tmp_path / "log.root/etc/apt/sources.list").read_text() == (
        f"deb {signed} {archive} noble main universe\n"
        f"deb {signed} {archive} noble-updates main universe\n"
        f"deb {signed} {security} noble-security main universe\n"
    )


def test_sources_that_say_stable_count_as_their_release(tmp_path: Path) -> None:
    targets = (
        "'http://mirror.example/debian/ stable main Debian bookworm' "
        "'http://mirror.example/debian/ stable-updates main Debian bookworm-updates' "
        "'http://mirror.example/security/ stable-security main Debian bookworm-security' "
        "'http://mirror.example/debian/ testing main Debian trixie'"
    )
    done = bootstrap(tmp_path, targets)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "log.root/etc/apt/sources.list").read_text() == (
        "deb http://mirror.example/debian/ bookworm main\n"
        "deb http://mirror.example/debian/ bookworm-updates main\n"
        "deb http://mirror.example/security/ bookworm-security main\n"
    )


def test_the_first_mirror_of_a_mirror_list_is_used(tmp_path: Path) -> None:
    (tmp_path / "mirrors.list").write_text("# comment\nhttp://first.example/debian\nhttp://second.example/debian\n")
    done = bootstrap(tmp_path, f"'mirror+file:{tmp_path}/mirrors.list/ bookworm main Debian'")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "http://first.example/debian" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        ("'http://third.example/ bookworm main Docker'", "apt's sources name no debian mirror with bookworm main"),
        ("'cdrom:[disc]/ bookworm main Debian'", "is not an http mirror"),
    ],
)
def test_without_a_usable_mirror_the_reason_is_reported(tmp_path: Path, targets: str, reason: str) -> None:
    done = bootstrap(tmp_path, targets)
    assert done.returncode != 0
    assert reason in done.stdout
