"""What the launcher reports when the kernel, the remounter or the watch fails during a session."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from claude_local.fence import bubblewrap, files, messages, remount
from tests.fence.station import LAUNCHER, Station

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
WORDS = "lose their guard"


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


def changed(station: Station, change: str) -> None:
    """Start a launcher that first runs ``change``, Python with some of the launcher's modules."""
    driver = station.add(
        station.share / "driver.py",
        f"import os, signal, sys\nsys.path.insert(0, {str(PROJECT)!r})\n"
        f"from claude_local.fence import bubblewrap, files, launch, remount, session_report\n"
        f"from tests.fence import fence_alone\n{change}\n"
        "sys.exit(fence_alone.main(sys.argv[1:]))\n",
    )
    words = station.words
    station.words = lambda *a, **k: [  # type: ignore[method-assign]
        str(driver) if word == str(LAUNCHER) else word for word in words(*a, **k)
    ]


NO_CALL = """
real = remount._call
def call(number, what, *words):
    if what == {0!r}:
        raise OSError({1}, what)
    return real(number, what, *words)
remount._call = call
"""
NOTHING = """
def nothing(*_):
    raise OSError(1, "not permitted")
remount.{0} = nothing
"""


@pytest.mark.parametrize("number", [1, 38], ids=["EPERM", "ENOSYS"])
@pytest.mark.parametrize("call", ["open_tree", "mount_setattr", "move_mount", "fsopen", "fsmount"])
def test_a_kernel_without_the_mount_calls_is_reported(station: Station, call: str, number: int) -> None:
    """An old kernel, or a container that filters the calls. The session runs, and the user is warned."""
    changed(station, NO_CALL.format(call, number))
    done = station.run("#\nseen['ran'] = 1")
    assert done.returncode == 0 and station.record()["ran"] == 1
    assert WORDS in done.stderr and "a disk, a vault" not in done.stderr


@pytest.mark.parametrize("name", ["enter_namespaces", "make_mounts_private"])
def test_a_namespace_that_cannot_be_entered_is_reported(station: Station, name: str) -> None:
    changed(station, NOTHING.format(name))
    done = station.run()
    assert done.returncode == 0 and WORDS in done.stderr and "a disk, a vault" in done.stderr


def test_a_session_without_problems_prints_nothing(station: Station) -> None:
    assert station.run().stderr == ""


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "raise MemoryError"])
def test_an_early_end_of_the_remounter_is_reported(station: Station, end: str) -> None:
    changed(
        station,
        f"real, rounds = remount.mount_points, []\ndef mount_points(table):\n    rounds.append(1)\n"
        f"    if len(rounds) > 1:\n        {end}\n"
        "    return real(table)\nremount.mount_points = mount_points",
    )
    with station.running("") as process:
        station.wait_for(lambda: not helpers(process.pid))
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert "ended early" in said


def helpers(launcher: int) -> list[str]:
    """The launcher's running children, without bubblewrap."""
    children = []
    for number in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        status = Path(f"/proc/{number}/status").read_text()
        if "python" in status.splitlines()[0] and "State:\tZ" not in status:
            children.append(number)
    return children


# A session that makes a file as soon as it can.
PLANTS = """
def plant():
    while True:
        try:
            if not os.path.lexists({0!r}) or not os.listdir({0!r}):
                os.makedirs({0!r}, exist_ok=True)
                open({0!r} + "/tasks.json", "x").close()
        except OSError:
            pass
import threading
threading.Thread(target=plant, daemon=True).start()
"""


@pytest.mark.parametrize("filled", [True, False], ids=["guarded", "stub"])
def test_a_file_that_a_session_made_where_a_guard_was_removed_is_reported(station: Station, filled: bool) -> None:
    """A removed file takes its mount with it. A session that tries all the time may be faster than the remounter."""
    settings = station.workspace / ".vscode"
    if filled:
        station.add(settings / "settings.json", "{}")
    with station.running(PLANTS.format(".vscode")) as process:
        planted = settings / "tasks.json"
        for _ in range(500):
            shutil.rmtree(settings)
            station.wait_for(lambda: planted.exists() or ".vscode" in guarded_of(process.pid))
            if planted.exists():
                break
        station.wait_for(lambda: ".vscode" in guarded_of(process.pid))
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert planted.exists(), "the session was never first"
    assert f"{settings} was removed or replaced outside" in said


def guarded_of(launcher: int) -> set[str]:
    """The names of the mount points in the session."""
    names: set[str] = set()
    for number in helpers(launcher):
        table = os.open(f"/proc/{number}/mountinfo", os.O_RDONLY)
        names |= {os.path.basename(path) for path in remount.mount_points(table)}
        os.close(table)
    return names


def test_a_guarded_file_that_an_editor_replaces_is_not_reported(station: Station) -> None:
    guarded = station.add(station.workspace / ".envrc", "mine")
    with station.running("") as process:
        for number in range(50):
            station.add(guarded.with_name("new"), str(number)).rename(guarded)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert said == "" and guarded.read_text() == "49"


def test_the_last_look_waits_for_the_sessions_last_process(station: Station) -> None:
    """bubblewrap ends with its first child; the kernel kills the child's own children a moment later."""
    changed(
        station,
        "real_wait, real_look = bubblewrap.wait, session_report.last_look\n"
        "def wait(bubblewrap, claude):\n"
        "    session_report.space = os.readlink(f'/proc/{claude}/ns/pid')\n"
        "    return real_wait(bubblewrap, claude)\n"
        "def look(*words):\n"
        "    def is_of(number):\n"
        "        try:\n            ours = os.readlink(f'/proc/{number}/ns/pid') == session_report.space\n"
        "            return ours and ') Z ' not in open(f'/proc/{number}/stat').read()\n"
        "        except OSError:\n            return False\n"
        "    left = [each for each in os.listdir('/proc') if each.isdigit() and is_of(each)]\n"
        "    session_report.note(f'{len(left)} are left')\n"
        "    return real_look(*words)\n"
        "bubblewrap.wait, session_report.last_look = wait, look",
    )
    busy = "for _ in range(30):\n    if os.fork() == 0:\n        while True: pass\n"
    for _ in range(3):
        assert station.run("#\n" + busy).stderr == "claude-local: 0 are left\n"


def test_a_last_look_that_fails_is_reported_with_what_it_found(station: Station) -> None:
    changed(
        station,
        "from claude_local.fence import watch\n"
        "def fails(*_):\n    raise ValueError('a text that nobody thought of')\n"
        "watch.read_tracked = fails",
    )
    repository = "os.makedirs('lib/.git/hooks'); open('lib/.git/hooks/pre-commit', 'w').close()\n"
    subprocess.run(["git", "init", "-q", str(station.workspace)], check=True, timeout=30)
    done = station.run("#\n" + repository + "sys.exit(7)")
    assert done.returncode == 7 and "nobody thought of" in done.stderr and "Traceback" not in done.stderr
    assert "lib/.git/hooks/pre-commit" in done.stderr


def test_a_thousand_hooks_make_a_short_report(station: Station) -> None:
    done = station.run(
        "#\nos.makedirs('.git/hooks')\nfor each in range(1000): open(f'.git/hooks/h{each}', 'w').close()"
    )
    assert len(done.stderr.splitlines()) == messages.LINES + 1 and "and 980 more" in done.stderr
    assert not [name for name in os.listdir(station.workspace / ".git" / "hooks") if "blocked" not in name]


def test_an_added_directory_of_a_killed_session_is_checked_before_the_next(station: Station) -> None:
    other = station.home / "projects" / "other"
    other.mkdir()
    plant = (
        f"os.makedirs({str(other)!r} + '/.git/hooks'); open({str(other)!r} + '/.git/hooks/pre-commit', 'w').close()\n"
    )
    words = station.words
    station.words = lambda *a, **k: words("--add-dir", str(other), *a, **k)  # type: ignore[method-assign]
    # Otherwise the session's own watch would rename the hook.
    changed(station, "from claude_local.fence.watch import Watch\nWatch.look = lambda self: None")
    with station.running(plant) as process:
        station.kill(process)
    station.words = words  # type: ignore[method-assign]
    done = station.run()
    assert "was cut short" in done.stderr and not (other / ".git" / "hooks" / "pre-commit").exists()


def test_a_repository_in_claude_codes_own_directory_runs_nothing(station: Station) -> None:
    """A symlink in the workspace could lead there."""
    hook = station.config_dir / "x" / ".git" / "hooks" / "pre-commit"
    done = station.run(f"#\nos.makedirs({str(hook.parent)!r}); open({str(hook)!r}, 'w').close()")
    assert str(hook) in done.stderr and not hook.exists()


def test_a_repository_in_the_git_directory_above_the_workspace_runs_nothing(station: Station) -> None:
    top = station.workspace.parent
    subprocess.run(["git", "init", "-q", str(top)], check=True, timeout=30)
    hook = top / ".git" / "objects" / "x" / ".git" / "hooks" / "pre-commit"
    done = station.run(f"#\nos.makedirs({str(hook.parent)!r}); open({str(hook)!r}, 'w').close()")
    assert str(hook) in done.stderr and not hook.exists()


def test_the_passwd_file_may_hold_bytes_that_are_not_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of root gets a passwd file of its own."""
    monkeypatch.setattr(files, "read_bytes", lambda *_, **__: b"x:x:1000:1000:J\xf6rg:/home/x:/bin/sh\ny:x:7:7::/:\n")
    first, second = bubblewrap.account_files("/root")
    with open(first, "rb") as passwd, open(second, "rb") as group:
        assert b"y:x:7:7" in passwd.read() and group.read().startswith(b"root:x:")
