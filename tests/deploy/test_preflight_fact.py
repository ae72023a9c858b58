"""Preflight's one look, on the real machine that runs the tests."""

import os
import socket
import subprocess
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pyinfra.api import Config

from claude_local.deploy import preflight
from claude_local.deploy.facts.preflight import PreflightFindings
from claude_local.deploy.facts.workstation import WorkstationIdentity
from tests.deploy.strict_host import fact_on_this_machine


def test_it_sees_a_port_that_is_listened_on_and_files_and_disks(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(b"x" * 11)
    (tmp_path / "n.gguf.part").write_bytes(b"x" * 7)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        found = fact_on_this_machine(
            PreflightFindings(),
            containers=["no-such-container"],
            files=[str(model), str(tmp_path / "n.gguf"), str(tmp_path / "missing.gguf")],
            runtime=str(tmp_path / "nothing"),
            paths=[str(tmp_path), str(tmp_path / "not" / "yet" / "there"), "/var/lib/docker"],
        )
        assert listener.getsockname()[1] in found["listen"]
    assert found["apt"] and not found["runtime"] and found["ours"] == []
    assert found["file"] == {str(model): 11, str(tmp_path / "n.gguf"): 7}
    assert set(found["mount"]) == {str(tmp_path), str(tmp_path / "not" / "yet" / "there"), "/var/lib/docker"}
    device, kind, free = found["mount"][str(tmp_path)]
    assert device and kind and free > 0


def test_the_identity_is_this_users() -> None:
    identity = fact_on_this_machine(WorkstationIdentity())
    assert identity["uid"] == os.getuid() and identity["home"] == os.environ["HOME"]
    assert identity["arch"] == os.uname().machine
    assert identity["userland"] in ("amd64", "arm64") and identity["system"]


def identity_with(os_release: Path) -> Any:
    """The fact's real command where /etc/os-release is another file."""
    fact = WorkstationIdentity()
    script = fact.command().replace("/etc/os-release", str(os_release))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=30)
    return fact.process(done.stdout.splitlines())


def test_a_distribution_made_from_ubuntu_is_read_as_that_ubuntu(tmp_path: Path) -> None:
    os_release = tmp_path / "os-release"
    os_release.write_text(
        'ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_ID="22"\nVERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble\n'
        'PRETTY_NAME="Linux Mint 22"\n'
    )
    found = identity_with(os_release)
    assert (found["distro"], found["release"], found["codename"]) == ("ubuntu", "24.04", "noble")
    assert (found["system"], found["derived"], found["home"]) == ("Linux Mint 22", True, os.environ["HOME"])


def test_a_machine_that_does_not_say_what_it_is_does_not_shift_the_other_answers(tmp_path: Path) -> None:
    found = identity_with(tmp_path / "missing")
    assert (found["distro"], found["release"], found["codename"], found["system"]) == ("unknown", "", "", "unknown")
    assert found["arch"] == os.uname().machine and found["userland"] in ("amd64", "arm64")


DOCKER = """#!/bin/sh
test -z "$DENIED" || exit 1
case "$*" in
version*) echo 26.1 ;;
'port our-server') echo '8080/tcp -> 127.0.0.1:18080' ;;
'images --format image {{.Tag}} claude-local/llama-server') echo image b1-cpu-0; echo image b1-cuda12.8.1-0 ;;
esac
"""


def seen_by_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sudo: str) -> dict[str, Any]:
    """The fact's real script for an ordinary user with a docker and a sudo of ours."""
    for name, script in {"docker": DOCKER, "id": "#!/bin/sh\necho 1000\n", "sudo": f"#!/bin/sh\n{sudo}\n"}.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found: dict[str, Any] = fact_on_this_machine(
        PreflightFindings(), containers=["our-server"], files=[], runtime="/nothing", paths=[]
    )
    return found


@pytest.mark.parametrize(
    ("denied", "sudo"), [("", "exit 1"), ("yes", 'test $1 = -n && shift; unset DENIED; exec "$@"')]
)
def test_docker_is_asked_by_a_user_of_its_group_and_else_as_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, denied: str, sudo: str
) -> None:
    monkeypatch.setenv("DENIED", denied)
    found = seen_by_a_user(tmp_path, monkeypatch, sudo)
    assert (found["ours"], found["image"]) == ([18080], ["b1-cpu-0", "b1-cuda12.8.1-0"])
    assert not found["unasked"] and found["root"] is bool(denied)


def test_a_docker_behind_a_sudo_password_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENIED", "yes")
    found = seen_by_a_user(tmp_path, monkeypatch, "echo 'sudo: a password is required' >&2; exit 1")
    assert found["unasked"] and not found["root"] and found["ours"] == []


class OverSsh:
    """A host whose sudo wants a password: the fact says the more when it is asked through sudo."""

    connector_data: ClassVar[dict[str, str]] = {}

    def __init__(self, data: dict[str, str]) -> None:
        self.data, self.asked = data, list[bool]()

    def get_fact(self, fact: type, _sudo: bool = False, **arguments: Any) -> dict[str, Any]:
        assert fact is PreflightFindings and arguments == {"containers": ["c"]}
        self.asked.append(_sudo)
        docker = {"root": True, "ours": [8080], "image": ["b1-cpu-0"]} if _sudo else {"unasked": True}
        return {**PreflightFindings.default(), "listen": [8080], **docker}


@pytest.mark.parametrize(
    ("data", "terminal", "uid", "asked"),
    [
        ({"_sudo_password": "x"}, False, 1000, True),
        ({}, True, 1000, True),
        ({}, False, 1000, False),
        ({}, True, 0, False),
    ],
)
def test_our_own_server_is_known_where_sudo_wants_a_password(
    monkeypatch: pytest.MonkeyPatch, data: dict[str, str], terminal: bool, uid: int, asked: bool
) -> None:
    host = OverSsh(data)
    monkeypatch.setattr(preflight, "host", host)
    monkeypatch.setattr(preflight, "config", Config())
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"isatty": lambda _: terminal})())
    seen = preflight.read_findings(uid, True, containers=["c"])
    assert host.asked == ([False, True] if asked else [False])
    assert (seen["ours"], seen["image"]) == (([8080], ["b1-cpu-0"]) if asked else ([], []))
    assert not seen["root"], "that sudo wants a password stays known"


@pytest.mark.parametrize("package", [False, True])
def test_a_snaps_docker_is_noticed_where_no_other_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: bool
) -> None:
    for name in ("snap", *(["package"] if package else [])):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "docker").symlink_to(tmp_path / "snap")  # as /snap/bin/docker leads to /usr/bin/snap
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    command = PreflightFindings().command(containers=["c"], files=[], runtime="/nothing", paths=[]).get_raw_value()
    script = command.replace("/usr/bin/docker", str(tmp_path / "package"))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert PreflightFindings().process(done.stdout.splitlines())["snap"] is not package
