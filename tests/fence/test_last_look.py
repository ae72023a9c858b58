"""The look at what a session left: it ends in time, whatever there is, and finds first what surely runs."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from claude_local.fence import git_config
from claude_local.fence.deadline import Deadline
from claude_local.fence.repository_check import RepositoryCheck
from claude_local.fence.watch import Watch
from tests.fence.station import Station
from tests.fence.watching import start_watch
from tests.fence.world import write

# It makes COUNT repositories in ``many``, and another one with a hook.
PLANT = """
for number in range(COUNT):
    git_dir = f"many/{number:04}/.git"
    for name in ("objects", "refs"):
        os.makedirs(f"{git_dir}/{name}")
    open(f"{git_dir}/HEAD", "w").write("ref: refs/heads/main\\n")
    CONFIG
os.makedirs("many/x/y/.git/hooks"); open("many/x/y/.git/hooks/pre-commit", "w").close()
for name in ("objects", "refs"):
    os.makedirs(f"many/x/y/.git/{name}")
open("many/x/y/.git/HEAD", "w").write("ref: refs/heads/main\\n")
"""
SHARED = """
    if number: os.link("many/0000/.git/config", f"{git_dir}/config")
    else: open(f"{git_dir}/config", "w").write("[user]\\n" + "a=1\\n" * SIZE)
"""
OWN = 'open(f"{git_dir}/config", "w").write(f"# {number}\\n[user]\\n" + "a=1\\n" * SIZE)'


def plant(config: str, count: int, size: int) -> str:
    return PLANT.replace("CONFIG", config.strip()).replace("COUNT", str(count)).replace("SIZE", str(size // 4))


def run(workspace: Path, program: str) -> None:
    subprocess.run(["python3", "-c", "import os\n" + program], cwd=workspace, check=True, timeout=60)


@pytest.mark.parametrize("size", [60_000, 1_000_000], ids=["readable", "too long"])
def test_many_repositories_with_one_long_configuration_take_little_time(
    workspace: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []
    real = git_config._value
    monkeypatch.setattr(git_config, "_value", lambda text: parsed.append(1) or real(text))
    running = start_watch(workspace)
    run(workspace, plant(SHARED, 120, size))
    found = {path for path, _, _ in running.stop()}
    assert str(workspace / "many/x/y/.git/hooks/pre-commit") in found
    assert (str(workspace / "many/0077/.git/config") in found) == (size > 100_000), "very long: nobody can judge it"
    assert running.unchecked == []
    assert len(parsed) < 2 * 60_000 / 4, "one result for all of them"


def test_hooks_are_found_first(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start_watch(workspace)
    run(workspace, plant(SHARED, 5, 100))

    def check_new(self: RepositoryCheck, top: str, below: str) -> None:
        if below.startswith("many"):
            running.deadline.stop()

    monkeypatch.setattr(RepositoryCheck, "check_new", check_new)
    assert {path for path, _, _ in running.stop()} == {str(workspace / "many/x/y/.git/hooks/pre-commit")}
    unchecked = {str(workspace / f"many/000{number}/.git") for number in range(5)}
    assert len(unchecked & set(running.unchecked)) >= 4, "the first one was being looked at"


def test_after_its_deadline_a_look_names_what_it_did_not_reach(workspace: Path) -> None:
    write(workspace / "a" / "x")
    running = Watch([str(workspace)], {}, {})
    running.deadline = Deadline(0.0)
    running.look_back(0, 1e12)
    assert running.unchecked == [str(workspace)] and running.deadline.why and running.unsearched == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_last_look_with_a_list(tmp_path: Path, number: int) -> None:
    station = Station(tmp_path)
    program = plant(OWN, 500, 60_000) + "os._exit(7)"
    process = subprocess.Popen(
        station.words("#\n" + program), cwd=station.workspace, env=station.environment(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "Ctrl-C stops that" in said
        process.send_signal(number)
        rest = process.communicate(timeout=60)[1]
        assert process.returncode == 7, "Claude Code's status"
        assert "was not finished: it was stopped" in rest and "many/0499/.git" not in rest and "more like that" in rest
        hook = station.workspace / "many" / "x" / "y" / ".git" / "hooks" / "pre-commit"
        assert str(hook) in rest and not os.path.lexists(hook), "hooks come first"
    finally:
        process.kill()
        process.wait()
