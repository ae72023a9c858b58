"""files/apt.sh with the real apt-get, package lists and dpkg database of its own; only dpkg is a stand-in."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_local.deploy.operations.packages import APT_SCRIPT

Apt = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def apt(tmp_path: Path) -> Apt:
    """Starts the script on an empty system below ``tmp_path``; dpkg's arguments go to ``tmp_path/dpkg.log``."""
    for folder in ("sources", "state/lists/partial", "state/dpkg/updates", "cache/archives/partial", "bin", "tmp"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "state/dpkg/status").touch()
    dpkg = tmp_path / "bin/dpkg"
    dpkg.write_text(
        '#!/bin/sh\ncase "$*" in *--configure*) ;; *) exec /usr/bin/dpkg "$@" ;; esac\n'
        f'echo "$*" >>{tmp_path}/dpkg.log\n'
        f"test ! -e {tmp_path}/healed || rm -f {tmp_path}/state/dpkg/updates/*\n"
    )
    dpkg.chmod(0o755)
    settings = {
        "Dir::State": tmp_path / "state",
        "Dir::State::lists": tmp_path / "state/lists",
        "Dir::State::status": tmp_path / "state/dpkg/status",
        "Dir::Cache": tmp_path / "cache",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": tmp_path / "sources",
    }
    config = tmp_path / "apt.conf"
    config.write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    env = {
        **os.environ,
        "APT_CONFIG": str(config),
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "TMPDIR": str(tmp_path / "tmp"),
    }

    def start(seconds: int, *arguments: str) -> subprocess.Popen[str]:
        words = ["sh", "-c", APT_SCRIPT, "apt.sh", str(seconds), *arguments]
        return subprocess.Popen(words, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    return start


def ended(process: subprocess.Popen[str], tmp_path: Path) -> tuple[int, str]:
    """The script's status and output. It must leave no temporary files."""
    said, _ = process.communicate(timeout=60)
    assert list((tmp_path / "tmp").iterdir()) == []
    return process.returncode, said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lock", "arguments", "says"),
    [
        ("state/lists/lock", ["update"], "waiting for another apt to finish"),
        ("state/dpkg/lock-frontend", ["--yes", "install"], "Waiting for cache lock"),
    ],
)
def test_it_waits_for_another_apt_and_then_does_its_work(
    apt: Apt, tmp_path: Path, lock: str, arguments: list[str], says: str
) -> None:
    with (tmp_path / lock).open("w") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        process = apt(600, *arguments)
        assert process.stdout is not None
        assert any(says in line for line in process.stdout), "it did not wait"
    assert ended(process, tmp_path)[0] == 0


@pytest.mark.slow
def test_it_does_not_wait_for_ever(apt: Apt, tmp_path: Path) -> None:
    with (tmp_path / "state/lists/lock").open("w") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        status, said = ended(apt(1, "update"), tmp_path)
    assert status == 100
    assert "E: Could not get lock" in said


def test_what_an_interrupted_dpkg_left_is_finished_first(apt: Apt, tmp_path: Path) -> None:
    (tmp_path / "state/dpkg/updates/0001").touch()
    (tmp_path / "healed").touch()
    status, said = ended(apt(60, "--yes", "install"), tmp_path)
    assert status == 0, said
    assert (tmp_path / "dpkg.log").read_text() == "--configure -a\n"
    assert "finishing an interrupted dpkg" in said


def test_a_dpkg_that_cannot_be_finished_is_tried_once_and_apts_words_stand(apt: Apt, tmp_path: Path) -> None:
    (tmp_path / "state/dpkg/updates/0001").touch()
    status, said = ended(apt(60, "--yes", "install"), tmp_path)
    assert status == 100
    assert (tmp_path / "dpkg.log").read_text() == "--configure -a\n"
    assert said.splitlines()[-1].startswith("E: dpkg was interrupted, you must manually run")


def test_packages_that_lack_something_are_repaired_without_removing_any(apt: Apt, tmp_path: Path) -> None:
    fields = "Architecture: all\nMaintainer: x\nDescription: x\nVersion: 1\n"
    (tmp_path / "state/dpkg/status").write_text(
        f"Package: half\nStatus: install ok unpacked\nDepends: what-it-needs\n{fields}\n"
        f"Package: other\nStatus: install ok installed\n{fields}\n"
    )
    with (tmp_path / "apt.conf").open("a") as config:
        config.write('APT::Get::Simulate "true";\n')
    status, said = ended(apt(60, "--yes", "install", "other"), tmp_path)
    assert status == 100
    assert said.count("finishing an interrupted apt") == 1
    # Nothing here has what it needs, so the repair is to remove it: that is refused.
    assert "E: Packages need to be removed but remove is disabled." in said


def test_another_failure_is_apts_own(apt: Apt, tmp_path: Path) -> None:
    status, said = ended(apt(60, "--yes", "install", "no-such-package"), tmp_path)
    assert status == 100 and said.endswith("E: Unable to locate package no-such-package\n")
    assert not (tmp_path / "dpkg.log").exists()


def with_packages(tmp_path: Path) -> None:
    """Sources with a repository that has the package ``small``, and a dead one. dpkg is not started."""
    repository = tmp_path / "repository"
    (repository / "small/DEBIAN").mkdir(parents=True)
    (repository / "small/DEBIAN/control").write_text(
        "Package: small\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
    )
    subprocess.run(["dpkg-deb", "--build", "small", "small.deb"], cwd=repository, check=True, stdout=subprocess.DEVNULL)
    control = (repository / "small/DEBIAN/control").read_text()
    size, digest = (repository / "small.deb").stat().st_size, hashlib.sha256((repository / "small.deb").read_bytes())
    (repository / "Packages").write_text(f"{control}Filename: small.deb\nSize: {size}\nSHA256: {digest.hexdigest()}\n")
    (tmp_path / "sources/good.list").write_text(f"deb [trusted=yes] file:{repository} /\n")
    (tmp_path / "sources/dead.list").write_text(f"deb file:{tmp_path}/gone stable main\n")
    with (tmp_path / "apt.conf").open("a") as config:
        config.write('Debug::pkgDPkgPM "true";\nAPT::Sandbox::User "root";\n')


def test_a_dead_repository_is_named_and_does_not_keep_packages_out(apt: Apt, tmp_path: Path) -> None:
    with_packages(tmp_path)
    warning = f"warning: apt-get update: The repository 'file:{tmp_path}/gone stable Release' does not have a Release"
    status, said = ended(apt(60, "install", "--yes", "small"), tmp_path)
    assert status == 0, said
    assert warning in said and "small.deb" in said.split(warning)[1]
    status, said = ended(apt(60, "update"), tmp_path)
    assert status == 0 and said.splitlines()[-1].startswith(warning)
    # The status counts where the lists are those of one repository (apt_repository).
    assert ended(apt(60, "-o", "APT::Get::List-Cleanup=0", "update"), tmp_path)[0] == 100


@pytest.mark.parametrize("command", ["update", "install"])
def test_sources_that_apt_cannot_read_are_an_error(apt: Apt, tmp_path: Path, command: str) -> None:
    (tmp_path / "sources/odd.list").write_text("dep http://gone.invalid stable main\n")
    status, said = ended(apt(60, command), tmp_path)
    assert status == 100 and said.splitlines()[-1] == "E: The list of sources could not be read."
