"""Workspaces of every kind behind both fences: names, places, repositories, toolchains, and those that are refused."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_local.verify.scripted_backend import text, tool_use
from tests.integration.fenced_home import Person, person, snapshot
from tests.integration.slow_backend import SlowBackend, commands

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("claude_code")]


@pytest.fixture(scope="module", params=["root", "ordinary"])
def anyone(request: pytest.FixtureRequest) -> Iterator[Person]:
    with person(request.param) as somebody:
        yield somebody


@pytest.fixture(scope="module")
def user() -> Iterator[Person]:
    with person("ordinary", "claude-local-user1") as somebody:
        yield somebody


@pytest.fixture(scope="module")
def root() -> Iterator[Person]:
    with person("root") as somebody:
        yield somebody


def new_repository(who: Person, name: str) -> Path:
    """A repository with one commit."""
    path = who.workspace(name)
    who.sh("git init -q -b main; echo a >a; mkdir sub other; echo s >sub/s; git add .; git commit -qm first", path)
    return path


# --- names and places ---------------------------------------------------------------------------------------------

NAMES = {
    "spaces": "two  words",
    "quotes": 'it\'s "quoted"',
    "shell": "$HOME `id` ;& *[?]",
    "letters": "Grüße 漢字",
    "dash": "-rf",
    "newline": "two\nlines",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_workspace_may_have_any_name(user: Person, name: str) -> None:
    work = user.workspace(name)
    turns = [
        tool_use("Write", {"file_path": str(work / "by-write"), "content": "w\n"}),
        tool_use("Bash", {"command": "echo b >by-bash; grep NoNewPrivs /proc/self/status"}),
        text("Done."),
    ]
    with SlowBackend(*turns) as backend:
        done = user.bash(backend, work)
    assert done.returncode == 0, done.stderr
    assert snapshot(work) == {
        "by-write": "-rw-r--r-- 770a",
        "by-bash": "-rw-r--r-- 620a",
    }
    assert "NoNewPrivs:\t1" in backend.results()[1]


def test_a_workspace_may_be_a_link(user: Person) -> None:
    real = user.workspace("the real one")
    link = user.home / "link"
    link.symlink_to(real)
    turns = [
        tool_use("Write", {"file_path": str(real / "by-write"), "content": "w"}),
        tool_use("Bash", {"command": "echo b >by-bash"}),
        text("Done."),
    ]
    with SlowBackend(*turns) as backend:
        assert user.bash(backend, link).returncode == 0
    assert f"Primary working directory: {real}" in json.dumps(backend.main_requests[0]["body"])
    assert sorted(os.listdir(real)) == ["by-bash", "by-write"]


def test_a_workspace_may_lie_in_tmp_and_nothing_else_of_tmp_is_seen(anyone: Person) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        stranger = Path(directory) / "stranger"
        stranger.write_text("not yours")
        work = anyone.workspace("work", Path(directory))
        said = commands(anyone, work, f"echo b >by-bash; cat {stranger}; ls {directory}")
        assert (work / "by-bash").read_text() == "b\n"
        assert "not yours" not in said[0] and "stranger" not in said[0].splitlines()


def test_a_workspace_may_be_on_another_file_system(root: Person) -> None:
    place = root.home / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(place)], check=True, timeout=20)
    try:
        work = root.workspace("work", place)
        commands(root, work, "echo b >by-bash")
        assert os.listdir(work) == ["by-bash"]
    finally:
        subprocess.run(["umount", str(place)], check=True, timeout=20)


def test_a_directory_that_is_added_is_writable_and_others_are_not(user: Person) -> None:
    work, added, other = (user.workspace(f"add-{name}") for name in ("work", "dir", "other"))
    turns = [
        tool_use("Bash", {"command": planting(added / "by-bash", other / "by-bash")}),
        tool_use("Write", {"file_path": str(added / "by-write"), "content": "w"}),
        tool_use("Write", {"file_path": str(added / ".envrc"), "content": "w"}),
        text("Done."),
    ]
    with SlowBackend(*turns) as backend:
        assert user.bash(backend, work, "--add-dir", str(added)).returncode == 0
    assert sorted(os.listdir(added)) == ["by-bash", "by-write"] and os.listdir(other) == []


def test_a_workspace_that_cannot_be_written_can_be_read(anyone: Person) -> None:
    with tempfile.TemporaryDirectory(dir="/srv") as directory:
        work = Path(directory)
        (work / "note").write_text("pelican")
        work.chmod(0o755)
        owner = 0 if anyone.uid else 12345
        os.chown(work, owner, owner)
        anyone.trust(work)
        said = commands(anyone, work, "cat note; touch made")
        assert "pelican" in said[0] and "touch: cannot touch" in said[0]
        assert os.listdir(work) == ["note"]


@pytest.mark.parametrize("way", [(), ("--unfenced",)], ids=["fenced", "unfenced"])
def test_a_directory_that_is_gone_is_said_so(user: Person, way: tuple[str, ...]) -> None:
    start = f"mkdir gone; cd gone; rmdir ../gone; claude-local {' '.join(way)} -p hello"
    with SlowBackend(text("Hi.")) as backend:
        done = user.run(["bash", "-c", start], user.home, user.environment(backend))
    assert "Traceback" not in done.stderr
    assert way or (done.returncode == 1 and done.stderr.splitlines()[-1].startswith("  Fix: "))


REFUSED = [
    "/",
    "~",
    "/home",
    "/etc",
    "~/.ssh",
    "~/.claude",
    "~/.claude/ide",
    "~/.claude-local",
    "~/.local/share/claude-local",
    "~/h",
]


@pytest.mark.parametrize("place", REFUSED)
def test_a_workspace_that_would_give_everything_away_is_refused(anyone: Person, place: str) -> None:
    path = Path(place.replace("~", str(anyone.home), 1))
    if place == "~/h" and not path.is_symlink():
        path.symlink_to(anyone.home)
    elif not path.exists():
        anyone.own(anyone.workspace(str(path)))
    with SlowBackend(text("Done.")) as backend:
        done = anyone.session(backend, "-p", "hello", cwd=path)
        assert done.returncode == 1 and done.stdout == "" and backend.main_requests == []
    first, second = done.stderr.strip().splitlines()
    assert (
        first.startswith("claude-local: the workspace") and str(path.resolve()) in first
    ) or "home directory" in first
    assert second.startswith("  Fix: ")


# --- git ----------------------------------------------------------------------------------------------------------


def test_git_works_with_the_users_name_and_does_not_see_the_guards(anyone: Person) -> None:
    repo = new_repository(anyone, "git-work")
    said = commands(
        anyone, repo,
        "git status --short; echo b >b; git add -A && git commit -qm second && git status --short",
        "echo c >c; git stash -u -q && ls c; git stash pop -q && ls c && git add --all . && git commit -qm third",
        "git checkout -q -b topic HEAD~1 && echo t >t && git add -A && git commit -qm topic && git rebase -q main "
        "&& git checkout -q main && git merge -q topic && git diff --stat HEAD~1 && git log --format='%an <%ae> %s'",
        "git clean -nd; git gc -q; git fsck",
    )  # fmt: skip
    assert "??" not in said[0], "status is clean"
    assert anyone.sh("git log --format='%an <%ae> %s'", repo).splitlines() == [
        f"Ada Example <ada@example.org> {subject}" for subject in ("topic", "third", "second", "first")
    ], said
    assert anyone.sh("git status --short; git fsck --no-dangling 2>&1; git ls-files", repo).split() == [
        "a",
        "b",
        "c",
        "sub/s",
        "t",
    ]
    assert "Would remove" not in said[3]


def planting(*paths: Path | str) -> str:
    """A command that tries to write each path; in an inner shell, because Claude Code itself refuses what it can
    read."""
    return "; ".join(f"sh -c {shlex.quote(f'echo evil >>{shlex.quote(str(path))}')}" for path in paths) + "; true"


def test_from_a_subdirectory_git_commits_and_what_runs_later_is_guarded(anyone: Person) -> None:
    repo = new_repository(anyone, "git-sub")
    config = (repo / ".git/config").read_bytes()
    committed, refused, _ = commands(
        anyone, repo / "sub",
        "echo t >t; git add t && git commit -qm second; git log -1 --format=%s",
        planting("../.git/hooks/post-commit", "../other/o"),
        "git config core.hooksPath /tmp; true",
    )  # fmt: skip
    assert committed.splitlines()[0] == "second" and refused.count("Read-only file system") == 2
    assert anyone.sh("git log -1 --format=%s; git status --short", repo) == "second\n"
    assert (repo / ".git/config").read_bytes() == config and not (repo / ".git/hooks/post-commit").exists()
    assert list((repo / "other").iterdir()) == [], "the rest of the repository is not the workspace"


def test_a_linked_worktree_commits(anyone: Person) -> None:
    repo = new_repository(anyone, "git-trees")
    tree = anyone.home / "git-tree"
    anyone.sh(f"git worktree add -q {tree}", repo)
    anyone.trust(tree)
    hook = repo / ".git/hooks/post-commit"
    _, refused = commands(anyone, tree, "echo t >t; git add -A && git commit -qm second", planting(repo / "a", hook))
    assert refused.count("Read-only file system") == 2
    assert anyone.sh("git log -1 --format=%s git-tree", repo) == "second\n"
    assert anyone.sh("git status --short", tree) == "" and (repo / "a").read_text() == "a\n" and not hook.exists()


def test_a_submodule_commits_and_so_does_its_parent(anyone: Person) -> None:
    library, repo = new_repository(anyone, "git-library"), new_repository(anyone, "git-parent")
    add = f"git -c protocol.file.allow=always submodule --quiet add {library} library; git commit -qm library"
    anyone.sh(add, repo)
    module = repo / ".git/modules/library"
    config = (module / "config").read_bytes()
    _, refused = commands(
        anyone, repo,
        "cd library && echo n >n && git add -A && git commit -qm inner && cd .. && git add -A && git commit -qm outer",
        planting(module / "hooks/post-commit") + "; git config -f .git/modules/library/config core.editor evil",
    )  # fmt: skip
    assert refused.count("Read-only file system") == 1
    log = "git log -1 --format=%s; git -C library log -1 --format=%s; git status --short"
    assert anyone.sh(log, repo) == "outer\ninner\n"
    assert not (module / "hooks/post-commit").exists() and (module / "config").read_bytes() == config


# --- what is in the home directory --------------------------------------------------------------------------------


def test_toolchains_in_the_home_directory_run(user: Person) -> None:
    work = user.workspace("tools")
    real = user.write(user.home / ".pyenv/versions/3.99/bin/snake", "#!/bin/sh\necho pyenv $0\n", 0o755)
    user.write(user.home / ".pyenv/shims/snake", f'#!/usr/bin/env bash\nexec {shlex.quote(str(real))} "$@"\n', 0o755)
    user.write(user.home / ".nvm/versions/node/v99/bin/nodelike", "#!/usr/bin/env sh\necho nvm\n", 0o755)
    user.write(user.home / ".rustup/toolchains/stable/bin/cargolike", "#!/bin/sh\necho rustup\n", 0o755)
    (user.home / ".cargo/bin").mkdir(parents=True)
    (user.home / ".cargo/bin/cargolike").symlink_to(user.home / ".rustup/toolchains/stable/bin/cargolike")
    user.write(user.home / ".local/share/uv/tools/t/bin/uvlike", "#!/bin/sh\necho uv\n", 0o755)
    (user.home / ".local/bin/uvlike").symlink_to(user.home / ".local/share/uv/tools/t/bin/uvlike")
    places = (".pyenv/shims", ".nvm/versions/node/v99/bin", ".cargo/bin", ".local/bin")
    path = ":".join([*(str(user.home / place) for place in places), user.environment()["PATH"]])
    (said,) = commands(user, work, "snake; nodelike; cargolike; uvlike", PATH=path)
    assert said.splitlines()[:4] == [f"pyenv {real}", "nvm", "rustup", "uv"]


@pytest.mark.parametrize("opened", [False, True], ids=["closed by default", "opened by fence_writable"])
def test_a_cache_is_writable_when_a_setting_says_so_for_commands_and_for_the_process(
    user: Person, opened: bool
) -> None:
    work = user.workspace(f"cache-{opened}")
    cache = user.home / ".cache/builds"
    if not cache.exists():
        user.write(cache / "kept")
    # A hook runs in Claude Code's own process, outside the sandbox of the Bash tool.
    hook = {"hooks": {"SessionEnd": [{"hooks": [{"type": "command", "command": f"echo h >>{cache}/by-hook"}]}]}}
    with user.fence_with(writable=[str(cache)] if opened else []):
        commands(user, work, planting(cache / "by-bash"), arguments=("--settings", json.dumps(hook)))
    assert sorted(os.listdir(cache)) == (["by-bash", "by-hook", "kept"] if opened else ["kept"])
