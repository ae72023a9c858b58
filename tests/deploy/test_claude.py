"""Claude Code: used where it is new enough, installed beside what is there, never in the user's way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import DeployError

from claude_local.claude.versions import PINS, Installation
from claude_local.deploy.facts.claude import ClaudeInstallations, Installations
from claude_local.deploy.facts.user_files import UserFile
from claude_local.deploy.operations import claude, user_files
from claude_local.paths import Paths
from tests.deploy.strict_host import StrictHost, fact_on_this_machine, run, use

PATHS = Paths(home="/home/u", model_dir="/m", bin_dir="/home/u/bin")
VERSIONED = f"{PATHS.native_versions}/2.1.330"
WANTED: dict[str, Any] = {"tested": "2.1.330", "minimum": "2.1.330", "paths": PATHS}


class NotExecuting:
    is_executing = False


class Executing:
    is_executing = True


@pytest.fixture(autouse=True)
def preparing(monkeypatch: Any) -> None:
    monkeypatch.setitem(claude.choose._inner.__globals__, "state", NotExecuting)


def installations(*installed: Installation, link: str = "", native: str = "free", npm: bool = True) -> Installations:
    return Installations(installed=list(installed), link=link, native=native, npm=npm)


def host(state: Installations, versions: dict[str, Any] | None = None) -> StrictHost:
    file = UserFile("644", json.dumps(versions).encode()) if versions is not None else None
    return StrictHost(
        {"ClaudeInstallations": state, "UserFiles": {PATHS.versions: file}, "Link": None, "Directory": {}}
    )


def record(path: str, version: str = "2.1.330") -> dict[str, Any]:
    return {"claude": {"path": path, "version": version, "tested": "2.1.330", "minimum": "2.1.330"}}


@pytest.mark.parametrize("source", ["native", "npm"])
def test_nothing_is_fetched_where_it_is_new_enough(monkeypatch: Any, source: str) -> None:
    there = host(installations(Installation("/usr/bin/claude", "2.1.330")))
    assert run(monkeypatch, claude.install, there, source=source, arch="x86_64", **WANTED) == []
    assert there.noop_reason == "/usr/bin/claude is Claude Code 2.1.330"


@pytest.mark.parametrize(("arch", "name"), [("x86_64", "linux-x64"), ("aarch64", "linux-arm64")])
def test_the_release_server_is_asked_with_the_pinned_hash(monkeypatch: Any, arch: str, name: str) -> None:
    (command,) = run(monkeypatch, claude.install, host(installations()), source="native", arch=arch, **WANTED)
    assert f"https://downloads.claude.ai/claude-code-releases/2.1.330/{name}/claude" in command
    assert PINS["2.1.330"][arch].sha256 in command and f"--dest {VERSIONED}" in command
    assert "|| { test $? = 4" in command, "an unreachable release server must not end the deploy"


def test_npm_gets_the_platform_package_and_may_fail(monkeypatch: Any) -> None:
    (command,) = run(monkeypatch, claude.install, host(installations()), source="npm", arch="x86_64", **WANTED)
    assert "@anthropic-ai/claude-code-linux-x64@2.1.330" in command
    assert "test $?" not in command


def test_a_too_old_one_is_not_used(monkeypatch: Any) -> None:
    old = host(installations(Installation("/usr/bin/claude", "2.1.197")))
    assert run(monkeypatch, claude.install, old, source="native", arch="x86_64", **WANTED)


def test_an_unknown_architecture_is_refused_in_words(monkeypatch: Any) -> None:
    there = host(installations())
    there.succeeds = False
    run(monkeypatch, claude.install, there, source="native", arch="riscv64", **WANTED)
    assert there.logged == ["Claude Code 2.1.330 is not known for riscv64; known: x86_64, aarch64"]


def test_a_version_without_a_known_hash_is_refused_only_where_it_would_be_installed(monkeypatch: Any) -> None:
    use(monkeypatch, host(installations(Installation("/usr/bin/claude", "2.1.330"))))
    newer = {"tested": "9.9.9", "minimum": "2.1.330", "paths": PATHS, "arch": "x86_64"}
    claude.check(**newer)
    use(monkeypatch, host(installations(Installation("/usr/bin/claude", "2.1.197"))))
    with pytest.raises(DeployError, match="nothing has been changed: claude_version is 9.9.9, but no sha256"):
        claude.check(**newer)


def test_npm_is_needed_only_while_claude_is_missing(monkeypatch: Any) -> None:
    for state, needed in [
        (installations(npm=False), True),
        (installations(npm=True), False),
        (installations(Installation("/x", "2.1.330"), npm=False), False),
    ]:
        use(monkeypatch, host(state))
        assert claude.needs_npm(PATHS, "2.1.330", "2.1.330") is needed


def test_our_own_installation_gets_the_native_link_where_nothing_is(monkeypatch: Any) -> None:
    ours = host(installations(Installation(VERSIONED, "2.1.330")))
    commands = run(monkeypatch, claude.choose, ours, **WANTED)
    assert f"ln -s {VERSIONED} {PATHS.native_claude}" in commands
    assert f"ln -s {PATHS.native_claude} {PATHS.claude}" in commands


def test_an_older_claude_elsewhere_on_path_stays_what_the_word_starts(monkeypatch: Any) -> None:
    old = Installation("/home/u/.nvm/versions/node/v22/bin/claude", "2.1.197")
    commands = run(monkeypatch, claude.choose, host(installations(old, Installation(VERSIONED, "2.1.330"))), **WANTED)
    assert f"ln -s {VERSIONED} {PATHS.claude}" in commands
    assert not any(command.endswith(PATHS.native_claude) for command in commands)


@pytest.mark.parametrize("native", ["file", "/home/u/.local/share/claude/versions/2.1.197"])
def test_a_users_own_claude_is_never_replaced(monkeypatch: Any, native: str) -> None:
    old = Installation(PATHS.native_claude, "2.1.197")
    commands = run(
        monkeypatch,
        claude.choose,
        host(installations(old, Installation(VERSIONED, "2.1.330"), native=native)),
        **WANTED,
    )
    assert f"ln -s {VERSIONED} {PATHS.claude}" in commands
    assert not any(command.endswith(PATHS.native_claude) for command in commands)


def test_a_second_run_does_nothing(monkeypatch: Any) -> None:
    there = host(
        installations(Installation(PATHS.native_claude, "2.1.330"), link=PATHS.native_claude, native=VERSIONED),
        {"image": 1} | record(PATHS.native_claude),
    )
    assert run(monkeypatch, claude.choose, there, **WANTED) == []


def test_what_others_recorded_is_kept(monkeypatch: Any) -> None:
    there = host(installations(Installation("/usr/bin/claude", "2.1.330"), native="file"), {"image": "tag"})
    uploaded = []
    monkeypatch.setattr(
        user_files, "replace", lambda dest, content, mode: uploaded.append((dest, json.loads(content))) or []
    )
    run(monkeypatch, claude.choose, there, **WANTED)
    assert uploaded == [(PATHS.versions, {"image": "tag"} | record("/usr/bin/claude"))]


def test_a_newer_one_is_used_with_a_warning_that_names_both(monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setitem(claude.choose._inner.__globals__, "state", Executing)
    with caplog.at_level("WARNING", logger="pyinfra"):
        commands = run(
            monkeypatch,
            claude.choose,
            host(installations(Installation("/usr/bin/claude", "2.2.0"), native="file")),
            **WANTED,
        )
    assert f"ln -s /usr/bin/claude {PATHS.claude}" in commands
    assert "2.2.0" in caplog.text and "2.1.330" in caplog.text


def fake_claude(path: Path, version: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{version} (Claude Code)'\n")
    path.chmod(0o755)


def test_the_fact_finds_each_installation_once_in_order(monkeypatch: Any, tmp_path: Path) -> None:
    paths = Paths(home=str(tmp_path), model_dir="/m", bin_dir="/b")
    fake_claude(Path(paths.native_versions) / "2.1.330", "2.1.330")
    fake_claude(Path(paths.native_versions) / "2.1.340", "2.1.340")
    fake_claude(tmp_path / "nvm" / "claude", "2.1.197")
    Path(paths.native_claude).parent.mkdir(parents=True)
    Path(paths.native_claude).symlink_to(Path(paths.native_versions) / "2.1.340")
    (tmp_path / ".bashrc").write_text(f"echo noise; export PATH={tmp_path}/nvm:$PATH\n")
    (tmp_path / ".profile").write_text(". ~/.bashrc\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = {"native": paths.native_claude, "versions": paths.native_versions, "link": paths.claude}
    found = fact_on_this_machine(ClaudeInstallations(), tested="2.1.330", **arguments)
    assert found["installed"][:2] == [
        Installation(paths.native_claude, "2.1.340"),
        Installation(str(tmp_path / "nvm" / "claude"), "2.1.197"),
    ]
    assert found["installed"][-1] == Installation(f"{paths.native_versions}/2.1.330", "2.1.330")
    assert found["native"] == f"{paths.native_versions}/2.1.340" and found["link"] == ""


def test_the_fact_on_a_machine_without_claude(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    paths = Paths(home=str(tmp_path), model_dir="/m", bin_dir="/b")
    arguments = {"native": paths.native_claude, "versions": paths.native_versions, "link": paths.claude}
    found = fact_on_this_machine(ClaudeInstallations(), tested="2.1.330", **arguments)
    assert (found["installed"], found["native"], found["link"]) == ([], "free", "")
