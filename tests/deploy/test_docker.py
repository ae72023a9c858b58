"""Docker: which client is used, what is installed, how the daemon starts. The scripts run with stand-ins on PATH."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from claude_local.deploy.facts.docker import Client, DockerClient, DockerObjects, DockerPackages
from claude_local.deploy.facts.packages import InstalledPackages
from claude_local.deploy.operations.docker import START_SCRIPT, install, start
from claude_local.docker import commands as docker
from tests.deploy.strict_host import StrictHost, fact_on_this_machine, run

NOTHING = DockerClient.default()
# The facts of packages.install on a machine without any package.
NO_PACKAGES: dict[str, Any] = {"InstalledPackages": InstalledPackages.default()}
WORKS = Client(client="/usr/bin/docker", buildkit=True, version="20.10.24", daemon=True, dockerd=True)
STOPPED = Client(**{**WORKS, "daemon": False})


def stand_in(folder: Path, name: str, script: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


# Clients as they really answer: 28.2 without buildx, 20.10 with BuildKit built in, one with the buildx plugin.
STATIC = """case "$*" in
--version) echo "Docker version 28.2.2, build e6534b4" ;;
version*) echo 20.10.24 ;;
*) echo "ERROR: BuildKit is enabled but the buildx component is missing or broken." >&2; exit 1 ;;
esac"""
BUILT_IN = """case "$*" in
--version) echo "Docker version 20.10.24+dfsg1, build 297e128" ;;
version*) echo 20.10.24 ;;
buildx*) exit 1 ;;
"build --help") test "$DOCKER_BUILDKIT" = 1 && echo "      --progress string  Set type of progress output" ;;
esac"""
PLUGIN = """case "$*" in
--version) echo "Docker version 28.5.2, build 1" ;;
"buildx version") echo "github.com/docker/buildx 0.30" ;;
version*) echo "Cannot connect to the Docker daemon" >&2; exit 1 ;;
*) exit 1 ;;
esac"""


@pytest.fixture
def only_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of two folders, with the tools that the scripts use linked into the second."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "grep", "sed", "timeout", "test", "echo", "readlink"):
        for folder in ("/usr/bin", "/bin"):
            if os.path.exists(f"{folder}/{tool}") and not (tools / tool).exists():
                (tools / tool).symlink_to(f"{folder}/{tool}")
    monkeypatch.setenv("PATH", f"{tmp_path}/first:{tmp_path}/second:{tools}")
    return tmp_path


def test_the_client_that_can_build_is_taken_though_another_comes_first(only_path: Path) -> None:
    stand_in(only_path / "first", "docker", STATIC)
    stand_in(only_path / "second", "docker", BUILT_IN)
    found = fact_on_this_machine(DockerClient())
    assert found["client"] == f"{only_path}/second/docker" and found["buildkit"]
    assert found["version"] == "20.10.24+dfsg1" and found["daemon"]


def test_a_client_with_buildx_but_without_a_daemon(only_path: Path) -> None:
    stand_in(only_path / "first", "docker", PLUGIN)
    found = fact_on_this_machine(DockerClient())
    assert found["client"] == f"{only_path}/first/docker"
    assert found["buildkit"] and not found["daemon"]


def test_podman_in_dockers_clothes_is_no_docker(only_path: Path) -> None:
    stand_in(only_path / "first", "docker", "echo podman version 4.3.1")
    stand_in(only_path / "second", "docker", BUILT_IN)
    assert fact_on_this_machine(DockerClient())["client"] == f"{only_path}/second/docker"


def test_a_snaps_client_is_passed_over(only_path: Path) -> None:
    stand_in(only_path / "snapd", "snap", PLUGIN)
    (only_path / "first").mkdir()
    (only_path / "first" / "docker").symlink_to(only_path / "snapd" / "snap")
    stand_in(only_path / "second", "docker", BUILT_IN)
    assert fact_on_this_machine(DockerClient())["client"] == f"{only_path}/second/docker"


@pytest.mark.skipif(os.path.exists("/usr/bin/docker"), reason="this machine has a docker in /usr/bin")
def test_a_bare_machine_has_no_client(only_path: Path) -> None:
    assert fact_on_this_machine(DockerClient())["client"] is None


def test_docker_that_works_is_left_alone(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": WORKS})
    assert run(monkeypatch, install, host, distro="debian", codename="bookworm") == []
    assert host.noop_reason == "/usr/bin/docker 20.10.24 is installed"
    assert run(monkeypatch, start, StrictHost({"DockerClient": WORKS})) == []


def test_the_distributions_package_where_dockers_repository_does_not_answer(monkeypatch: Any) -> None:
    states = iter([NOTHING, WORKS])
    host = StrictHost(
        {
            "DockerClient": lambda: next(states),
            "DockerPackages": {"installed": [], "candidates": ["docker.io"]},
            "Answers": False,
            **NO_PACKAGES,
        },
        root=True,
    )
    update, installation = run(monkeypatch, install, host, distro="debian", codename="bookworm", lock_timeout=9)
    assert update.endswith(" apt.sh 9 update ) 2>&1")
    assert installation.rstrip(" )2>&1").endswith("--no-install-recommends docker.io")
    assert host.sudo == [True, True]


def test_dockers_repository_where_it_answers(monkeypatch: Any) -> None:
    states = iter([NOTHING, WORKS])
    known = iter([[], list(docker.UPSTREAM_PACKAGES)])
    host = StrictHost(
        {
            "DockerClient": lambda: next(states),
            "DockerPackages": lambda names: {"installed": [], "candidates": next(known)},
            "Answers": lambda url: url == "https://download.docker.com/linux/debian/dists/bookworm/Release",
            **NO_PACKAGES,
        }
    )
    commands = run(monkeypatch, install, host, distro="debian", codename="bookworm")
    assert "9DC858229FC7DD38854AE2D88D81803C0EBFCD88" in commands[2]
    assert "containerd.io docker-buildx-plugin docker-ce docker-ce-cli" in commands[-1]


def test_the_setting_keeps_dockers_repository_out(monkeypatch: Any) -> None:
    states = iter([NOTHING, WORKS])
    host = StrictHost(
        {
            "DockerClient": lambda: next(states),
            "DockerPackages": {"installed": [], "candidates": ["docker.io"]},
            **NO_PACKAGES,
        }
    )  # asking whether it answers would fail the test
    run(monkeypatch, install, host, distro="debian", codename="bookworm", upstream=False)


def test_an_apt_without_a_docker_package_is_an_error_with_a_fix(monkeypatch: Any) -> None:
    host = StrictHost(
        {"DockerClient": NOTHING, "DockerPackages": {"installed": [], "candidates": []}, "Answers": False}
    )
    run(monkeypatch, install, host, distro="debian", codename="bookworm")
    assert "apt knows no package of Docker" in host.logged[0]


def test_a_client_that_still_cannot_build_is_an_error(monkeypatch: Any) -> None:
    static = Client(client="/usr/local/bin/docker", buildkit=False, version="28", daemon=True, dockerd=False)
    host = StrictHost(
        {
            "DockerClient": static,
            "DockerPackages": {"installed": [], "candidates": ["docker.io"]},
            **NO_PACKAGES,
        }
    )
    run(monkeypatch, install, host, distro="debian", codename="bookworm")
    assert "cannot build with BuildKit" in host.logged[-1]


def test_the_daemon_is_started_where_it_does_not_answer(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": STOPPED, "DockerUnit": False}, root=True)
    host.succeeds, host.output = False, ["its last lines:", "no space left on device"]
    (command,) = run(monkeypatch, start, host)
    assert "setsid dockerd" in command
    assert host.sudo == [True]
    assert "no space left on device" in host.logged[0]


def test_systemd_starts_its_own_unit_and_enables_it(monkeypatch: Any) -> None:
    stopped = {"SystemdStatus": {"docker.service": False}, "SystemdEnabled": {"docker.service": False}}
    host = StrictHost({"DockerClient": STOPPED, "DockerUnit": True, **stopped})
    first, second, wait = run(monkeypatch, start, host)
    assert (first, second) == ("systemctl start docker.service", "systemctl enable docker.service")
    assert "waiting for docker.service" in wait


@pytest.mark.slow
@pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="systemd would start the real one")
def test_without_systemd_dockerd_is_started_and_waited_for(tmp_path: Path) -> None:
    stand_in(tmp_path, "service", "exit 1")
    stand_in(tmp_path, "dockerd", f"touch {tmp_path}/up")
    stand_in(tmp_path, "setsid", 'exec "$@"')
    stand_in(tmp_path, "docker", f"test -e {tmp_path}/up")
    stand_in(tmp_path, "tail", "echo the log")
    script = START_SCRIPT.replace("/var/log/docker.log", f"{tmp_path}/log")

    def starting(seconds: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", script, "sh", f"{tmp_path}/docker", seconds],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=30,
        )

    done = starting("10")
    assert done.returncode == 0 and "the daemon answers after" in done.stdout
    (tmp_path / "up").unlink()
    stand_in(tmp_path, "dockerd", "exit 1")
    done = starting("1")
    assert done.returncode == 1 and done.stdout.endswith("its last lines:\nthe log\n")


def test_the_fact_about_packages_on_a_real_machine() -> None:
    known = fact_on_this_machine(DockerPackages(), names=["bash", "no-such-package-here"])
    assert known["installed"] == ["bash"] and "no-such-package-here" not in known["candidates"]


def test_docker_says_nothing_about_an_object_that_is_missing(tmp_path: Path) -> None:
    """Docker 20.10 prints an empty line for it, also with a format."""
    client = tmp_path / "docker"
    client.write_text('#!/bin/sh\ncase $5 in here) echo "container here {}" ;; *) echo; exit 1 ;; esac\n')
    client.chmod(0o755)
    objects = [("image", "gone:1"), ("container", "here")]
    found = fact_on_this_machine(DockerObjects(), client=str(client), objects=objects)
    assert found == {("container", "here"): {}}
