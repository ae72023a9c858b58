"""Docker's packages for each machine, its repository, and the build's command line."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from claude_local.docker import nvidia
from claude_local.docker.commands import (
    build,
    devices_of,
    has_no_way_out,
    make_network,
    missing_packages,
    nvidia_smi,
    repository,
    version_of,
)

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
    settings = ["DOCKER_CONTENT_TRUST=0", "DOCKER_BUILDKIT=1", "BUILDX_BUILDER=default"]
    assert argv[:5] == ["env", *settings, "/usr/bin/docker"]
    assert argv[-5:] == ["--build-arg", "BASE=x y", "--label", "k=v", "/context"]


@pytest.mark.parametrize(
    "argv", [version_of("docker", "a:b"), devices_of("docker", "a:b", []), nvidia_smi("docker", "a:b", [])]
)
def test_a_container_for_one_command_has_no_network_and_no_rights(argv: list[str]) -> None:
    assert {"--rm", "--network=none", "--read-only", "--cap-drop=ALL"} <= set(argv[: argv.index("a:b")])
    assert argv[:2] == ["env", "DOCKER_CONTENT_TRUST=0"], "our own images are not signed"


# What "docker network inspect" printed on Docker 20.10.24 for the network that make_network had made.
NETWORK: dict[str, Any] = {
    "Name": "claude-local", "Driver": "bridge", "EnableIPv6": False,
    "IPAM": {"Driver": "default", "Options": {}, "Config": [
        {"Subnet": "172.19.0.0/16", "Gateway": "172.19.0.1", "AuxiliaryAddresses": {"DefaultGatewayIPv4": "172.19.0.2"}}
    ]},
    "Options": {
        "com.docker.network.bridge.enable_icc": "true", "com.docker.network.bridge.enable_ip_masquerade": "false",
    },
    "Labels": {"claude-local.network": "1"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"Options": {**NETWORK["Options"], "added.by.a.later.docker": "x"}}, True),
        ({"Options": {}}, False),
        ({"IPAM": {"Config": [{"Subnet": "172.19.0.0/16", "Gateway": "172.19.0.1"}]}}, False),
        ({"IPAM": {"Config": None}}, False),
        ({"EnableIPv6": True}, False),
        ({"Driver": "macvlan"}, False),
        ({"Labels": None}, False),
    ],
)
def test_a_network_with_a_way_out_is_recognised(change: dict[str, Any], expected: bool) -> None:
    assert has_no_way_out({**NETWORK, **change}) is expected


@pytest.mark.parametrize(
    ("subnet", "router", "nobody"),
    [("172.18.0.0/16", "172.18.0.1", "172.18.0.2"), ("10.9.8.16/28", "10.9.8.17", "10.9.8.18")],
)
def test_the_networks_default_route_leads_to_nobody(tmp_path: Path, subnet: str, router: str, nobody: str) -> None:
    client = tmp_path / "docker"
    client.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/calls\ntest "$2" != inspect || echo {subnet}\n')
    client.chmod(0o755)
    subprocess.run(make_network(str(client)), check=True, timeout=30)
    first, _, removed, made = (tmp_path / "calls").read_text().splitlines()
    assert "--subnet" not in first and removed == "network rm claude-local"
    assert f"--subnet {subnet} --gateway {router} --aux-address DefaultGatewayIPv4={nobody} " in made
    assert "enable_ip_masquerade=false" in made and "--ipv6=false" in made and made.endswith(" claude-local")


def test_a_daemon_without_a_free_subnet_is_an_error(tmp_path: Path) -> None:
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho 'could not find an available address pool' >&2\nexit 1\n")
    client.chmod(0o755)
    done = subprocess.run(make_network(str(client)), capture_output=True, text=True, timeout=30)
    assert done.returncode != 0 and "address pool" in done.stderr


def test_dockers_repository_is_signed_by_its_pinned_key() -> None:
    docker = repository("ubuntu", "noble")
    assert docker.key_address == "https://download.docker.com/linux/ubuntu/gpg"
    assert docker.fingerprint == "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
    assert docker.sources_file == (
        "Types: deb\nURIs: https://download.docker.com/linux/ubuntu\nSuites: noble\nComponents: stable\n"
        "Signed-By: /etc/apt/keyrings/claude-local-docker.asc\n"
    )


def test_nvidias_repository_has_one_list_for_all_releases() -> None:
    assert nvidia.repository("aarch64").sources_file == (
        "Types: deb\nURIs: https://nvidia.github.io/libnvidia-container/stable/deb/arm64\nSuites: /\n"
        "Signed-By: /etc/apt/keyrings/claude-local-nvidia.asc\n"
    )
