"""git's configuration behind the fence: a session changes a copy, and what is harmless is carried over."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fence.station import Station
from tests.fence.world import git, repository

pytestmark = pytest.mark.slow


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


@pytest.fixture
def config(station: Station) -> Path:
    """The configuration of the workspace's repository."""
    return repository(station.workspace) / ".git" / "config"


def session(station: Station, *lines: str) -> tuple[str, list[list[object]]]:
    """Run shell lines in a session: what the launcher said, and the status and output of each line."""
    program = f"""#
import subprocess
for line in {lines!r}:
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    seen.setdefault("ran", []).append([done.returncode, done.stdout + done.stderr])
"""
    done = station.run(program)
    assert done.returncode == 0, done.stderr
    return done.stderr, station.record()["ran"]


def outside(station: Station, line: str) -> str:
    return subprocess.run(
        line, shell=True, cwd=station.workspace, capture_output=True, text=True, timeout=20, check=True
    ).stdout


def test_harmless_changes_work_and_are_there_outside(station: Station, config: Path) -> None:
    top, inode = station.workspace, config.stat().st_ino
    repository(top / "lib")
    for words in (["branch", "other"], ["remote", "add", "up", str(top)], ["fetch", "-q", "up"]):
        git(*words, cwd=top)
    said, ran = session(
        station, "git config user.email a@b.example", "git remote add o https://example.org/x",
        "git switch -q -c topic --track up/other", "git branch -m main mainer", "git worktree add -q wt",
        "cd lib && git config user.email c@d.example",
    )  # fmt: skip
    assert (said, [status for status, _ in ran]) == ("", [0] * 6), ran
    assert outside(station, "git config user.email; git remote get-url o; git config branch.topic.merge") == (
        "a@b.example\nhttps://example.org/x\nrefs/heads/other\n"
    )
    assert outside(station, "git branch; git -C lib config user.email").split() == [
        "mainer", "other", "*", "topic", "+", "wt", "c@d.example",
    ]  # fmt: skip
    assert config.stat().st_ino == inode, "its guard is never lost"
    assert not Path(f"{config}.lock").exists()


WAYS = [
    "git config core.fsmonitor ./evil",
    "printf '[core]\n\tfsmonitor = ./evil\n' >>.git/config",
    "printf '[core' >>.git/config",
    "rm -f $(readlink .git/config)",
    "ln -sf /etc/passwd $(readlink .git/config)",
]


def test_what_git_would_obey_is_taken_back_and_reported(station: Station, config: Path) -> None:
    before = config.read_text()
    check = "sleep 0.6; git config core.fsmonitor; git config core.bare"
    said, ran = session(station, *(line for way in WAYS for line in (way, check)))
    assert config.read_text() == before
    assert "core.fsmonitor=./evil" in said and "was taken back" in said and str(config) in said
    assert ran[1::2] == [[0, "false\n"]] * len(WAYS), "also in the session"


def test_the_configuration_outside_is_out_of_a_sessions_reach(station: Station, config: Path) -> None:
    before = config.read_bytes(), config.stat().st_ino
    session(
        station, "rm -f .git/config", "mv .git/config x", "echo x >x; mv -f x .git/config", "ln -sf /x .git/config",
        "umount .git/config", "unshare -Urm umount .git/config",
        "unshare -Urm sh -c 'umount -l .git; echo x >>.git/config'", "mv .git old",
        "rm -rf /run/claude-local-git/0; ln -s $PWD/.git /run/claude-local-git/0; sleep 0.4",
        "rm -rf /run/claude-local-git; ln -s /etc /run/claude-local-git; sleep 0.4",
    )  # fmt: skip
    assert (config.read_bytes(), config.stat().st_ino) == before


def in_session(station: Station, program: str, act: Callable[[], None]) -> str:
    """What the launcher said after ``act`` outside, while ``program`` ran inside."""
    with station.running(f"import subprocess\n{program}") as process:
        act()
        process.send_signal(signal.SIGTERM)
        return process.communicate(timeout=60)[1]


def test_git_outside_is_not_blocked_and_is_seen_inside(station: Station, config: Path) -> None:
    got = station.workspace / "got"

    def act() -> None:
        git("config", "user.name", "Outside", cwd=station.workspace)
        station.wait_for(lambda: got.exists() and "Outside" in got.read_text())

    read = "while 'Outside' not in open('.git/config').read(): time.sleep(0.05)\nopen('got', 'w').write('Outside')\n"
    # Written down first, so that the test knows that the session runs.
    assert in_session(station, "put_down()\n" + read, act) == ""
    assert "Outside" in config.read_text()


def test_a_program_that_git_outside_would_run_never_stands_in_the_configuration(station: Station, config: Path) -> None:
    """Not for a moment: a shell's prompt or an editor runs git all the time."""
    seen: list[str] = []

    def act() -> None:
        for _ in range(400):
            seen.append(config.read_text())

    lines = "git config core.fsmonitor ./evil; git config user.name x"
    program = f"put_down()\nwhile True: subprocess.run({lines!r}, shell=True)\n"
    in_session(station, program, act)
    assert not [each for each in seen if "fsmonitor" in each]


def test_a_changed_remote_is_reported(station: Station, config: Path) -> None:
    git("remote", "add", "origin", "https://example.org/a", cwd=station.workspace)
    assert "changed remote origin in" in session(station, "git remote set-url origin https://example.org/b")[0]
    assert "example.org/b" in config.read_text()


def test_a_change_waits_for_git_outside(station: Station, config: Path) -> None:
    """It has read the file, and would replace it without the session's change."""
    lock = config.with_name("config.lock")

    def act() -> None:
        lock.touch()
        station.wait_for((station.workspace / "done").exists)
        time.sleep(0.6)
        assert "Inside" not in config.read_text()
        lock.unlink()
        station.wait_for(lambda: "Inside" in config.read_text())

    program = "while not os.path.exists('.git/config.lock'): time.sleep(0.02)\n"
    program += "subprocess.run('git config user.name Inside; touch done', shell=True)\n"
    assert in_session(station, "put_down()\n" + program, act) == ""


def test_a_configuration_that_vanished_is_written_again(station: Station, config: Path) -> None:
    """Claude Code removes a link there after each command, and could meet the file just when git has replaced it."""
    before = config.read_text()

    def act() -> None:
        config.unlink()
        station.wait_for(config.exists)

    in_session(station, "", act)
    assert config.read_text() == before


def test_a_shorter_text_leaves_nothing_of_the_longer_one(station: Station, config: Path) -> None:
    git("remote", "add", "origin", "https://example.org/" + "a" * 500, cwd=station.workspace)
    session(station, "git remote remove origin")
    assert "example.org" not in config.read_text() and not config.read_text().endswith("\n\n")


def test_a_configuration_that_is_a_link_stays_read_only(station: Station, config: Path) -> None:
    other = station.workspace / "shared"
    config.rename(other)
    config.symlink_to(other)
    before = other.read_text()
    assert session(station, "git config user.name x")[1][0][0] != 0 and other.read_text() == before


def test_nothing_is_left_after_a_kill(station: Station, config: Path) -> None:
    with station.running("") as process:
        station.kill(process)
    assert [line for line in outside(station, "git status --short").splitlines() if "record" not in line] == []
    git("config", "user.name", "x", cwd=station.workspace)
    station.run()
    assert {name for name in os.listdir(station.workspace) if "record" not in name} == {".git", "README"}
