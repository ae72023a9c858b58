"""The server's container, tested from inside. (verify reads the container's configuration instead.)"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.machine import PYINFRA, docker, run, verify

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

CONTAINER = "claude-local-server"


def inside(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in the container, with the server's user and restrictions."""
    words = [docker(), "exec", CONTAINER, "bash", "-c", script]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def status() -> dict[str, str]:
    """/proc/PID/status of llama-server, the first child of init."""
    script = (
        'for p in /proc/[0-9]*; do case $(readlink "$p/exe") in */llama-server) cat "$p/status"; exit ;; esac; done'
    )
    done = inside(script)
    assert done.returncode == 0, done.stderr
    return dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)


def test_the_server_has_no_root_and_no_capabilities_and_can_gain_none(status: dict[str, str]) -> None:
    for uids in (status["Uid"], status["Gid"]):
        assert "0" not in uids.split()
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"


def test_only_its_tmp_is_writable_and_nothing_runs_from_there() -> None:
    for path in ("/x", "/models/x", "/etc/claude-local/x", "/usr/local/bin/x"):
        done = inside(f"echo 1 >{path}")
        assert done.returncode != 0 and ("Read-only" in done.stderr or "denied" in done.stderr), path
    mounts = {line.split()[1]: line.split()[3].split(",") for line in inside("cat /proc/mounts").stdout.splitlines()}
    assert all("ro" in mounts[path] for path in ("/", "/models", "/etc/claude-local"))
    assert {"rw", "nosuid", "nodev", "noexec"} <= set(mounts["/tmp"])
    done = inside("cp /bin/true /tmp/t && /tmp/t; echo $?; rm -f /tmp/t")
    assert done.stdout.split() == ["126"]


def test_it_runs_under_init_with_limits_on_memory_and_processes() -> None:
    assert inside("cat /proc/1/comm").stdout.strip() in ("docker-init", "tini")
    memory, pids = inside(
        "cd /sys/fs/cgroup; cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes;"
        "cat pids.max 2>/dev/null || cat pids/pids.max"
    ).stdout.split()
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert int(memory) < machine
    assert int(pids) == 512


def test_it_listens_on_one_loopback_address_and_has_no_key_in_its_arguments() -> None:
    words = [docker(), "container", "inspect", CONTAINER]
    found: dict[str, Any] = json.loads(subprocess.run(words, capture_output=True, check=True, timeout=60).stdout)[0]
    port = found["HostConfig"]["PortBindings"]["8080/tcp"][0]["HostPort"]
    listening = []
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}") as lines:
            listening += [line.split()[1] for line in lines if line.split()[3] == "0A"]
    assert [address for address in listening if address.endswith(f":{int(port):04X}")] == [f"0100007F:{int(port):04X}"]
    token = inside("cat /etc/claude-local/api-key").stdout.strip()
    assert len(token) >= 32
    arguments = inside("cat /proc/*/cmdline /proc/1/environ | tr '\\0' ' '").stdout
    assert "--api-key-file" in arguments and "--cors-origins http://localhost" in arguments
    assert token not in arguments and token not in json.dumps(found)


# A machine beside this one: another network namespace, whose replies find the way back to the container.
HERE, BESIDE = "198.51.100.1", "198.51.100.2"


@pytest.fixture
def beside() -> Iterator[str]:
    namespace = subprocess.Popen(["unshare", "--net", "sleep", "600"], stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while os.readlink(f"/proc/{namespace.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            assert time.monotonic() < until, "unshare makes no namespace"
            time.sleep(0.02)
        enter = ["nsenter", "--net", "--target", str(namespace.pid), "ip"]
        for argv in (
            ["ip", "link", "add", "cl-here", "type", "veth", "peer", "name", "cl-beside", "netns", str(namespace.pid)],
            ["ip", "address", "add", f"{HERE}/24", "dev", "cl-here"],
            ["ip", "link", "set", "cl-here", "up"],
            [*enter, "address", "add", f"{BESIDE}/24", "dev", "cl-beside"],
            [*enter, "link", "set", "cl-beside", "up"],
            [*enter, "route", "add", "default", "via", HERE],
        ):
            subprocess.run(argv, check=True, timeout=30)
        yield BESIDE
    finally:
        subprocess.run(["ip", "link", "delete", "cl-here"], check=False, timeout=30)
        namespace.kill()
        namespace.wait(30)


def attempt(address: str) -> str:
    """The end of bash's message about a connection to a closed port; a refusal shows that the packets arrived."""
    done = inside(f"timeout 8 bash -c 'exec 3<>/dev/tcp/{address}/9'")
    return done.stderr.strip().splitlines()[-1].rpartition(": ")[2] if done.stderr.strip() else "open or silent"


def test_the_container_reaches_no_other_machine_and_no_other_address_of_this_one(beside: str) -> None:
    words = [docker(), "container", "inspect", "--format", "{{json .NetworkSettings.Networks}}", CONTAINER]
    networks = json.loads(subprocess.run(words, capture_output=True, check=True, timeout=60).stdout)
    assert list(networks) == ["claude-local"]
    start = networks["claude-local"]["IPAddress"].rpartition(".")[0]
    assert attempt(f"{start}.1") == "Connection refused", "the bridge shows that the attempt itself works"
    assert attempt(HERE) == attempt(beside) == "No route to host"


def test_the_container_resolves_no_names() -> None:
    assert inside("getent ahosts localhost").returncode == 0
    # Without a wait for a name server that does not answer, which takes at least ten seconds.
    assert inside("timeout 8 getent ahosts example.com").returncode == 2


def test_a_docker_that_warns_each_time_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{broken")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    warned = subprocess.run([docker(), "version"], capture_output=True, text=True, check=True, timeout=60)
    assert "config.json" in warned.stderr
    stages = [f"tasks/{stage}.py" for stage in ("preflight", "docker", "image", "server")]
    done = run(PYINFRA, "--json", "-y", "@local", *stages, timeout=600)
    totals = json.loads(done.stdout)["results"]["totals"]
    assert (totals["success"], totals["error"]) == (0, 0)
    status, rows = verify("--data", "verify_only=docker.*,image.*,container.*")
    assert status == 0 and {row["status"] for row in rows.values()} == {"PASS"}
