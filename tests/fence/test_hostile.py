"""What a session leaves to make git run it outside, or to make the watch fail."""

from __future__ import annotations

import errno
import io
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_local.fence import files
from claude_local.fence.watch import Watch
from tests.fence.watching import renamed, start_watch
from tests.fence.world import git, repository, write

EVIL = "[core]\n\tfsmonitor = touch ran-outside; false\n"


def status(where: Path) -> None:
    """Run ``git status``, as a prompt or an editor does outside the fence."""
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    subprocess.run(["git", "status"], cwd=where, env=env, check=False, capture_output=True, timeout=30)


def ran(top: Path) -> list[Path]:
    return sorted(top.rglob("ran-outside"))


def hidden_repository(path: Path) -> Path:
    """A git directory at ``path`` whose configuration runs a program."""
    git("init", "--bare", path)
    (path / "config").write_text("[core]\n\tbare = false\n" + EVIL)
    return path


def common_directory(path: Path) -> Path:
    """A directory that a worktree's ``commondir`` can name. It is not a repository itself."""
    hidden_repository(path)
    (path / "HEAD").unlink()
    return path


def entry_of_a_worktree(workspace: Path, name: str | bytes, common: bytes) -> bytes:
    entry = os.path.join(os.fsencode(workspace), b".git/worktrees", os.fsencode(name))
    os.makedirs(entry)
    for file, text in (
        (b"HEAD", b"ref: refs/heads/w\n"),
        (b"commondir", common),
        (b"gitdir", os.fsencode(workspace) + b"/w/.git\n"),
    ):
        Path(os.fsdecode(os.path.join(entry, file))).write_bytes(text)
    return entry


def common_directory_with_a_blank(workspace: Path) -> None:
    """For git, blanks at the end of a path belong to it."""
    common_directory(workspace / ".git" / "worktrees" / ".. ")
    entry = entry_of_a_worktree(workspace, "x", b"../.. \n")
    write(workspace / "w" / ".git").write_bytes(b"gitdir: " + entry + b"\n")


def entry_with_a_blank(workspace: Path) -> None:
    common_directory(workspace / "data")
    entry = entry_of_a_worktree(workspace, "x", b"../..\n")
    entry_of_a_worktree(workspace, "x ", os.fsencode(workspace / "data"))
    write(workspace / "w" / ".git").write_bytes(b"gitdir: " + entry + b" \n")


def entry_with_a_strange_letter(workspace: Path) -> None:
    common_directory(workspace / "data")
    entry_of_a_worktree(workspace, "x\ufffd", b"../..\n")
    entry = entry_of_a_worktree(workspace, b"x\xff", os.fsencode(workspace / "data"))
    write(workspace / "w" / ".git").write_bytes(b"gitdir: " + entry + b"\n")


def behind_a_link_inside_the_git_directory(workspace: Path) -> None:
    hidden_repository(workspace / ".git" / "objects" / "aa" / "w" / ".git")
    (workspace / "w").symlink_to(".git/objects/aa/w")


def module_beside_the_modules(workspace: Path) -> None:
    write(repository(workspace / "lib") / "x")
    shutil.move(workspace / "lib" / ".git", workspace / ".git" / "modules" / "lib")
    module = hidden_repository(workspace / ".git" / "modules" / "lib" / "x" / "y")
    git("config", "core.worktree", str(workspace / "w"), cwd=module)
    write(workspace / "w" / ".git", f"gitdir: {module}\n")


def very_deep(workspace: Path) -> None:
    path = workspace / Path(*["d"] * 100)
    hidden_repository(path / ".git")
    (workspace / "w").symlink_to(path)


@pytest.mark.parametrize(
    "plant",
    [common_directory_with_a_blank, entry_with_a_blank, entry_with_a_strange_letter,
     behind_a_link_inside_the_git_directory,
     module_beside_the_modules, very_deep],
    ids=lambda plant: plant.__name__,
)  # fmt: skip
def test_git_runs_nothing_that_a_session_left(workspace: Path, plant: Callable[[Path], None]) -> None:
    repository(workspace)
    running = start_watch(workspace)
    plant(workspace)
    status(workspace / "w")
    assert ran(workspace), "without the watch it runs"
    for each in ran(workspace):
        each.unlink()
    assert renamed(running)
    status(workspace / "w")
    assert not ran(workspace)


def test_a_session_cannot_redirect_a_repository_of_the_users(workspace: Path) -> None:
    main, deep = repository(workspace), workspace / "a" / "b" / "c" / "d" / "e"
    for name in ("link", "file"):
        repository(deep / name)
    time.sleep(0.1)  # Files as old as the session count as its own.
    running = start_watch(workspace)
    evil = hidden_repository(main / ".git" / "evil")
    for name in ("link", "file"):
        shutil.move(deep / name / ".git", deep / name / "old")
    (deep / "link" / ".git").symlink_to(evil)
    write(deep / "file" / ".git", f"gitdir: {evil}\n")
    assert renamed(running) >= {str(deep / "link" / ".git"), str(deep / "file" / ".git")}
    for name in ("link", "file"):
        status(deep / name)
    assert not ran(workspace)


def test_a_session_cannot_redirect_a_submodule_of_the_users(workspace: Path) -> None:
    module = repository(workspace / "a" / "b" / "c" / "d" / "e") / ".git" / "modules" / "lib"
    git("init", "--bare", module)
    time.sleep(0.1)
    running = start_watch(workspace)
    assert str(module) in running.known
    shutil.move(module, workspace / "old")
    hidden_repository(workspace / "evil")
    module.symlink_to(workspace / "evil")
    assert str(module) in renamed(running)


def test_a_path_with_a_nul_does_not_stop_the_watch(workspace: Path) -> None:
    """The watch goes on after it."""
    running = start_watch(workspace)
    new = repository(workspace / "a") / ".git"
    with (new / "config").open("a") as file:
        file.write('[core]\n\tworktree = "x\0y"\n')
    entry = write(workspace / "worktrees" / "e" / "HEAD").parent
    write(entry / "commondir", "x\0y")
    hook = write(repository(workspace / "z") / ".git" / "hooks" / "pre-commit")
    assert renamed(running) == {str(entry / "commondir"), str(hook)}


def test_a_forbidden_file_behind_a_new_symlink_is_reported(workspace: Path) -> None:
    info = repository(workspace) / ".git" / "info"
    shutil.rmtree(info)
    running = start_watch(workspace)
    write(workspace / "x" / "attributes", "* filter=x\n")
    info.symlink_to("../x")
    assert renamed(running) == set() and str(info / "attributes") in running.changed
    assert len(running.changed) == len(set(running.changed))


def test_a_renamed_file_is_not_renamed_again(workspace: Path) -> None:
    running = start_watch(workspace)
    hook = write(repository(workspace) / ".git" / "hooks" / "pre-commit")
    for _ in range(3):
        write(hook)
        running.look()
    assert {path for path, _, _ in running.stop()} == {str(hook)}


def test_many_hooks_are_renamed_in_reasonable_time(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing the directory again for each hook would take hours."""
    running = start_watch(workspace)
    hooks = repository(workspace / "a") / ".git" / "hooks"
    for number in range(500):
        (hooks / f"h{number}").touch()
    listed: list[object] = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda *words: listed.append(words) or real(*words))
    assert len(renamed(running)) == 500 and len(listed) < 100


# --- files that the watch reads ---------------------------------------------------------------------------------------


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def long_prefixes(path: Path) -> None:
    """Some 30,000 entries, each with a path of a million bytes when expanded."""
    entry = b"\0" * 60 + b"\x80\x01"
    first = entry + b"\0" + b"n" * 1_000_000 + b"\0"
    path.write_bytes(b"DIRC" + struct.pack(">II", 4, 30_001) + first + (entry + b"\0x\0") * 30_000)


def long_number(path: Path) -> None:
    """The number of bytes to drop from the previous path has seven million bits."""
    path.write_bytes(b"DIRC" + struct.pack(">II", 4, 9) + b"\0" * 62 + b"\xff" * 1_000_000 + b"\0")


@pytest.mark.parametrize("make", [pipe, device, long_prefixes, long_number], ids=lambda make: make.__name__)
def test_a_malformed_index_takes_little_time_and_memory(workspace: Path, make: Callable[[Path], None]) -> None:
    """The test runs in a process with limited memory and time."""
    repository(workspace)
    index = workspace / ".git" / "index"
    index.unlink()
    make(index)
    program = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (20, 20))\n"
        "from claude_local.fence import tracked_names\n"
        "tracked_names._TIMEOUT = 2\n"
        "assert not tracked_names.read_tracked(sys.argv[1] + '/.git').is_readable\n"
    )
    words = [sys.executable, "-c", program, str(workspace)]
    subprocess.run(words, cwd=Path(__file__).parents[2], check=True, timeout=60, capture_output=True)


def test_a_workspace_may_hold_a_long_chain_of_symlinks(workspace: Path) -> None:
    """Linux follows forty symlinks, Python about a thousand."""
    for number in range(1500):
        (workspace / f"l{number}").symlink_to(f"l{number + 1}")
    (workspace / ".envrc").symlink_to("l0")
    (workspace / "a").mkdir()
    (workspace / "a" / ".git").symlink_to("../l0")
    running = start_watch(workspace)
    config = repository(workspace / "new") / ".git" / "config"
    git("config", "core.worktree", "../../l0", cwd=config.parent)
    assert renamed(running) == set(), "nothing is there"


def test_a_configuration_may_hold_a_nul(workspace: Path) -> None:
    config = repository(workspace) / ".git" / "config"
    config.write_text(config.read_text() + "[include]\n\tpath = a\0b\n[core]\n\thooksPath = c\0d\n\tpager = ./e\0f\n")
    assert renamed(start_watch(workspace)) == set()


def test_a_file_without_data_at_the_moment_reads_as_empty(tmp_path: Path) -> None:
    """/proc/kmsg is such a file, and a symlink may lead there."""

    class Waiting(io.BytesIO):
        def read(self, *_: object) -> Any:
            return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.open", lambda *_, **__: Waiting())
        assert files.read_text(str(write(tmp_path / "x"))) == ""


def test_a_directory_with_a_too_long_path_is_reported(workspace: Path) -> None:
    """A path can be longer than the system calls accept."""
    running = start_watch(workspace)
    directory = os.open(workspace, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("n" * 250, dir_fd=directory)
        inner = os.open("n" * 250, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = inner
    os.close(directory)
    running.stop()
    subprocess.run(["rm", "-r", "n" * 250], cwd=workspace, check=True)
    assert len(running.unsearched) == 1 and running.unsearched[0].startswith(str(workspace / ("n" * 250)))


def test_a_directory_that_cannot_be_opened_is_reported(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start_watch(workspace)
    (workspace / "a").mkdir()
    running._survey.join()
    real = os.scandir

    def scandir(path: str) -> Any:
        if path == str(workspace / "a"):
            raise OSError(errno.EMFILE, "Too many open files", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    running.stop()
    assert running.unsearched == [str(workspace / "a")]


# --- files that the watch writes --------------------------------------------------------------------------------------


def deep_repository(workspace: Path) -> Path:
    """The git directory of a repository that no mount guards."""
    return repository(workspace / "a" / "b" / "c" / "d" / "e") / ".git"


def changed_by_a_session(workspace: Path, config: Path) -> Watch:
    time.sleep(0.1)  # Files as old as the session count as its own.
    running = start_watch(workspace)
    with config.open("ab") as file:
        file.write(EVIL.encode())
    return running


def test_a_configuration_gets_its_bytes_and_mode_back(workspace: Path) -> None:
    config = deep_repository(workspace) / "config"
    before = config.read_bytes() + b"[user]\n\tname = J\xf6rg\r\n"
    config.write_bytes(before)
    config.chmod(0o600)
    assert renamed(changed_by_a_session(workspace, config)) == {str(config)}
    assert config.read_bytes() == before and config.stat().st_mode & 0o777 == 0o600


def test_a_configuration_that_could_not_be_written_back_is_reported(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session may fill the disk."""
    config = deep_repository(workspace) / "config"
    running = changed_by_a_session(workspace, config)

    def full(text: str) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsencode", full)
    ((path, what, _),) = running.stop()
    assert path == str(config) and "written back" in what and not config.exists()


@pytest.mark.parametrize("kind", ["link", "long"])
def test_a_linked_or_long_configuration_of_the_users_stays(workspace: Path, kind: str) -> None:
    """git-new-workdir makes symlinks, and ten thousand branches make a megabyte."""
    config = deep_repository(workspace) / "config"
    if kind == "link":
        shutil.move(config, workspace / "shared")
        config.symlink_to(workspace / "shared")
    else:
        config.write_text(config.read_text() + f"# {'x' * 125}\n" * (1 << 13))
    time.sleep(0.1)
    running = start_watch(workspace)
    assert renamed(running) == set()
    running = changed_by_a_session(workspace, workspace / "shared" if kind == "link" else config)
    assert renamed(running) == {str(config)}


def test_a_hook_in_a_read_only_directory_is_renamed(workspace: Path) -> None:
    hooks = write(repository(workspace / "a") / ".git" / "hooks" / "pre-commit").parent
    program = (
        "import os, sys\n"
        "from claude_local.fence.watch import Watch\n"
        "os.chmod(sys.argv[2], 0o555)\n"
        "print(Watch([sys.argv[1]], {}, {}).look_back(0, 1e12))\n"
    )
    words = [sys.executable, "-c", program, str(workspace), str(hooks)]
    if os.getuid() == 0:
        # root, but bound by the permissions of files
        words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", "--", *words]
    subprocess.run(words, cwd=Path(__file__).parents[2], check=True, timeout=60)
    assert not (hooks / "pre-commit").exists()


def test_a_file_that_cannot_be_renamed_is_reported(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start_watch(workspace)
    hook = write(repository(workspace / "a") / ".git" / "hooks" / "pre-commit")

    def rename(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "rename", rename)
    assert running.stop() == [] and running.changed == [str(hook)]


# --- false alarms, and sessions that act before the survey is done ----------------------------------------------------


def test_hooks_of_the_users_template_directory_stay(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hooks with the same names stay only if their text is the same, and if the session cannot write the templates."""
    template = write(workspace.parent / "template" / "hooks" / "pre-commit", "mine\n").parents[1]
    planted = write(workspace / "template" / "hooks" / "post-commit", "evil\n").parents[1]
    home = workspace.parent / "home"
    write(home / ".gitconfig", f"[init]\n\ttemplateDir = {template}\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(planted))
    running = start_watch(workspace)
    for name in ("a", "b", "c"):
        git("init", f"--template={planted if name == 'c' else template}", workspace / name)
    (workspace / "b" / ".git" / "hooks" / "pre-commit").write_text("evil\n")
    assert renamed(running) == {
        str(workspace / "b" / ".git" / "hooks" / "pre-commit"),
        str(workspace / "c" / ".git" / "hooks" / "post-commit"),
    }


def test_an_info_exclude_that_changed_before_the_survey_is_reported(workspace: Path) -> None:
    """The session changed the file before the watch has surveyed the workspace."""
    tops = [repository(workspace / "near"), repository(workspace / "a" / "b" / "c" / "d" / "e")]
    running = Watch([str(workspace)], {}, {}, [str(tops[0] / ".git")])
    time.sleep(0.1)  # Files as old as the session count as its own.
    excludes = [write(top / ".git" / "info" / "exclude", "*.py\n") for top in tops]
    running.known.add(str(tops[1] / ".git"))
    running.start()
    assert renamed(running) == set() and set(running.changed) == set(map(str, excludes))


def test_a_survey_that_takes_too_long_is_reported(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_local.fence.watch.SURVEY_TIMEOUT", 0.01)
    running = start_watch(workspace)
    ended = threading.Event()
    running._survey = threading.Thread(target=ended.wait)
    running._survey.start()
    running.stop()
    ended.set()
    assert running.unsearched == [str(workspace)]
