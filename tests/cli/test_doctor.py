"""llama-local doctor: what it finds, what it fixes, and that it asks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from claude_local.paths import Paths
from tests.cli.documented import example, lacks
from tests.cli.test_command_line import PROJECT, llama_local
from tests.manager.scripted_router import ScriptedRouter, until
from tests.manager.stand import TOKEN, Manager

# A docker whose containers have their state in files named after them.
DOCKER = """#!/bin/sh
cd "$(dirname "$0")"
for last; do :; done
echo "$@" >>asked
if [ -e broken ]; then echo 'Cannot connect to the Docker daemon' >&2; exit 1; fi
if ! [ -e "$last" ]; then echo "Error: No such object: $last" >&2; exit 1; fi
case $1 in
inspect) cat "$last" ;;
start | restart | unpause) echo 'running ' >"$last" ;;
esac
"""


class Home:
    """A home in which nothing is wrong, with a management API and a docker."""

    def __init__(self, folder: Path, manager: Manager) -> None:
        self.folder, self.manager = folder, manager
        self.paths = Paths(home=str(folder), model_dir="", bin_dir="")
        self.bin = folder / "bin"

    def docker(self, name: str, state: str | None = None) -> str:
        """The state of a container, after it was set to ``state``."""
        if state is not None:
            (self.bin / name).write_text(f"{state} \n")
        return (self.bin / name).read_text().strip()

    def run(self, *arguments: str, port: int | None = None) -> subprocess.CompletedProcess[str]:
        return llama_local(
            "--port", str(port or self.manager.port), "--container", "a-server", *arguments,
            HOME=str(self.folder), PATH=f"{self.bin}:/usr/bin:/bin",
        )  # fmt: skip

    def found(self, *arguments: str, port: int | None = None) -> list[dict[str, Any]]:
        findings: list[dict[str, Any]] = json.loads(self.run("doctor", "--json", *arguments, port=port).stdout)[
            "findings"
        ]
        return findings


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with ScriptedRouter("small", "large") as router, Manager(tmp_path, router) as manager:
        until(lambda: manager.state() == "ready")
        result = Home(tmp_path, manager)
        paths = result.paths
        index = {"files": {}, "profiles": {}, "roots": [str(tmp_path)], "wanted": []}
        for path, text, mode in (
            (paths.token, TOKEN, 0o600),
            (f"{result.bin}/docker", DOCKER, 0o755),
            (f"{result.bin}/claude-local", f"#!/bin/sh\n# {paths.share}\n", 0o755),
            (paths.claude, "", 0o755),
            (
                paths.placements,
                json.dumps(index),
                0o644,
            ),
        ):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text)
            Path(path).chmod(mode)
        for name in ("a-server", "a-manager"):
            result.docker(name, "running")
        yield result


def test_on_a_sound_machine_it_finds_nothing(home: Home) -> None:
    done = home.run("doctor")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("no problems")


def test_without_a_terminal_it_only_shows_the_fix(home: Home) -> None:
    Path(home.paths.token).chmod(0o644)
    done = home.run("doctor")
    assert done.returncode == 1 and f"\n  Fix: chmod 600 {home.paths.token}\n" in done.stdout
    assert Path(home.paths.token).stat().st_mode & 0o777 == 0o644
    (finding,) = home.found()
    assert lacks(example("doctor")["findings"][0], finding) == []
    assert (finding["id"], finding["mendable"], finding["mended"]) == ("token", True, False)


def test_with_yes_it_mends_token_and_containers(home: Home) -> None:
    Path(home.paths.token).chmod(0o644)
    home.docker("a-server", "exited")
    home.docker("a-manager", "paused")
    done = home.run("doctor", "--yes")
    assert done.returncode == 0, done.stdout
    assert Path(home.paths.token).stat().st_mode & 0o777 == 0o600
    assert home.docker("a-server") == home.docker("a-manager") == "running"
    assert "unpause a-manager" in (home.bin / "asked").read_text()
    assert home.found() == []


def test_what_needs_a_deploy_is_not_mended(home: Home) -> None:
    (home.bin / "a-server").unlink()
    Path(home.paths.claude).unlink()
    assert [(each["id"], each["fix"]) for each in home.found("--yes")] == [
        ("claude", "./provision"), ("containers", "./provision"),
    ]  # fmt: skip


def test_a_model_file_that_is_gone_is_named_with_its_profile(home: Home) -> None:
    path = f"{home.folder}/m.gguf"
    index = {"files": {}, "profiles": {"small": {"files": [path]}}, "roots": [str(home.folder)], "wanted": []}
    Path(home.paths.placements).write_text(json.dumps(index))
    (finding,) = home.found()
    assert finding["what"] == f"{path} is missing; small needs it"


def test_another_program_of_the_name_is_found(home: Home) -> None:
    (home.bin / "claude-local").write_text("#!/bin/sh\n")
    assert [each["id"] for each in home.found()] == ["path"]
    (home.bin / "claude-local").unlink()
    assert [each["id"] for each in home.found()] == ["path"]


def test_a_stopped_process_that_holds_the_lock_goes_on(home: Home) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        Path(home.paths.placing_lock).write_text(f"{process.pid}\n")
        assert home.found() == [], "it runs"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        assert [each["mended"] for each in home.found("--yes")] == [True]
        assert home.found() == []
        process.communicate(b"\n", timeout=60)


def test_a_docker_that_does_not_answer_is_started(home: Home) -> None:
    service = home.bin / "service"
    service.write_text(f'#!/bin/sh\n[ "$*" = "docker start" ] && rm {home.bin}/broken\n')
    (home.bin / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    for name in ("service", "sudo"):
        (home.bin / name).chmod(0o755)
    (home.bin / "broken").touch()
    assert [(each["id"], each["mended"]) for each in home.found("--yes")] == [("docker", True)]


def test_a_token_that_the_containers_do_not_know(home: Home) -> None:
    Path(home.paths.token).write_text("another")
    assert [(each["id"], each["fix"]) for each in home.found()] == [("token", "./provision")]


@pytest.mark.slow
def test_a_person_in_a_terminal_is_asked(home: Home) -> None:
    Path(home.paths.token).chmod(0o644)
    program = [sys.executable, "-m", "claude_local.cli", "--port", str(home.manager.port), "--container", "a-server"]
    env = {**os.environ, "HOME": str(home.folder), "PATH": f"{home.bin}:/usr/bin:/bin", "PYTHONPATH": str(PROJECT)}
    for answer, mode in (("n", 0o644), ("", 0o600)):
        child = pexpect.spawn(program[0], [*program[1:], "doctor"], env=env, timeout=30)
        child.expect(r"Do it now\? \[Y/n\]")
        child.sendline(answer)
        child.expect(pexpect.EOF)
        child.close()
        assert Path(home.paths.token).stat().st_mode & 0o777 == mode
        assert child.exitstatus == (0 if mode == 0o600 else 1)


def test_status_shows_what_is_wrong_with_its_fix(home: Home) -> None:
    Path(home.paths.token).chmod(0o644)
    done = home.run("status")
    assert done.returncode == 0 and done.stdout.endswith(f"  Fix: chmod 600 {home.paths.token}\n")
    assert [each["id"] for each in json.loads(home.run("status", "--json").stdout)["wrong"]] == ["token"]
