"""Which packages make a machine build images, whatever Docker it has already."""

import pytest

from claude_local.docker.commands import build, missing_packages, sources_file

TRIXIE = ["docker.io", "docker-cli", "docker-buildx"]
UPSTREAM = ["docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin"]


@pytest.mark.parametrize(
    ("installed", "candidates", "daemon", "expected"),
    [
        ([], ["docker.io"], False, ["docker.io"]),  # Debian 12
        ([], TRIXIE, False, TRIXIE),
        ([], [*TRIXIE, *UPSTREAM], False, UPSTREAM),  # Docker's repository answered
        # A daemon is there and works: add the builder, replace nothing.
        ([], TRIXIE, True, ["docker-buildx"]),
        (["docker.io"], [*TRIXIE, *UPSTREAM], True, ["docker-buildx"]),
        (["docker-ce", "docker-ce-cli"], [*TRIXIE, *UPSTREAM], True, ["docker-buildx-plugin"]),
        ([], ["docker.io"], True, ["docker.io"]),  # a static client, Debian 12
        (["docker.io"], [*TRIXIE, *UPSTREAM], False, TRIXIE),
        ([], [], False, []),
    ],
)
def test_the_packages_fit_what_is_there(
    installed: list[str], candidates: list[str], daemon: bool, expected: list[str]
) -> None:
    assert missing_packages(installed, candidates, daemon=daemon) == expected


def test_the_build_uses_buildkit_of_the_daemon_itself() -> None:
    words = build("/usr/bin/docker", "/context", "a:b", {"BASE": "x y"}, {"k": "v"})
    assert words[:4] == ["env", "DOCKER_BUILDKIT=1", "BUILDX_BUILDER=default", "/usr/bin/docker"]
    assert words[-5:] == ["--build-arg", "BASE=x y", "--label", "k=v", "/context"]


def test_dockers_repository_is_pinned_to_its_key() -> None:
    text = sources_file("ubuntu", "noble")
    assert "URIs: https://download.docker.com/linux/ubuntu\nSuites: noble\n" in text
    assert "Signed-By: /etc/apt/keyrings/docker.asc" in text
