"""`./provision` from the virtual environment on: what it runs, when it stops, how it continues when interrupted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from claude_local.deploy.signals import descendants
from tests.deploy.test_provision import ROOT, Bare, python

DEPLOY = "-y @local deploy.py"
VERIFY_ALL = "-y @local tasks/verify.py"
VERIFY = f"{VERIFY_ALL} --data verify_changed=true"


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    return ready(tmp_path)


def ready(folder: Path) -> Bare:
    """A machine with a Python, whose pyinfra ends with the status in the project's file ``deploy`` or ``verify``."""
    made = Bare(folder)
    made.release(ID="debian", VERSION_CODENAME="bookworm", PRETTY_NAME="Debian GNU/Linux 12 (bookworm)")
    python(made.bin, "python3", (3, 11))
    script = (made.bin / "python3").read_text()
    environment = (
        '-m) mkdir -p "$3/bin"\n'
        # Its pip hangs while the file "hangs" exists. Everything else succeeds.
        'cat >"$3/bin/python" <<"END"\n#!/bin/sh\n'
        'case "$*" in "-I claude_local/run_pip.py "*) echo pip >>"$LOG"; test ! -e hangs || exec sleep 60; '
        'exit "$(cat pip 2>/dev/null || echo 0)" ;; esac\n'
        'case $1 in tests/run) echo "$*" >>"$LOG" ;; esac\nEND\n'
        'cat >"$3/bin/pyinfra" <<"END"\n#!/bin/sh\necho "$*" >>"$LOG"\n'
        'case $* in *deploy.py*) exit "$(cat deploy 2>/dev/null || echo 0)" ;; esac; '
        'exit "$(cat verify 2>/dev/null || echo 0)"\nEND\n'
        'chmod +x "$3/bin/python" "$3/bin/pyinfra"; exit ;;\n'
    )
    start, end = script.index("-m) "), script.index("exit ;;\nesac") + len("exit ;;\n")
    (made.bin / "python3").write_text(script[:start] + environment + script[end:])
    return made


def status_of(bare: Bare, name: str, status: int) -> None:
    """Let ``name`` (deploy, verify or pip) exit with ``status`` from now on."""
    (bare.project / name).write_text(str(status))


def test_it_deploys_and_then_verifies_with_the_same_options(bare: Bare) -> None:
    status, messages, log = bare.provision("--data", "server_port=18080", "-v")
    assert status == 0, messages
    assert log == ["pip", f"{DEPLOY} --data server_port=18080 -v", f"{VERIFY} --data server_port=18080 -v"]


def test_the_environment_is_created_once_per_lock_file(bare: Bare) -> None:
    assert bare.provision()[2] == ["pip", DEPLOY, VERIFY]
    assert bare.provision()[2][3:] == [DEPLOY, VERIFY]
    (bare.project / "requirements.lock").write_text("another\n")
    assert bare.provision()[2][5:] == ["pip", DEPLOY, VERIFY]


def test_each_command_runs_its_own_steps_only(bare: Bare) -> None:
    assert bare.provision("--dry")[2] == ["pip", "@local deploy.py --json --dry"]
    assert bare.provision("verify", "--data", "verify_deep=true")[2][2:] == [f"{VERIFY_ALL} --data verify_deep=true"]
    # The tests' environment serves a deploy too.
    assert bare.provision("test", "tests/unit")[2][3:] == ["pip", "tests/run tests/unit"]
    assert bare.provision()[2][5:] == [DEPLOY, VERIFY]


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], ["verify", "--help"]])
def test_the_help_changes_nothing(bare: Bare, arguments: list[str]) -> None:
    env = {"PATH": str(bare.bin), "LOG": str(bare.log)}
    done = subprocess.run(
        ["sh", "provision", *arguments],
        cwd=bare.project,
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith("usage: ./provision [--dry]")
    assert not bare.log.exists() and not (bare.project / ".venv").exists()


def test_an_unknown_command_is_refused(bare: Bare) -> None:
    status, messages, log = bare.provision("verfy")
    assert (status, log) == (1, [])
    assert messages.endswith("provision: unknown command 'verfy'\n")


def test_a_failed_deploy_is_not_verified(bare: Bare) -> None:
    status_of(bare, "deploy", 1)
    status, messages, log = bare.provision()
    assert (status, log) == (1, ["pip", DEPLOY])
    assert "the deploy failed" in messages and "run ./provision again" in messages


def test_failed_checks_are_a_failure(bare: Bare) -> None:
    status_of(bare, "verify", 1)
    assert bare.provision()[0] == 1
    assert bare.provision("verify")[0] == 1


def test_without_a_network_it_fails_and_the_next_run_starts_over(bare: Bare) -> None:
    status_of(bare, "pip", 1)
    status, messages, log = bare.provision()
    assert (status, log) == (1, ["pip"])
    assert "pip could not install requirements.lock" in messages and "check the network" in messages
    status_of(bare, "pip", 0)
    assert bare.provision()[2][1:] == ["pip", DEPLOY, VERIFY]


def hanging(bare: Bare) -> subprocess.Popen[str]:
    """A run in the middle of its pip, as a process group of its own."""
    (bare.project / "hangs").touch()
    process = bare.start()
    wait_until(bare.log.exists)
    (bare.project / "hangs").unlink()
    return process


def wait_until(true: Callable[[], bool]) -> None:
    """Wait up to 30 seconds for a condition."""
    for _ in range(300):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("waited 30 s")


def test_the_callers_python_settings_do_not_reach_what_it_runs(bare: Bare) -> None:
    script = (bare.project / "provision").read_text()
    setting = "export PYTHONPATH=/old PYTHONHOME=/nowhere PYTHONSTARTUP=/x CDPATH=/"
    (bare.project / "provision").write_text(script.replace("#!/bin/sh\n", f"#!/bin/sh\n{setting}\n", 1))
    python = bare.bin / "python3"
    python.write_text(python.read_text().replace("#!/bin/sh\n", "#!/bin/sh\nenv >>settings\n", 1))
    assert bare.provision("--dry")[0] == 0
    settings = (bare.project / "settings").read_text()
    assert "PATH=" in settings and "PYTHON" not in settings and "CDPATH" not in settings


def test_a_slow_pip_does_not_look_hung(tmp_path: Path) -> None:
    (tmp_path / "pip.py").write_text("import sys, time; time.sleep(1); print(*sys.argv[1:])")
    done = subprocess.run(
        [sys.executable, ROOT / "claude_local/run_pip.py", "install", "--quiet"], text=True, capture_output=True,
        check=True, env={"PYTHONPATH": str(tmp_path), "CLAUDE_LOCAL_SAY_SECONDS": "0.2"},
        timeout=60,
    )  # fmt: skip
    *progress, last = done.stdout.splitlines()
    assert progress and set(progress) == {"still fetching packages ..."}
    assert last == "install --quiet"


def test_no_process_it_starts_keeps_its_output_open(tmp_path: Path) -> None:
    machines = []
    for number in range(20):
        (tmp_path / str(number)).mkdir()
        machines.append(ready(tmp_path / str(number)))
    processes = [machine.start() for machine in machines]
    try:
        for process in processes:
            process.communicate(timeout=60)  # returns when every process that holds the pipe has ended
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert [process.returncode for process in processes] == [0] * len(processes)


def test_after_an_interrupted_pip_the_next_run_continues(bare: Bare) -> None:
    process = hanging(bare)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130
    assert messages.endswith("provision: interrupted; run it again to continue\n")
    assert bare.provision()[2][1:] == ["pip", DEPLOY, VERIFY]


def gone(pids: set[int]) -> bool:
    """Whether none of them runs any more. A process closes its files a moment before it is gone."""
    for _ in range(50):
        if not running(pids):
            return True
        time.sleep(0.1)
    return False


def running(pids: set[int]) -> set[int]:
    """Those of the processes that have not ended."""
    alive = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                alive.add(pid)
    return alive


@pytest.mark.parametrize(("number", "status"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_it_alone_ends_what_it_runs(bare: Bare, number: int, status: int) -> None:
    process = hanging(bare)
    pids = descendants(process.pid)
    process.send_signal(number)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == status and pids
    assert messages.endswith("provision: interrupted; run it again to continue\n")
    assert gone(pids)


def test_what_it_runs_ends_when_it_is_killed(bare: Bare) -> None:
    process = hanging(bare)
    pids = descendants(process.pid)
    process.kill()
    process.communicate(timeout=60)  # returns when every process that holds the pipe has ended
    assert pids and gone(pids)


def test_pyinfra_can_ask_the_person_at_the_terminal(bare: Bare) -> None:
    bare.provision()
    pyinfra = bare.project / ".venv/bin/pyinfra"
    pyinfra.write_text('#!/bin/sh\nprintf "Password: "; read -r answer; echo "answer: $answer" >>"$LOG"\n')
    env = {"PATH": str(bare.bin), "LOG": str(bare.log), "HOME": str(bare.project)}
    with pexpect.spawn("sh", ["provision", "verify"], cwd=str(bare.project), env=env, timeout=60) as terminal:
        terminal.expect("Password: ")
        terminal.sendline("horse")
        terminal.expect(pexpect.EOF)
        assert terminal.wait() == 0
        assert bare.log.read_text().splitlines()[-1] == "answer: horse"
    with pexpect.spawn("sh", ["provision", "verify"], cwd=str(bare.project), env=env, timeout=60) as terminal:
        terminal.expect("Password: ")
        terminal.sendintr()
        terminal.expect("interrupted")
        terminal.expect(pexpect.EOF)
        assert terminal.wait() == 130


def test_a_second_run_is_refused_and_a_killed_one_leaves_no_lock(bare: Bare) -> None:
    process = hanging(bare)
    try:
        status, messages, log = bare.provision()
        assert (status, log) == (1, ["pip"])
        assert messages.startswith("provision: another ./provision is running here")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    assert bare.provision()[2][1:] == ["pip", DEPLOY, VERIFY]
