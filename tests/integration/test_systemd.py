"""A Debian 12 that runs systemd, as an ordinary user with sudo.

Docker is a systemd unit, ./provision verifies, a session reaches neither systemd nor D-Bus, and everything comes back
after a reboot and a power cut. The tests are one story and run in order.

The image, the models and Claude Code are this machine's.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from claude_local.manager.container import container_name
from tests.integration import second_docker
from tests.integration.fenced_home import real_claude
from tests.integration.machine import ROWS, SHARE, docker, run
from tests.integration.systemd_machine import Machine, machine, why_not

REASON = why_not()
STORY = True
pytestmark = [
    pytest.mark.integration,
    pytest.mark.usefixtures("deployed"),
    pytest.mark.skipif(bool(REASON), reason=f"systemd cannot be run beside this machine's own PID 1: {REASON}"),
]

MODELS = "/srv/models"
# This machine's own server uses the default ports, and test_debian_13 another pair.
DATA = (
    "--data server_port=18290 --data manager_port=18291 --data docker_upstream_repository=False "
    f"""--data 'model_search_dirs=["{MODELS}"]'"""
)
CONTAINER = "claude-local-server"

# Requests to systemd and D-Bus. They work in a login session and must fail in the fence.
ASKS = {
    "systemctl": "systemctl show-environment",
    "loginctl": "loginctl list-sessions",
    "the system bus": "busctl list",
    "the system bus by its address": "busctl --address=unix:path=/run/dbus/system_bus_socket list",
    "the user's systemd": "systemctl --user show-environment",
    "the user's bus": "busctl --user list",
    "the user's bus by its address": "busctl --address=unix:path=/run/user/$(id -u)/bus list",
    "the user's systemd without a bus":
        "python3 -c 'import os, socket; "
        "socket.socket(socket.AF_UNIX).connect(f\"/run/user/{os.getuid()}/systemd/private\")'",
    "a unit of the user": "systemd-run --user --wait touch ~/by-the-users-systemd",
    "a unit of root": "sudo -n systemd-run --wait touch ~/by-systemd",
}  # fmt: skip
ASKING = "".join(
    f"timeout 10 sh -c {shlex.quote(command)} >/dev/null 2>&1; echo {shlex.quote(name)}: $?\n"
    for name, command in ASKS.items()
)

# Runs a session against the scripted backend whose Bash tool makes the requests, and prints the tool's result.
SESSION = r"""
import json, os, shutil, subprocess
from pathlib import Path
from claude_local.manager.container import container_name
from claude_local.paths import Paths
from claude_local.verify.scripted_backend import ScriptedBackend, text, tool_use

paths = Paths(home=str(Path.home()), model_dir="", bin_dir=str(Path.home() / "bin"))
workspace = Path.home() / "fenced"
workspace.mkdir()
shutil.copy(Path.home() / "asks.sh", workspace)
turns = [tool_use("Bash", {"command": "sh asks.sh"}), text("Done.")]
with ScriptedBackend(turns, token=Path(paths.token).read_text().strip()) as backend:
    subprocess.run(
        [paths.wrapper, "-p", "Go on.", "--tools", "Bash", "--allowedTools", "Bash"], cwd=workspace, check=True,
        stdin=subprocess.DEVNULL, env={**os.environ, "CLAUDE_LOCAL_SERVER": backend.url}, timeout=300,
    )
    print(json.dumps(backend.main_requests[-1]["body"]["messages"][-1]))
"""


@pytest.fixture(scope="module")
def booted() -> Iterator[Machine]:
    # Another bridge than test_debian_13's: both may run at the same time.
    with (
        second_docker.forwarding(),
        second_docker.bridge(1, "198.18.78.1/24") as bridge,
        machine({SHARE / "models": MODELS}, second_docker.configuration(bridge)) as made,
    ):
        others = second_docker.others()
        assert made.boot() == "running"
        yield made
        assert set(others) <= set(second_docker.others())


def deploy(booted: Machine, file: str = "deploy.py", timeout: int = 600) -> tuple[list[str], dict[str, Any]]:
    """Deploy. Returns the names of the operations that changed something, and pyinfra's totals."""
    done = booted.user(f".venv/bin/pyinfra --json -y @local {file} {DATA}", timeout=timeout)
    assert done.returncode == 0
    results = json.loads(done.stdout)["results"]
    return [operation["name"] for operation in results["operations"] if operation["success"]], results["totals"]


def docker_unit(booted: Machine) -> dict[str, str]:
    """systemd's properties of docker.service, and the running daemons."""
    wanted = "ActiveState,UnitFileState,MainPID"
    said = booted.root("systemctl", "show", f"--property={wanted}", "docker.service").stdout
    found = dict(line.split("=", 1) for line in said.splitlines())
    running = booted.root("sh", "-c", "grep -lx dockerd /proc/[0-9]*/comm").stdout.split()
    return {**found, "daemons": " ".join(running)}


def assert_systemd_runs_docker(booted: Machine) -> None:
    unit = docker_unit(booted)
    assert (unit["ActiveState"], unit["UnitFileState"]) == ("active", "enabled")
    assert unit["daemons"] == f"/proc/{unit['MainPID']}/comm", "the only daemon is the unit's"


def assert_the_container_comes_up(booted: Machine) -> None:
    """Wait until Docker has started both containers, without a request to the server."""
    inspect = ["docker", "inspect", "--format", "{{.State.Running}}", CONTAINER, container_name(CONTAINER)]
    for _ in range(360):
        if booted.root(*inspect).stdout.split() == ["true", "true"]:
            return
        time.sleep(0.5)
    booted.root("journalctl", "--no-pager", "--boot", "--unit=docker.service", "--lines=40")
    raise AssertionError("the container does not run after the start")


def test_it_starts_with_systemd_and_without_docker(booted: Machine) -> None:
    assert booted.root("readlink", "/proc/1/exe").stdout.strip() == "/usr/lib/systemd/systemd"
    assert booted.user("systemctl --user is-system-running --wait").stdout.strip() == "running"
    assert not (booted.debian.root / "usr/bin/docker").exists()


def test_the_docker_stage_installs_a_systemd_unit(booted: Machine) -> None:
    assert booted.user(f"./provision --dry {DATA} </dev/null", timeout=600).returncode == 0
    changed, totals = deploy(booted, "tasks/docker.py")
    # The package starts it.
    assert (changed, totals["error"]) == (["Install Docker"], 0)
    assert_systemd_runs_docker(booted)
    assert booted.root("docker", "info", "--format", "{{.Driver}}").stdout.strip() == "overlay2"
    assert deploy(booted, "tasks/docker.py")[0] == []


def test_a_stopped_and_disabled_docker_is_started_through_systemd(booted: Machine) -> None:
    assert booted.user("sudo systemctl disable --now docker.service docker.socket").returncode == 0
    assert docker_unit(booted)["daemons"] == ""
    changed, totals = deploy(booted, "tasks/docker.py")
    assert (changed, totals["error"]) == (["Start the Docker daemon"], 0)
    assert_systemd_runs_docker(booted)
    assert deploy(booted, "tasks/docker.py")[0] == []


def test_provision_sets_up_and_verifies(booted: Machine) -> None:
    # A dry run prints the tag of the image.
    planned = booted.user(f".venv/bin/pyinfra --dry @local tasks/image.py {DATA} 2>&1")
    tags = set(re.findall(r"claude-local/llama-server:[\w.-]+", planned.stdout))
    assert planned.returncode == 0 and len(tags) == 1
    image = tags.pop()
    there = run(docker(), "image", "inspect", "--format", "{{.Id}}", image, timeout=60)
    assert there.returncode == 0, f"{image} is not on this machine"
    listed = run(docker(), "images", "--format", "{{.Repository}}:{{.Tag}}", "claude-local/manager", timeout=60)
    with subprocess.Popen([docker(), "save", image, *listed.stdout.split()], stdout=subprocess.PIPE) as saved:
        assert booted.root("docker", "load", stdin=saved.stdout, timeout=120).returncode == 0
    claude = real_claude()
    places = [booted.home / ".local/share/claude/versions", booted.home / ".local/bin"]
    for place in places:
        place.mkdir(parents=True)
    shutil.copy2(claude, places[0])
    (places[1] / "claude").symlink_to(f"/home/{booted.home.name}/.local/share/claude/versions/{claude.name}")
    assert booted.root("chown", "-hR", f"{booted.home.name}:", f"/home/{booted.home.name}/.local").returncode == 0

    # The model is asked after the reboot.
    done = booted.user(f"./provision {DATA} --data 'verify_only={ROWS}'", timeout=1800)
    assert done.returncode == 0
    report = json.loads((booted.home / ".local/share/claude-local/state/verify.json").read_text())
    rows = {row["id"]: row for row in report["rows"]}
    assert {name: row["evidence"] for name, row in rows.items() if row["status"] != "PASS"} == {}
    assert {"scripted.write", "claude.terminal", "credentials.own", "fence.sockets"} <= set(rows)
    uid = booted.home.stat().st_uid
    for socket in ("/run/dbus/system_bus_socket", "/run/systemd/private",
                   f"/run/user/{uid}/bus", f"/run/user/{uid}/systemd/private"):  # fmt: skip
        assert socket in rows["fence.sockets"]["evidence"], "it was there and tried"


def test_a_session_reaches_neither_systemd_nor_a_bus(booted: Machine) -> None:
    (booted.home / "asks.sh").write_text(ASKING)
    outside = booted.user("sh ~/asks.sh", timeout=180).stdout.splitlines()
    assert outside == [f"{name}: 0" for name in ASKS], "without the fence all of it works"
    made = [booted.home / name for name in ("by-the-users-systemd", "by-systemd")]
    for path in made:
        path.unlink()

    (booted.home / "session.py").write_text(SESSION)
    done = booted.user("~/.local/share/claude-local/venv/bin/python ~/session.py", timeout=400)
    assert done.returncode == 0
    (result,) = json.loads(done.stdout.splitlines()[-1])["content"]
    said = result["content"] if isinstance(result["content"], str) else result["content"][0]["text"]
    answers = dict(re.findall(r"^(.+): (\d+)$", said, re.MULTILINE))
    assert set(answers) == set(ASKS)
    assert [name for name, status in answers.items() if status == "0"] == []
    assert not any(path.exists() for path in made)


def test_after_a_reboot_the_server_runs_and_a_deploy_changes_nothing(booted: Machine) -> None:
    assert booted.reboot() == "running"
    assert_systemd_runs_docker(booted)
    assert_the_container_comes_up(booted)
    question = "What is 2 + 3? Reply with the number only."
    asked = f'cd && mkdir -p project && cd project && claude-local --tools "" -p "{question}"'
    done = booted.user(asked, timeout=600)
    assert done.returncode == 0
    assert "5" in done.stdout
    changed, totals = deploy(booted)
    assert (changed, totals["success"], totals["error"]) == ([], 0, 0)


def test_after_a_power_cut_verify_passes(booted: Machine) -> None:
    booted.cut_power()
    assert booted.boot() == "running"
    assert_systemd_runs_docker(booted)
    assert_the_container_comes_up(booted)
    changed, totals = deploy(booted, "tasks/server.py")
    # The default profile may still be loading.
    assert totals["error"] == 0 and set(changed) <= {"Wait until the default profile answers"}
    verified = booted.user(f"./provision verify {DATA} --data 'verify_only=container.*,server.*'", timeout=600)
    assert verified.returncode == 0
