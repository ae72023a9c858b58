"""The whole deploy on a bare machine of each supported release, as far as the release decides what is done.

releases/*.json says what each has, and from where that is known; recorded_machine.py plays it. Debian 12 and 13 are
also deployed for real (tests/integration); Ubuntu only here.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from claude_local.docker.commands import UPSTREAM_PACKAGES
from claude_local.fence.probe import BWRAP, COPY
from claude_local.hardware.distribution import CODENAMES, GCC, OsRelease, distribution
from claude_local.image.base import base_image
from claude_local.image.dockerfile import TARGETS, VULKAN_SDK, instructions
from tests.plan.recorded_machine import RELEASES, RecordedMachine

# Each release costs a whole run of pyinfra or two.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04", "ubuntu-26.04"]
RESTRICTED = ["ubuntu-24.04", "ubuntu-26.04"]
WHOLE = ("deploy.py",)
HOME = "/home/user"


def pyinfra(result: Path, *files: str, **machine: Any) -> subprocess.CompletedProcess[str]:
    """``pyinfra -y --json`` with these deploy files on the recorded machine; ``result`` then says what was done to
    it."""
    env = {**os.environ, "RECORDED_MACHINE": json.dumps(machine), "RECORDED_RESULT": str(result)}
    return subprocess.run(
        [str(Path(sys.executable).parent / "pyinfra"), "-y", "--json", "tests/plan/recorded_inventory.py", *files],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@functools.cache
def deployed(release: str, *files: str, repository: bool = False, registry: bool = True) -> dict[str, Any]:
    """What a deploy that succeeds did to the machine, and its ``--json`` results as ``operations``."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        done = pyinfra(result, *files, release=release, repository=repository, registry=registry)
        assert done.returncode == 0, done.stderr[-3000:]
        return {**json.loads(result.read_text()), "operations": json.loads(done.stdout)["results"]["operations"]}


def recorded(release: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RELEASES / f"{release}.json").read_text())
    return found


def codename(release: str) -> str:
    return str(recorded(release)["os_release"]["VERSION_CODENAME"])


# Of Ubuntu's packages those that nobody has looked up: they have this name in Debian 12 and 13.
NOT_LOOKED_UP = {
    "ca-certificates", "ccache", "cmake", "debian-archive-keyring", "debootstrap", "libgomp1", "libstdc++6",
    "ninja-build", "patch",
    "procps", "python3", "ubuntu-keyring",
}  # fmt: skip


def test_every_recording_names_its_sources() -> None:
    assert sorted(path.stem for path in RELEASES.glob("*.json")) == NAMES
    for name in NAMES:
        assert set(recorded(name)["sources"]) >= {"os_release", "packages", "docker", "fence", "docker_repository"}
        assert {package for package, version in recorded(name)["packages"].items() if version is None} <= NOT_LOOKED_UP


@pytest.mark.parametrize("release", NAMES)
def test_the_recording_and_the_code_know_the_same_release(release: str) -> None:
    distro, version = release.split("-")
    lines = recorded(release)["os_release"]
    found = distribution(OsRelease(distro, version_id=version, version_codename=lines["VERSION_CODENAME"]))
    assert (found.distro, found.version, found.known) == (distro, version, True)
    assert CODENAMES[distro][found.codename] == version and GCC[found.codename] == recorded(release)["gcc"]
    assert tuple(map(int, recorded(release)["python"].split("."))) >= (3, 10)


@pytest.mark.parametrize("release", NAMES)
def test_the_whole_deploy_runs_and_every_package_that_it_wants_exists(release: str) -> None:
    done = deployed(release, *WHOLE)
    stages = dict.fromkeys(operation["name"].split(" | ")[0] for operation in done["operations"])
    assert list(stages)[:4] == ["tasks/packages.py", "tasks/runtime.py", "tasks/fence.py", "tasks/docker.py"]
    assert list(stages)[-1] == "tasks/commands.py"
    wanted = {"bubblewrap", "socat", "curl", "jq", "ca-certificates", "strace", "python3-venv", "procps", "npm"}
    assert wanted <= set(done["installed"])


@pytest.mark.parametrize(
    ("release", "packages"),
    [
        ("debian-12", ["docker.io"]),
        ("debian-13", ["docker-buildx", "docker-cli", "docker.io"]),
        ("ubuntu-22.04", ["docker-buildx", "docker.io"]),
        ("ubuntu-24.04", ["docker-buildx", "docker.io"]),
        ("ubuntu-26.04", ["docker-buildx", "docker.io"]),
    ],
)
def test_without_dockers_repository_the_distributions_docker_is_one_that_builds(
    release: str, packages: list[str]
) -> None:
    done = deployed(release, *WHOLE)
    assert done["docker"] == packages and done["repository"] == []


@pytest.mark.parametrize("release", NAMES)
def test_dockers_repository_is_added_for_this_release_with_the_pinned_key(release: str) -> None:
    done = deployed(release, "tasks/docker.py", repository=True)
    ((uri, address, key, name, sources, _, status),) = done["repository"]
    distro = release.split("-")[0]
    assert key == "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
    assert address == f"{uri}/gpg" == f"https://download.docker.com/linux/{distro}/gpg"
    assert (name, status) == ("claude-local-docker", "0")
    lines = dict(line.split(": ", 1) for line in sources.splitlines())
    assert lines == {
        "Types": "deb",
        "URIs": f"https://download.docker.com/linux/{distro}",
        "Suites": codename(release),
        "Components": "stable",
        "Signed-By": "/etc/apt/keyrings/claude-local-docker.asc",
    }
    assert done["docker"] == sorted(UPSTREAM_PACKAGES)
    assert {"curl", "gnupg", "ca-certificates"} <= set(done["installed"])


@pytest.mark.parametrize("release", NAMES)
def test_the_image_starts_from_the_same_release(release: str) -> None:
    pulled = {"debian": f"debian:{codename(release)}-slim", "ubuntu": f"ubuntu:{codename(release)}"}
    (pull,) = deployed(release, *WHOLE)["base"]
    assert pull[:4] == [
        "pull", "/usr/bin/docker", f"claude-local/base:{codename(release)}", pulled[release.split("-")[0]],
    ]  # fmt: skip


@pytest.mark.parametrize("release", NAMES)
def test_without_a_registry_debootstrap_makes_the_same_release_with_its_own_keys(release: str) -> None:
    done = deployed(release, "tasks/docker.py", "tasks/image.py", registry=False)
    _, bootstrap = done["base"]
    distro = release.split("-")[0]
    base = f"claude-local/base:{codename(release)}"
    assert bootstrap[:5] == ["bootstrap", "/usr/bin/docker", base, distro, codename(release)]
    keys = {"debian": "debian-archive-keyring", "ubuntu": "ubuntu-keyring"}[distro]
    assert {"debootstrap", keys} <= set(done["installed"])


@pytest.mark.parametrize("variant", ["cpu", "cuda", "vulkan"])
@pytest.mark.parametrize("release", NAMES)
def test_what_the_image_installs_exists_in_the_release_it_is_made_from(release: str, variant: str) -> None:
    dockerfile = (ROOT / "files/image/Dockerfile").read_text()
    based_on = base_image("auto", release.split("-")[0], codename(release), variant)
    (made_from,) = (name for name in NAMES if codename(name) == based_on.name.rpartition(":")[2])
    arguments = {"BASE": VULKAN_SDK if variant == "vulkan" else "a base", "RUNTIME_BASE": based_on.name}
    part = instructions(dockerfile, TARGETS[variant], arguments).replace("\\\n", " ")
    installs = re.findall(r"apt-get install ([^&\n]*)", part)
    names = {word for line in installs for word in line.split() if not word.startswith(("-", "$"))}
    assert {"g++", "cmake", "libgomp1"} <= names and ("glslc" in names) == (variant == "vulkan")
    assert names <= set(recorded(made_from)["packages"])


@pytest.mark.parametrize("release", NAMES)
def test_both_layers_of_the_fence_work_in_the_end(release: str) -> None:
    config = json.loads(deployed(release, *WHOLE)["uploads"][f"{HOME}/.local/share/claude-local/fence.json"])
    assert config["layers"] == ["outer", "inner"]
    assert config["bwrap"] == (COPY if release in RESTRICTED else BWRAP)


@pytest.mark.parametrize("release", NAMES)
def test_only_where_apparmor_restricts_namespaces_we_install_a_profile(release: str) -> None:
    profiles = deployed(release, *WHOLE)["profiles"]
    if release not in RESTRICTED:
        assert profiles == []
        return
    ((bwrap, copy, file, text),) = profiles
    assert (bwrap, copy, file) == (BWRAP, COPY, "/etc/apparmor.d/claude-local-bwrap")
    assert "abi <abi/4.0>," in text and "  userns,\n" in text and f"profile claude-local-bwrap {COPY} " in text


@pytest.mark.parametrize("release", NAMES)
def test_the_second_time_nothing_is_left_to_do(release: str) -> None:
    once = ("tasks/packages.py", "tasks/fence.py", "tasks/docker.py")
    done = deployed(release, *once, *once)
    names = [operation["name"] for operation in done["operations"]]
    assert len(names) == 2 * len(set(names)), "pyinfra took the second round for the first"
    for operation in done["operations"][len(names) // 2 :]:
        # The recorded machine keeps no files, so what only writes a file writes it again.
        if "Write down which fence" not in operation["name"]:
            assert operation["success"] == [], operation["name"]


def test_a_package_that_a_release_does_not_have_fails_as_apt_does() -> None:
    machine = RecordedMachine("ubuntu-24.04")
    ok, said = machine.run("( sh -c ... apt.sh 1 install --yes --no-install-recommends docker-cli jq ) 2>&1")
    assert (ok, said) == (False, ["E: Unable to locate package docker-cli"])
    assert "jq" not in machine.installed


MINT = {
    "ID": "linuxmint",
    "ID_LIKE": "ubuntu debian",
    "VERSION_ID": "22",
    "VERSION_CODENAME": "wilma",
    "UBUNTU_CODENAME": "noble",
    "PRETTY_NAME": "Linux Mint 22",
}
FEDORA = {"ID": "fedora", "VERSION_ID": "40", "PRETTY_NAME": "Fedora Linux 40 (Workstation Edition)"}
KALI = {"ID": "kali", "ID_LIKE": "debian", "VERSION_CODENAME": "kali-rolling", "PRETTY_NAME": "Kali GNU/Linux Rolling"}
FOCAL = {"ID": "ubuntu", "VERSION_ID": "20.04", "VERSION_CODENAME": "focal", "PRETTY_NAME": "Ubuntu 20.04.6 LTS"}


def test_linux_mint_gets_what_the_ubuntu_in_it_gets(tmp_path: Path) -> None:
    files = ("tasks/preflight.py", "tasks/docker.py", "tasks/image.py")
    done = pyinfra(tmp_path / "r", *files, release="ubuntu-24.04", repository=True, os_release=MINT)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "r").read_text())
    ((_, address, _, _, sources, _, _),) = result["repository"]
    assert address.endswith("/ubuntu/gpg") and "Suites: noble\n" in sources
    assert result["base"][0][2:4] == ["claude-local/base:noble", "ubuntu:noble"]


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        ({"os_release": FOCAL}, "distribution: found Ubuntu 20.04.6 LTS; Debian 12 or newer, or Ubuntu 22.04 or newer"),
        ({"os_release": FEDORA, "apt": False}, "found Fedora Linux 40 (Workstation Edition), which has no apt-get; "),
        ({"os_release": KALI}, "found Kali GNU/Linux Rolling, which does not say which Debian or Ubuntu release it is"),
        ({"arch": ["aarch64", "armhf"]}, "architecture: found packages for armhf on aarch64; "),
    ],
)
def test_an_unsupported_machine_is_refused_in_a_line_and_left_unchanged(
    machine: dict[str, Any], says: str, tmp_path: Path
) -> None:
    done = pyinfra(tmp_path / "r", *WHOLE, release="ubuntu-24.04", **machine)
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if says in line]
    assert len(told) == 1 and "Traceback" not in done.stderr
    result = json.loads((tmp_path / "r").read_text())
    assert result["installed"] == sorted(recorded("ubuntu-24.04")["installed"]) and result["uploads"] == {}
    assert not any("apt.sh" in command for command in result["ran"])


def test_arm64_is_deployed_with_its_own_claude_code(tmp_path: Path) -> None:
    done = pyinfra(tmp_path / "r", *WHOLE, release="ubuntu-24.04", arch=["aarch64", "arm64"])
    assert done.returncode == 0, done.stderr[-3000:]
    fetches = [
        each for each in json.loads((tmp_path / "r").read_text())["ran"] if "claude_local.claude.install" in each
    ]
    assert fetches and all("linux-arm64" in each for each in fetches)
