"""A bare Debian 13 without Python and npm, as an ordinary user.

It runs every stage that needs no Docker, twice. Then it installs Docker (but builds no image), and repeats the stages
with the Rust tools of Ubuntu 26.04. The tests are one story and run in order.

The network is this machine's, except where Docker's daemon runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.integration import second_docker
from tests.integration.debian_root import Debian, bootstrapped

STORY = True
pytestmark = pytest.mark.integration

STAGES = [f"tasks/{stage}.py" for stage in ("preflight", "packages", "runtime", "fence", "claude", "home", "commands")]
# This machine's own server uses the default ports.
PORTS = "--data server_port=18090 --data manager_port=18091"

# Runs a session in the user's home against the scripted backend, and prints the result of its command.
SESSION = r"""
import json, os, subprocess
from pathlib import Path
from claude_local.paths import Paths
from claude_local.verify.scripted_backend import ScriptedBackend, text, tool_use

home, token = Path.home(), "a-token"
paths = Paths(home=str(home), model_dir="", bin_dir=str(home / "bin"))
for path, words in {
    paths.token: token,
    paths.profiles: json.dumps({"default": "p", "profiles": {"p": {"tools": "full"}}}),
}.items():
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(words)
workspace = home / "work"
workspace.mkdir()
command = 'echo "fence: $CLAUDE_LOCAL_FENCE"; touch ~/outside; touch inside'
with ScriptedBackend([tool_use("Bash", {"command": command}), text("Done.")], token=token) as backend:
    subprocess.run(
        [paths.wrapper, "-p", "Go on.", "--allowedTools", "Bash"], cwd=workspace, stdin=subprocess.DEVNULL, check=True,
        env={**os.environ, "CLAUDE_LOCAL_SERVER": backend.url}, timeout=120,
    )
    print(json.dumps(backend.main_requests[-1]["body"]["messages"][-1]))
"""


# Builds and runs an image the way the image stage does, with the BuildKit features of our Dockerfile.
SMALL_IMAGE = r"""
import subprocess
from pathlib import Path
from claude_local.docker import commands as docker

context = Path.home() / "context"
(context / "data").mkdir(parents=True)
(context / "data/x").write_text("bound")
(context / "sh").write_bytes(Path("/bin/busybox").read_bytes())
(context / "sh").chmod(0o755)
(context / "Dockerfile").write_text(
    "ARG BASE\nFROM ${BASE} AS builder\nCOPY sh /bin/sh\nARG WORDS\n"
    "RUN --mount=type=bind,source=data,target=/src --mount=type=cache,id=c,target=/cache,sharing=locked"
    " echo \"$WORDS $(cat /src/x)\" >/said\n"
    "FROM ${BASE} AS runtime\nCOPY --from=builder /bin/sh /bin/sh\nCOPY --from=builder /said /said\n"
    'USER 10001:10001\nENTRYPOINT ["/bin/sh", "-c", "cat /said"]\n'
)
words = docker.build("/usr/bin/docker", str(context), "small:1", {"BASE": "scratch", "WORDS": "two words"}, {"l": "v"})
subprocess.run(["sudo", *words], check=True)
subprocess.run(["sudo", *docker.version_of("/usr/bin/docker", "small:1")], check=True)
"""

# Ubuntu 26.04's sudo and coreutils are the ones written in Rust (older versions here).
RUST_TOOLS = r"""set -e
apt-get -q install -y --no-install-recommends sudo-rs rust-coreutils >&2
cp /usr/bin/ln /root/ln
for tool in /usr/lib/cargo/bin/coreutils/*; do
  for place in /usr/bin /usr/sbin; do
    if test -e "$place/${tool##*/}"; then /root/ln -sf "$tool" "$place/${tool##*/}"; fi
  done
done
/root/ln -sf /usr/lib/cargo/bin/sudo /usr/bin/sudo
sudo --version 2>&1; ls --version; stat --version
"""


def deploy(debian: Debian, *files: str, network: bool = True) -> dict[str, int]:
    """Deploy and return pyinfra's totals."""
    done = debian.user(f".venv/bin/pyinfra --json -y @local {' '.join(files)} {PORTS}", timeout=600, network=network)
    assert done.returncode == 0
    totals: dict[str, int] = json.loads(done.stdout)["results"]["totals"]
    return totals


@pytest.fixture(scope="module")
def debian() -> Iterator[Debian]:
    with bootstrapped("trixie") as made:
        yield made


def test_dry_installs_python_and_plans_every_stage(debian: Debian) -> None:
    assert not any((debian.root / "usr/bin" / name).exists() for name in ("python3", "npm"))
    done = debian.user(f"./provision --dry {PORTS} </dev/null", timeout=600)
    assert done.returncode == 0
    assert debian.user(".venv/bin/python --version").stdout.startswith("Python 3.13")
    assert not (debian.home / ".local").exists() and not (debian.home / ".claude-local").exists()


def test_claude_code_is_installed_without_npm_present(debian: Debian) -> None:
    assert deploy(debian, *STAGES)["error"] == 0
    assert (debian.root / "usr/bin/npm").exists()
    assert debian.user("~/.local/bin/claude --version").stdout.startswith("2.1.330")


def test_both_layers_of_the_fence_work(debian: Debian) -> None:
    found = json.loads((debian.home / ".local/share/claude-local/fence.json").read_text())
    assert found["layers"] == ["outer", "inner"]


def test_a_login_shell_finds_the_command_and_it_names_what_is_missing(debian: Debian) -> None:
    done = debian.user("bash -lc 'claude-local -p hi' 2>&1 </dev/null")
    assert done.returncode == 1
    assert "./provision" in done.stdout


def test_a_sessions_command_runs_behind_both_layers(debian: Debian) -> None:
    (debian.home / "session.py").write_text(SESSION)
    done = debian.user("~/.local/share/claude-local/venv/bin/python ~/session.py", timeout=180)
    assert done.returncode == 0
    assert "fence: outer+inner" in done.stdout and "Read-only file system" in done.stdout
    assert (debian.home / "work/inside").exists() and not (debian.home / "outside").exists()


def test_a_second_deploy_changes_nothing(debian: Debian) -> None:
    totals = deploy(debian, *STAGES)
    assert (totals["success"], totals["error"]) == (0, 0)


# --- Docker: Debian's packages, its daemon, and what the image stage asks of it


def test_docker_comes_from_three_packages_and_its_daemon_answers(debian: Debian) -> None:
    with second_docker.bridge(0, "198.18.77.1/24") as bridge:
        before = second_docker.others()
        (debian.root / "etc/docker").mkdir()
        (debian.root / "etc/docker/daemon.json").write_text(second_docker.configuration(bridge))
        totals = deploy(debian, "tasks/docker.py")
        assert (totals["success"], totals["error"]) == (2, 0)
        assert second_docker.others() == before
    (debian.root / "etc/docker/daemon.json").unlink()
    packages = ["docker.io", "docker-cli", "docker-buildx"]
    asked = debian.enter("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages)
    assert sorted(asked.stdout.splitlines()) == sorted(f"{name} installed" for name in packages)


def test_its_docker_builds_and_runs_an_image_the_way_the_image_stage_does(debian: Debian) -> None:
    install = ("apt-get", "-q", "install", "-y", "--no-install-recommends", "busybox-static")
    assert debian.enter(*install, timeout=300).returncode == 0
    (debian.home / "small_image.py").write_text(SMALL_IMAGE)
    # The previous step's daemon ended with it. The stage finds Docker installed and starts it.
    script = (
        f".venv/bin/pyinfra --json -y @local tasks/docker.py {PORTS} >~/docker.json "
        "&& PYTHONPATH=. .venv/bin/python ~/small_image.py"
    )
    done = debian.user(script, timeout=300, network=False)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "two words bound"
    changed = [
        operation["name"]
        for operation in json.loads((debian.home / "docker.json").read_text())["results"]["operations"]
        if operation["success"]
    ]
    assert changed == ["Start the Docker daemon"]


def test_the_base_image_uses_the_sources_of_this_machines_apt(debian: Debian) -> None:
    """apt reads its real deb822 sources; debootstrap and docker are stand-ins."""
    tools = debian.home / "tools"
    tools.mkdir()
    made = "etc/apt/sources.list.d etc/dpkg/dpkg.cfg.d usr/share/doc usr/share/keyrings"
    scripts = {
        "debootstrap": 'for root do case $root in */root) break ;; esac; done; mkdir -p "$root"; cd "$root"; '
        f"mkdir -p {made}; : >usr/share/keyrings/debian-archive-keyring.gpg",
        "docker": "tar -xO ./etc/apt/sources.list",
    }
    for name, script in scripts.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    done = debian.user(
        'PATH="$HOME/tools:$PATH" sh files/image/base-image.sh bootstrap docker base:t debian trixie ~/scratch trixie'
    )
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("deb ")]
    signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    assert [(line[1], *line[3:]) for line in lines] == [
        (signed, "trixie", "main"), (signed, "trixie-updates", "main"),
    ]  # fmt: skip


# --- the tools of Ubuntu 26.04


def test_with_rust_sudo_and_coreutils_a_deploy_changes_nothing(debian: Debian) -> None:
    tools = debian.enter("sh", "-c", RUST_TOOLS, timeout=300)
    assert tools.returncode == 0 and "sudo-rs" in tools.stdout and "GNU coreutils" not in tools.stdout
    totals = deploy(debian, *STAGES)
    assert (totals["success"], totals["error"]) == (0, 0)


def test_with_rust_tools_the_runtime_and_the_fence_can_be_rebuilt(debian: Debian) -> None:
    assert debian.user("rm -r ~/.local/share/claude-local").returncode == 0
    assert deploy(debian, "tasks/runtime.py", "tasks/fence.py")["error"] == 0
    found = json.loads((debian.home / ".local/share/claude-local/fence.json").read_text())
    assert found["layers"] == ["outer", "inner"]
