"""git behind both fences and outside at the same time: its configuration, and what git status shows."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from claude_local.verify.scripted_backend import text, tool_use
from tests.integration.fenced_home import Person, parents_of, person
from tests.integration.slow_backend import SlowBackend
from tests.integration.tty import LONGEST

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("claude_code")]

# Waits for the test. A command may take two minutes.
PAUSE = "touch $1.begun; for i in $(seq 900); do [ -e $1.end ] && break; sleep 0.1; done; rm -f $1.begun $1.end"


@pytest.fixture(scope="module", params=["root", "ordinary"])
def who(request: pytest.FixtureRequest) -> Iterator[Person]:
    with person(request.param) as somebody:
        yield somebody


@pytest.fixture
def repo(who: Person, work: Path) -> Path:
    """A repository with one commit, a second branch, and itself as a remote."""
    who.sh(
        "git init -q -b main; printf '*.begun\n*.end\n' >.gitignore; git add .; git commit -qm first; "
        "git branch other; git remote add up .; git fetch -q up",
        work,
    )
    return work


def during(who: Person, repo: Path, act: Callable[[], object], *before: str) -> list[str]:
    """Run commands in a session, and ``act`` outside during the last one of its own; what the commands said."""
    pause = f"sh -c '{PAUSE.replace('$1', 'pause')}'"
    turns = [*(tool_use("Bash", {"command": line}) for line in [*before, pause]), text("Done.")]
    with SlowBackend(*turns) as backend, ThreadPoolExecutor() as pool:
        done = pool.submit(who.bash, backend, repo)
        wait_for(lambda: (repo / "pause.begun").exists() or done.done())
        try:
            act()
        finally:
            who.write(repo / "pause.end")
        assert done.result().returncode == 0, done.result().stderr
        assert "claude-local:" not in done.result().stderr
        return backend.results()


def wait_for(seen: Callable[[], bool]) -> None:
    until = time.monotonic() + LONGEST
    while not seen():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_git_changes_its_configuration_and_nothing_is_half_done(who: Person, repo: Path) -> None:
    lines = (
        "git config user.email ada@work.example",
        "git remote add fork https://example.org/fork",
        "git switch -q -c topic --track up/other",
        "git branch -m main trunk",
        "git worktree add -q ./tree",
    )

    def outside() -> None:
        """Not even while a command runs is git blocked outside."""
        wait_for(lambda: '"topic"' in (repo / ".git/config").read_text())
        who.sh("git config user.name Outside; git remote add mine https://example.org/mine", repo)

    said = during(who, repo, outside, *(f"{line} && echo fine" for line in lines))
    assert [each.splitlines()[-1] for each in said[:-1]] == ["fine"] * len(lines), said
    assert who.sh("git remote get-url fork; git remote get-url mine; git config branch.topic.merge", repo) == (
        "https://example.org/fork\nhttps://example.org/mine\nrefs/heads/other\n"
    )
    assert who.sh("git config user.name; git branch --format='%(refname:short)'", repo).split() == [
        "Outside", "other", "topic", "tree", "trunk",
    ]  # fmt: skip
    assert not list((repo / ".git").glob("*.lock"))


def test_a_command_does_not_reach_the_configuration_when_git_outside_replaces_it(who: Person, repo: Path) -> None:
    """The command has mounts of its own, and loses the one over the file."""

    def outside() -> None:
        for number in range(5):
            who.sh(f"git config user.name Outside; git config user.email {number}@b.example", repo)
        time.sleep(0.2)

    write = "printf '[core]\n\tfsmonitor = x\n' >>.git/config; rm -f .git/config; ls -l .git/config; umount .git/config"
    who.write(repo / "later.end", write)
    pause = f"sh -c '{PAUSE.replace('$1', 'pause')}; . ./later.end'"
    with SlowBackend(tool_use("Bash", {"command": pause}), text("Done.")) as backend, ThreadPoolExecutor() as pool:
        done = pool.submit(who.bash, backend, repo)
        wait_for(lambda: (repo / "pause.begun").exists() or done.done())
        outside()
        who.write(repo / "pause.end")
        assert "lost its guard" not in done.result().stderr
        assert "-> /run/claude-local-git" in backend.results()[0]
    assert "fsmonitor" not in (repo / ".git/config").read_text()
    assert who.sh("git config user.email", repo) == "4@b.example\n"


def test_a_setting_that_git_obeys_outside_is_taken_back_and_named(who: Person, repo: Path) -> None:
    before = (repo / ".git/config").read_bytes()
    with SlowBackend(tool_use("Bash", {"command": "git config core.hooksPath .husky"}), text("Done.")) as backend:
        done = who.bash(backend, repo)
    assert "core.hookspath=.husky" in done.stderr and "taken back" in done.stderr
    assert (repo / ".git/config").read_bytes() == before


def test_git_status_shows_no_name_of_ours_inside_or_outside(who: Person, repo: Path) -> None:
    seen: list[str] = []

    def outside() -> None:
        seen.append(who.sh("git status --short; git add -A; git status --short; git stash list", repo))

    inside = "git status --short; git add -A; git stash -u -q; git clean -nd; git status --short"
    said = during(who, repo, outside, inside, f"cd {repo} && git status --short")
    assert seen == [""]
    assert said[:2] == ["(Bash completed with no output)"] * 2


def test_git_adds_everything_with_the_inner_layer_alone(who: Person, repo: Path) -> None:
    """Claude Code's sandbox mounts devices over some twenty names then, which git would refuse to add."""
    lines = ["git status --short", "touch new; git add -A && git commit -qm second", "touch x; git stash -u -q"]
    turns = [*(tool_use("Bash", {"command": line}) for line in lines), text("Done.")]
    with who.fence_with(layers=["inner"]), SlowBackend(*turns) as backend:
        assert who.bash(backend, repo).returncode == 0
        assert backend.results() == ["(Bash completed with no output)"] * 3
    assert who.sh("git show --name-only --format=", repo) == "new\n"


def test_the_first_prompt_says_that_the_working_tree_is_clean(who: Person, repo: Path) -> None:
    """For users who want git's status in the prompt; by default it is left out."""
    with SlowBackend(text("Done.")) as backend:
        assert who.bash(backend, repo, CLAUDE_CODE_DISABLE_GIT_INSTRUCTIONS="0").returncode == 0
        body = json.dumps(backend.main_requests[0]["body"])
    assert "Status:\\\\n(clean)" in body or "Status:\\n(clean)" in body, body[body.find("Status") :][:300]


@pytest.mark.parametrize("victim", ["launcher", "bubblewrap"])
def test_after_a_kill_git_status_is_clean_and_git_works(who: Person, repo: Path, victim: str) -> None:
    def kill() -> None:
        parents = parents_of(who.processes())
        (launcher,) = (pid for pid, parent in parents.items() if parent not in parents)
        children = (pid for pid, parent in parents.items() if parent == launcher)
        bubblewrap = next(pid for pid in children if Path(os.readlink(f"/proc/{pid}/exe")).name == "bwrap")
        os.kill({"launcher": launcher, "bubblewrap": bubblewrap}[victim], signal.SIGKILL)

    with pytest.raises(AssertionError):
        during(who, repo, kill, "git config user.email a@b.example")
    who.wait_until_gone()
    assert who.sh("rm -f pause.*; git status --short; git add -A; git status --short", repo) == ""
    who.sh("git config user.name Ada; git switch -q other", repo)
    with SlowBackend(text("Done.")) as backend:
        assert who.bash(backend, repo).returncode == 0
    assert sorted(os.listdir(repo)) == [".git", ".gitignore"]
    assert not [path for path in (repo / ".git").rglob("*") if path.is_file() and not path.stat().st_size]


def test_claude_code_finds_no_fault_with_a_project_without_mcp_json(who: Person, repo: Path) -> None:
    with SlowBackend() as backend:
        doctor, servers = (who.session(backend, *words, cwd=repo).stdout for words in (["doctor"], ["mcp", "list"]))
    assert "Claude Code doctor" in doctor and "No MCP servers configured" in servers
    for word in (".mcp.json", "Invalid settings", "warning", "PATH"):
        assert word not in doctor + servers


def test_slash_status_finds_no_fault_either(who: Person, repo: Path) -> None:
    with SlowBackend() as backend, who.at_terminal(backend, cwd=repo) as tty:
        tty.wait_for_prompt()
        assert who.sh("git status --short", repo) == "", "between commands, too"
        tty.type("/status")
        tty.wait_for("Session ID")
        # The diagnostics come a moment later, if there are any.
        until = time.monotonic() + 3
        while time.monotonic() < until:
            tty.read()
        assert "System diagnostics" not in tty.text and "invalid entries" not in tty.text
