"""Stubs are removed with the last session that needs them, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from claude_local.fence.ledger import LAG, Ledger
from claude_local.fence.stubs import remove_stubs

PROJECT = Path(__file__).parents[2]


class Place:
    """A workspace and the directory of the ledgers."""

    def __init__(self, tmp_path: Path) -> None:
        base = Path(os.path.realpath(tmp_path))
        self.state, self.workspace = base / "state", base / "work space\nwith é"
        self.workspace.mkdir()

    def session(self, *stubs: str) -> Ledger:
        """A session that has made ``stubs``. The names of directories end with a slash."""
        ledger = Ledger(str(self.state), str(self.workspace))
        ledger.record(str(self.workspace / name) for name in stubs)
        self.make(*stubs)
        return ledger

    def make(self, *stubs: str) -> None:
        for name in stubs:
            path = self.workspace / name
            path.mkdir(exist_ok=True) if name.endswith("/") else path.touch()

    def forget(self, ledger: Ledger) -> None:
        """Close the ledger as the kernel does when a session is killed."""
        os.close(ledger._file)
        os.close(ledger._directory)

    @property
    def names(self) -> set[str]:
        return set(os.listdir(self.workspace))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_stubs_of_a_session_are_removed_at_its_end(place: Place) -> None:
    session = place.session(".claude/", ".envrc")
    session.record([str(place.workspace / "never-made")])
    assert place.names == {".claude", ".envrc"}
    session.close()
    assert place.names == set()


def test_shared_stubs_are_removed_with_the_last_session(place: Place) -> None:
    first, second = place.session(".claude/", ".envrc"), place.session(".claude/", ".idea/")
    assert {os.path.basename(path.rstrip("/")) for path in second.recorded()} == {".claude", ".envrc", ".idea"}
    first.close()
    assert place.names == {".claude", ".envrc", ".idea"}
    second.close()
    assert place.names == set()


def test_the_order_in_which_sessions_end_does_not_matter(place: Place) -> None:
    sessions = [place.session(".claude/", f"stub{number}") for number in range(5)]
    for number in (3, 0, 4, 1):
        sessions[number].close()
        assert ".claude" in place.names
    sessions[2].close()
    assert place.names == set()


def test_stubs_in_stubs_are_removed(place: Place) -> None:
    place.session(".claude/", ".claude/hooks/", ".claude/x").close()
    assert place.names == set()


def test_the_stubs_of_an_ended_session_are_forgotten(place: Place) -> None:
    place.session(".claude/").close()
    assert place.session().recorded() == []


def test_a_session_removes_no_stub_of_another_workspace(place: Place, tmp_path: Path) -> None:
    session = place.session(".claude/")
    other = Ledger(str(place.state), str(tmp_path))
    assert other.recorded() == session.recorded() != []
    other.record([])
    other.close()
    assert place.names == {".claude"}
    session.close()
    assert place.names == set()


@pytest.mark.parametrize("first", [0, 1])
def test_a_stub_of_two_workspaces_is_removed_with_the_last_session(place: Place, tmp_path: Path, first: int) -> None:
    """Both workspaces lie in one repository, or one directory was added to both."""
    shared = place.workspace / ".git" / "commondir"
    shared.parent.mkdir()
    sessions = []
    for name in ("one", "two"):
        sessions.append(Ledger(str(place.state), str(tmp_path / name)))
        sessions[-1].record([str(shared)])
    shared.touch()
    sessions.pop(first).close()
    assert shared.exists()
    sessions.pop().close()
    assert not shared.exists()


def test_the_stubs_of_a_killed_session_elsewhere_do_not_count(place: Place, tmp_path: Path) -> None:
    killed = place.session(".claude/")
    os.close(killed._file)
    assert Ledger(str(place.state), str(tmp_path)).recorded() == []


def test_a_stopped_session_does_not_block_others(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_local.fence.ledger.LOCK_TIMEOUT", 0.05)
    stopped = Ledger(str(place.state), str(place.workspace))
    session = place.session(".claude/")
    session.close()
    assert place.names == {".claude"}, "the stopped one may need it"
    stopped.record([])
    stopped.close()
    assert place.names == set()


def test_the_stubs_of_killed_sessions_are_removed_at_the_next_start(place: Place) -> None:
    program = (
        "import sys, time\n"
        "from claude_local.fence.ledger import Ledger\n"
        "ledger = Ledger(sys.argv[1], sys.argv[2])\n"
        "ledger.record([sys.argv[2] + '/.claude', sys.argv[2] + '/.envrc'])\n"
        "print('here', flush=True)\n"
        "time.sleep(60)\n"
    )
    words = [sys.executable, "-c", program, str(place.state), str(place.workspace)]
    with subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None and killed.stdout.readline() == b"here\n"
        place.make(".claude/", ".envrc")
        beside = place.session()
        assert len(beside.recorded()) == 2 and place.names == {".claude", ".envrc"}
        killed.send_signal(signal.SIGKILL)
        killed.wait(timeout=60)
    os.close(beside._file)  # killed as well
    session = place.session()
    assert place.names == set() and session.recorded() == []


def test_a_stub_that_holds_something_stays(place: Place) -> None:
    session = place.session(".claude/", ".envrc", ".idea/")
    (place.workspace / ".claude" / "settings.json").write_text("{}")
    (place.workspace / ".envrc").write_text("x")
    session.close()
    assert place.names == {".claude", ".envrc"}


def test_nothing_is_removed_behind_a_symlink(place: Place, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "empty").mkdir(parents=True)
    (outside / "file").touch()
    session = place.session()
    session.record(str(place.workspace / name) for name in ("link", "d/empty", "d/file", "link-to-file"))
    (place.workspace / "d").symlink_to(outside)
    (place.workspace / "link").symlink_to(outside / "empty")
    (place.workspace / "link-to-file").symlink_to(outside / "file")
    session.close()
    assert set(os.listdir(outside)) == {"empty", "file"}
    assert place.names == {"d", "link", "link-to-file"}, "and a link is nobody's stub"


def test_pipes_and_sockets_stay(place: Place) -> None:
    os.mkfifo(place.workspace / "pipe")
    remove_stubs([str(place.workspace / "pipe")])
    remove_stubs([str(place.workspace / "none")])
    assert place.names == {"pipe"}


def test_only_the_user_can_read_the_ledger(place: Place) -> None:
    session = place.session(".claude/")
    assert place.state.stat().st_mode & 0o777 == 0o700
    assert [file.stat().st_mode & 0o777 for file in place.state.iterdir()] == [0o600]
    session.close()


def test_a_stub_is_recorded_once(place: Place) -> None:
    session = place.session(".claude/")
    session.record([str(place.workspace / ".claude/"), str(place.workspace / ".claude")])
    assert len(session.recorded()) == len(set(session.recorded()))
    session.close()


def test_a_session_that_ended_is_not_interrupted(place: Place) -> None:
    first = place.session(".envrc")
    second = place.session(".claude/")
    assert first.interrupted is None and second.interrupted is None
    second.close()
    first.close()
    assert place.session().interrupted is None


def test_the_next_session_knows_a_killed_one(place: Place) -> None:
    """When it began, when it last beat, and which repositories existed before it."""
    before = time.time()
    session = place.session(".envrc")
    session.know(["/a b/.git", "/c\nd/.git"])
    place.forget(session)
    (file,) = place.state.iterdir()
    os.utime(file, (before + 50, before + 50))
    found = place.session()
    assert found.interrupted is not None and ".envrc" not in place.names
    assert before - 1 < found.interrupted.began < time.time() + 1
    assert abs(found.interrupted.ended - before - 50 - LAG) < 1
    assert found.interrupted.known == {"/a b/.git", "/c\nd/.git"}
    found.close()
    assert place.session().interrupted is None


def test_the_next_session_knows_one_that_was_killed_beside_another(place: Place) -> None:
    """A repository that the killed session made stays its own, even if the other session knew it."""
    killed = place.session(".envrc")
    killed.know(["/old/.git"])
    beside = Ledger(str(place.state), str(place.workspace))
    beside.record([], ["/old/.git", "/new/.git"], ["/beside"])
    place.forget(killed)
    beside.close()
    assert ".envrc" not in place.names
    found = place.session()
    assert found.interrupted is not None and found.interrupted.known == {"/old/.git"}
    assert found.interrupted.workspaces == (), "that one came to its end"
    found.close()
    assert place.session().interrupted is None


def test_the_next_session_knows_the_workspaces_of_killed_ones(place: Place) -> None:
    for number in range(2):
        session = Ledger(str(place.state), str(place.workspace))
        session.record([], [], [str(place.workspace), f"/added {number}"])
        os.close(session._file)
    found = place.session().interrupted
    assert found is not None and found.workspaces == (str(place.workspace), "/added 1")


def test_a_damaged_ledger_holds_no_session(place: Place) -> None:
    place.forget(place.session())
    (file,) = place.state.iterdir()
    file.write_bytes(b"\0\0@x\0@\0+\0=1 x\0\xff\0-")
    session = place.session()
    assert session.interrupted is None
    session.close()


def test_a_beat_sets_the_time_of_the_ledger(place: Place) -> None:
    session = place.session()
    (file,) = place.state.iterdir()
    os.utime(file, (1, 1))
    session.beat()
    assert file.stat().st_mtime > 1
    session.close()
    session.beat()
