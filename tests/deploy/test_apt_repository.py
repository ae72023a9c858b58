"""A vendor's repository in apt's sources. apt-get is real where it reads them; curl, gpg and the vendor are not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from claude_local.deploy.operations import apt_repository
from claude_local.docker import commands as docker
from claude_local.docker import nvidia
from claude_local.docker.apt_repository import AptRepository

REPOSITORIES = [docker.repository("debian", "bookworm"), nvidia.repository("x86_64")]
BOTH = pytest.mark.parametrize("repository", REPOSITORIES, ids=lambda each: each.name)


class Etc:
    """A machine's /etc/apt, and what ``apt_repository.SCRIPT`` makes of it."""

    def __init__(self, folder: Path) -> None:
        self.tools, self.etc = folder / "bin", folder / "etc"
        self.sources, self.keyrings = self.etc / "apt/sources.list.d", self.etc / "apt/keyrings"
        self.sources.mkdir(parents=True)
        self.keyrings.mkdir()
        self.tools.mkdir()
        (folder / "lists/partial").mkdir(parents=True)
        self.config = folder / "apt.conf"
        self.config.write_text(
            f'Dir::State::lists "{folder}/lists";\nDir::Etc::sourcelist "/dev/null";\n'
            f'Dir::Etc::sourceparts "{self.sources}";\n'
        )

    def tool(self, name: str, script: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)

    def add(
        self, repository: AptRepository, *, key: str = "", update: int = 0, optional: bool = False
    ) -> tuple[int, str]:
        """Status and output. ``key``: the fingerprint of what is served; ``update``: the status of apt-get update."""
        key = key or repository.fingerprint
        self.tool("curl", 'while test "$1" != -o; do shift; done; echo key >"$2"')
        self.tool("gpg", f"printf '%b' 'pub:-:4096\\nfpr:::::::::{key}:\\nsub:-\\nfpr:::::::::OTHER:\\n'")
        self.tool("apt-get", f'case $* in *--print-uris*) exec /usr/bin/apt-get "$@" ;; esac; exit {update}')
        words = [
            repository.uri, repository.key_address, repository.fingerprint, repository.name, repository.sources_file,
            "5", str(int(not optional)), str(self.etc),
        ]  # fmt: skip
        done = subprocess.run(
            ["sh", "-c", apt_repository.SCRIPT, "sh", *words], text=True, timeout=60, capture_output=True,
            env={**os.environ, "PATH": f"{self.tools}:{os.environ['PATH']}", "APT_CONFIG": str(self.config)},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    @property
    def names(self) -> set[str]:
        """The files below /etc/apt."""
        return {path.name for folder in (self.sources, self.keyrings) for path in folder.iterdir()}

    def readable(self) -> bool:
        """Whether apt can read its sources."""
        command = ["/usr/bin/apt-get", "--print-uris", "update"]
        return not subprocess.run(command, env={**os.environ, "APT_CONFIG": str(self.config)}, timeout=60).returncode


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    return Etc(tmp_path)


@BOTH
def test_the_repository_is_added_with_the_pinned_key(etc: Etc, repository: AptRepository) -> None:
    status, said = etc.add(repository)
    assert status == 0, said
    assert (etc.sources / f"{repository.name}.sources").read_text() == repository.sources_file
    assert (etc.keyrings / f"{repository.name}.asc").read_text() == "key\n"
    assert etc.readable()


@BOTH
@pytest.mark.parametrize(
    ("serves", "update", "says"), [("F" * 40, 0, "expected"), ("", 100, "apt-get update fails with it")]
)
def test_another_key_or_a_repository_that_apt_cannot_fetch_leaves_nothing(
    etc: Etc, repository: AptRepository, serves: str, update: int, says: str
) -> None:
    for optional in (False, True):
        status, said = etc.add(repository, key=serves, update=update, optional=optional)
        assert status == (not optional) and says in said
        assert etc.names == set()


# As older pages of the vendors say to write them. $(ARCH) is apt's own.
LINE = {
    "claude-local-docker": "deb [arch=amd64 signed-by=/usr/share/keyrings/docker-archive-keyring.gpg] "
    "https://download.docker.com/linux/debian bookworm stable",
    "claude-local-nvidia": "deb [signed-by=/usr/share/keyrings/nvidia-container-toolkit-keyring.gpg] "
    "https://nvidia.github.io/libnvidia-container/stable/deb/$(ARCH) /",
}


@BOTH
@pytest.mark.parametrize("form", ["list", "sources"])
def test_where_a_source_has_the_address_nothing_is_added(etc: Etc, repository: AptRepository, form: str) -> None:
    if form == "list":
        text = LINE[repository.name] + "\n"
    else:
        text = repository.sources_file.replace("/etc/apt/keyrings/", "/usr/share/keyrings/older-")
    (etc.sources / f"docker.{form}").write_text(text)
    status, said = etc.add(repository)
    assert (status, said) == (0, f"apt's sources have {repository.uri} already\n")
    assert etc.names == {f"docker.{form}"} and etc.readable()
    assert (etc.sources / f"docker.{form}").read_text() == text


def test_a_source_that_is_switched_off_does_not_count(etc: Etc) -> None:
    repository = REPOSITORIES[0]
    (etc.sources / "docker.sources").write_text(f"Enabled: no\n{repository.sources_file}")
    assert etc.add(repository)[0] == 0
    assert f"{repository.name}.sources" in etc.names and etc.readable()


def test_sources_that_apt_cannot_read_are_left_alone_and_quoted(etc: Etc) -> None:
    repository = REPOSITORIES[0]
    (etc.sources / "one.list").write_text(LINE[repository.name] + "\n")
    (etc.sources / "two.sources").write_text(repository.sources_file)
    status, said = etc.add(repository)
    assert status == 1 and "Conflicting values set for option Signed-By" in said
    assert etc.names == {"one.list", "two.sources"}


def test_a_source_that_makes_the_list_unreadable_is_taken_back(etc: Etc) -> None:
    repository = REPOSITORIES[0]
    broken = AptRepository(**{**vars(repository), "suite": "bookworm/"})
    status, said = etc.add(broken)
    assert status == 1 and "with it, apt cannot read its sources: E: " in said
    assert etc.names == set() and etc.readable()
