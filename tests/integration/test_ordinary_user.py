"""./provision as an ordinary user with sudo, next to root's installation. The tests are one story and run in order."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from claude_local.manager.container import container_name
from tests.integration.accounts import sudoer
from tests.integration.machine import ROOT, ROWS, copy_project, docker, run

STORY = True
pytestmark = pytest.mark.integration

USER = "claude-local-user"
CONTAINER = "claude-local-server-user"
PASSWORD = "correct horse"
DATA = (
    "--data server_port=18080 --data manager_port=18081 "
    f"--data server_container={CONTAINER} "
    """--data 'model_profiles=["qwen2.5-coder-0.5b"]'"""
)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with sudoer(USER) as path:
        checkout = path / "claude-local"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True, timeout=120)
        copy_project(checkout)
        subprocess.run(["chown", "-R", f"{USER}:", str(checkout)], check=True)
        try:
            yield path
        finally:
            subprocess.run(
                [docker(), "rm", "--force", CONTAINER, container_name(CONTAINER)], capture_output=True, check=False
            )


def provision(home: Path, arguments: str = DATA, timeout: int = 1800) -> subprocess.CompletedProcess[str]:
    return run("su", "-", USER, "-c", f"cd claude-local && ./provision {arguments}", timeout=timeout)


def test_dry_on_a_new_account_creates_only_the_venv(home: Path) -> None:
    assert provision(home, f"--dry {DATA}").returncode == 0
    assert not (home / ".claude-local").exists() and not (home / ".local/share/claude-local").exists()


def test_an_interrupted_run_reports_it_and_exits_130(home: Path) -> None:
    process = subprocess.Popen(
        ["su", "-", USER, "--session-command", f"cd claude-local && exec ./provision {DATA}"],
        stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if "Make the runtime's Python environment" in line:
            time.sleep(3)
            os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    assert process.wait(120) == 130, "".join(seen[-20:])
    assert "interrupted; run it again" in "".join(seen[-5:])


def test_the_next_run_continues_and_verifies(home: Path) -> None:
    assert provision(home, f"{DATA} --data 'verify_only={ROWS}'").returncode == 0
    report = json.loads((home / ".local/share/claude-local/state/verify.json").read_text())
    assert [row["id"] for row in report["rows"] if row["status"] == "FAIL"] == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_signal_in_the_middle_of_verify_ends_everything(home: Path, number: int, status: int) -> None:
    process = subprocess.Popen(
        ["su", "-", USER, "--session-command", f"cd claude-local && echo $$ && exec ./provision verify {DATA}"],
        stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    provision = int(process.stdout.readline())
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith("PASS"):
            os.kill(provision, number)
            break
    # The pipe ends with the last process that has it.
    rest, _ = process.communicate(timeout=120)
    assert process.returncode in (status, 128 - status), "".join([*seen, rest])
    if number == signal.SIGTERM:
        assert rest.endswith("provision: interrupted; run it again to continue\n")
    for _ in range(120):
        listed = subprocess.run(["pgrep", "-a", "-u", USER], capture_output=True, text=True, timeout=60).stdout
        # The containers' programs have the user's number.
        left = [line for line in listed.splitlines() if not re.search("llama-server|claude_local.manager", line)]
        if not left:
            break
        time.sleep(0.5)
    assert left == []


def test_sudo_asks_once_and_the_next_run_does_not_wait(home: Path) -> None:
    rules = Path("/etc/sudoers.d") / USER
    before = rules.read_text()
    subprocess.run(["chpasswd"], input=f"{USER}:{PASSWORD}\n", text=True, check=True, timeout=60)
    rules.write_text(f"{USER} ALL=(ALL) ALL\n")
    try:
        # An interactive login: `su -c` has no terminal to ask on.
        with pexpect.spawn("su", ["-", USER], encoding="utf-8", timeout=60, dimensions=(40, 200)) as login:
            login.expect(r"\$ ")
            # The pipe to cat ends with the run only if no leftover process holds it.
            for arguments in ("--dry ", ""):
                login.sendline(
                    f"cd ~/claude-local && ./provision {arguments}{DATA} | cat; echo status=${{PIPESTATUS[0]}}"
                )
                asked = 0
                while login.expect([f"password for {USER}: ", r"status=(\d+)"], timeout=600) == 0:
                    login.sendline(PASSWORD)
                    asked += 1
                assert isinstance(login.match, re.Match) and login.match[1] == "0", login.before
                assert asked == (1 if arguments else 0), "sudo remembers between the two"
    finally:
        rules.write_text(before)


def test_the_user_owns_every_file_and_the_token_is_private(home: Path) -> None:
    token = home / ".config/claude-local/token"
    assert oct(token.stat().st_mode & 0o777) == "0o600" and token.stat().st_uid == home.stat().st_uid
    strangers = [str(p) for p in home.rglob("*") if p.lstat().st_uid != home.stat().st_uid]
    assert strangers == []


def test_the_command_is_on_path_in_a_new_login_shell_and_answers(home: Path) -> None:
    done = run(
        "su",
        "-",
        USER,
        "-c",
        'mkdir -p project && cd project && claude-local --tools "" -p "Reply with the word ready."',
        timeout=600,
    )
    assert done.returncode == 0 and done.stdout.strip()


def test_a_second_provision_changes_nothing(home: Path) -> None:
    done = run(
        "su", "-", USER, "-c", f"cd claude-local && .venv/bin/pyinfra --json -y @local deploy.py {DATA}", timeout=600
    )
    assert done.returncode == 0
    totals = json.loads(done.stdout)["results"]["totals"]
    assert (totals["success"], totals["error"]) == (0, 0)


def test_the_docker_group_setting_adds_the_user_once(home: Path) -> None:
    def groups() -> list[str]:
        return subprocess.run(["id", "-nG", USER], capture_output=True, text=True, check=True).stdout.split()

    command = "cd claude-local && .venv/bin/pyinfra --json -y @local tasks/docker.py --data docker_group=true"
    assert "docker" not in groups()
    for changes in (1, 0):
        done = run("su", "-", USER, "-c", f"{command} {DATA}", timeout=120)
        assert done.returncode == 0
        totals = json.loads(done.stdout)["results"]["totals"]
        assert (totals["success"], totals["error"]) == (changes, 0)
        assert "docker" in groups()
