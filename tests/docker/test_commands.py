"""Docker's packages for each machine, its repository, and the build's command line."""

import pytest

from claude_local.docker.commands import build, devices_of, missing_packages, nvidia_smi, sources_file, version_of

TRIXIE = ["docker.io", "docker-cli", "docker-buildx"]
UPSTREAM = ["docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin"]


@pytest.mark.parametrize(
    ("installed", "candidates", "daemon", "expected"),
    [
        ([], ["docker.io"], False, ["docker.io"]),  # Debian 12
        ([], TRIXIE, False, TRIXIE),
        ([], [*TRIXIE, *UPSTREAM], False, UPSTREAM),  # Docker's repository answered
        # A daemon exists: add the builder, replace nothing.
        ([], TRIXIE, True, ["docker-buildx"]),
        (["docker.io"], [*TRIXIE, *UPSTREAM], True, ["docker-buildx"]),
        (["docker-ce", "docker-ce-cli"], [*TRIXIE, *UPSTREAM], True, ["docker-buildx-plugin"]),
        ([], ["docker.io"], True, ["docker.io"]),  # a static client, Debian 12
        (["docker.io"], [*TRIXIE, *UPSTREAM], False, TRIXIE),
        ([], [], False, []),
    ],
)
def test_the_packages_complete_what_is_installed(
    installed: list[str], candidates: list[str], daemon: bool, expected: list[str]
) -> None:
    assert missing_packages(installed, candidates, daemon=daemon) == expected


def test_the_build_uses_the_daemons_own_buildkit() -> None:
    argv = build("/usr/bin/docker", "/context", "a:b", {"BASE": "x y"}, {"k": "v"})
    assert argv[:4] == ["env", "DOCKER_BUILDKIT=1", "BUILDX_BUILDER=default", "/usr/bin/docker"]
    assert argv[-5:] == ["--build-arg", "BASE=x y", "--label", "k=v", "/context"]


@pytest.mark.parametrize(
    "argv", [version_of("docker", "a:b"), devices_of("docker", "a:b", []), nvidia_smi("docker", "a:b", [])]
)
def test_a_container_for_one_command_has_no_network_and_no_rights(argv: list[str]) -> None:
    assert {"--rm", "--network=none", "--read-only", "--cap-drop=ALL"} <= set(argv[: argv.index("a:b")])


def test_dockers_repository_is_signed_by_its_pinned_key() -> None:
    text = sources_file("ubuntu", "noble")
    assert "URIs: https://download.docker.com/linux/ubuntu\nSuites: noble\n" in text
    assert "Signed-By: /etc/apt/keyrings/docker.asc" in text
