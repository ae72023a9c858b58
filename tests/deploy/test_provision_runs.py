"""`./provision` from the virtual environment on: what it runs, when it stops, and the run after an interrupted one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.test_provision import ROOT, Bare, python

DEPLOY, VERIFY = "-y @local deploy.py", "-y @local tasks/verify.py"


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
        # Its pip waits where a test says so; anything else that it is asked succeeds.
        'cat >"$3/bin/python" <<"END"\n#!/bin/sh\n'
        'case "$*" in "files/run-pip.py "*) echo pip >>"$LOG"; test ! -e hangs || exec sleep 60; '
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
    (bare.project / name).write_text(str(status))


def test_it_deploys_and_then_verifies_with_the_same_options(bare: Bare) -> None:
    status, said, ran = bare.provision("--data", "server_port=18080", "-v")
    assert status == 0, said
    assert ran == ["pip", f"{DEPLOY} --data server_port=18080 -v", f"{VERIFY} --data server_port=18080 -v"]


def test_the_environment_is_made_once_a_lock_file(bare: Bare) -> None:
    assert bare.provision()[2] == ["pip", DEPLOY, VERIFY]
    assert bare.provision()[2][3:] == [DEPLOY, VERIFY]
    (bare.project / "requirements.lock").write_text("another\n")
    assert bare.provision()[2][5:] == ["pip", DEPLOY, VERIFY]


def test_what_is_asked_for_is_run_and_nothing_else(bare: Bare) -> None:
    assert bare.provision("--dry")[2] == ["pip", "@local deploy.py --dry"]
    assert bare.provision("verify", "--data", "verify_deep=true")[2][2:] == [f"{VERIFY} --data verify_deep=true"]
    # The tests' environment has more in it; it serves a deploy too.
    assert bare.provision("test", "tests/unit")[2][3:] == ["pip", "tests/run tests/unit"]
    assert bare.provision()[2][5:] == [DEPLOY, VERIFY]


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"], ["verify", "--help"]])
def test_the_help_changes_nothing(bare: Bare, words: list[str]) -> None:
    env = {"PATH": str(bare.bin), "LOG": str(bare.log)}
    done = subprocess.run(
        ["sh", "provision", *words], cwd=bare.project, env=env, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("usage: ./provision [--dry]")
    assert not bare.log.exists() and not (bare.project / ".venv").exists()


def test_an_unknown_word_is_refused(bare: Bare) -> None:
    status, said, ran = bare.provision("verfy")
    assert (status, ran) == (1, [])
    assert said.endswith("provision: unknown command 'verfy'\n")


def test_a_failed_deploy_is_not_verified(bare: Bare) -> None:
    status_of(bare, "deploy", 1)
    status, said, ran = bare.provision()
    assert (status, ran) == (1, ["pip", DEPLOY])
    assert said.endswith("provision: the deploy failed (see above); mend it and run ./provision again\n")


def test_a_red_verify_is_a_failure(bare: Bare) -> None:
    status_of(bare, "verify", 1)
    status, said, _ = bare.provision()
    assert status == 1
    assert said.endswith("provision: set up, but verify found something wrong (see the table above)\n")
    assert bare.provision("verify")[0] == 1


def test_without_a_network_it_says_so_and_the_next_run_begins_anew(bare: Bare) -> None:
    status_of(bare, "pip", 1)
    status, said, ran = bare.provision()
    assert (status, ran) == (1, ["pip"])
    assert said.endswith(
        "provision: pip could not install requirements.lock (see above); check the network and run again\n"
    )
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
    for _ in range(300):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("waited 30 s")


def test_a_pip_that_takes_long_does_not_look_hung(tmp_path: Path) -> None:
    (tmp_path / "pip.py").write_text("import sys, time; time.sleep(1); print(*sys.argv[1:])")
    done = subprocess.run(
        [sys.executable, ROOT / "files/run-pip.py", "install", "--quiet"], text=True, capture_output=True, check=True,
        env={"PYTHONPATH": str(tmp_path), "CLAUDE_LOCAL_SAY_SECONDS": "0.2"}, timeout=60,
    )  # fmt: skip
    *progress, last = done.stdout.splitlines()
    assert progress and set(progress) == {"still fetching packages ..."}
    assert last == "install --quiet"


def test_nothing_that_it_starts_keeps_its_output_open(tmp_path: Path) -> None:
    machines = []
    for number in range(20):
        (tmp_path / str(number)).mkdir()
        machines.append(ready(tmp_path / str(number)))
    processes = [machine.start() for machine in machines]
    try:
        for process in processes:
            process.communicate(timeout=60)  # waits for the end of the pipe, so also for whatever else holds it
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert [process.returncode for process in processes] == [0] * len(processes)


def test_interrupted_while_it_makes_the_environment_it_says_so_and_carries_on(bare: Bare) -> None:
    process = hanging(bare)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.endswith("provision: interrupted; run it again and it carries on\n")
    assert bare.provision()[2][1:] == ["pip", DEPLOY, VERIFY]


def test_two_at_once_do_not_get_in_each_others_way_and_a_killed_one_holds_nothing(bare: Bare) -> None:
    process = hanging(bare)
    try:
        status, said, ran = bare.provision()
        assert (status, ran) == (1, ["pip"])
        assert said == "provision: another ./provision is running here\n"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    assert bare.provision()[2][1:] == ["pip", DEPLOY, VERIFY]
