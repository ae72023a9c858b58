"""The fence's stage: only what helps, nothing the second time, and a machine that cannot be helped is no error."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_local.deploy.facts.fence import FenceExperiments, FenceRootView, RootView
from claude_local.deploy.operations import fence
from claude_local.deploy.operations.fence import COPY_SCRIPT, SYSCTL_FILE
from claude_local.fence import apparmor
from claude_local.fence.config import INNER, OUTER, FenceConfig, parse
from claude_local.fence.probe import BOTH, BWRAP, COPY, AppArmor, Bubblewrap, Decision, Result, Symptoms
from tests.deploy.strict_host import StrictHost, fact_on_this_machine
from tests.deploy.strict_host import run as run_operation
from tests.deploy.this_machine import changes

DEST = "/h/.local/share/claude-local/fence.json"
SETTINGS = FenceConfig(ports=(8080, 8081), hidden=("/h/secret",))
CONFIGURE: dict[str, Any] = {"dest": DEST, "settings": SETTINGS, "root": {}}

LIMIT = "bwrap: Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces exceeded (ENOSPC)"


def bubblewrap(status: int, said: str = "", path: str = BWRAP) -> Bubblewrap:
    return Bubblewrap(path, "0.8.0", "a", dict.fromkeys((OUTER, INNER, BOTH), Result(status, said)))


GOOD = Symptoms(distribution=bubblewrap(0), socat=True)
NO_NAMESPACES = Symptoms(
    distribution=bubblewrap(1, LIMIT), socat=True, sysctls={"user.max_user_namespaces": "0"}, uid=1000
)
RESTRICTED = Symptoms(
    distribution=bubblewrap(1, "bwrap: setting up uid map: Permission denied"),
    socat=True,
    sysctls={"kernel.apparmor_restrict_unprivileged_userns": "1"},
)
UBUNTU = AppArmor(enabled=True, loadable=True, parser=True, abi_4=True)


class Executing:
    is_executing = True


def run(monkeypatch: Any, operation: Any, host: StrictHost, **arguments: Any) -> list[str]:
    """As strict_host.run, in the phase in which operations do their work."""
    monkeypatch.setattr(fence, "state", Executing)
    return run_operation(monkeypatch, operation, host, **arguments)


def machine(*states: tuple[Symptoms, RootView]) -> StrictHost:
    """A machine that is in the first state, and in the next one each time it was looked at."""
    looks: Iterator[tuple[Symptoms, RootView]] = iter(states)
    now = [states[-1]]

    def experiments(**_: Any) -> Symptoms:
        now[0] = next(looks, states[-1])
        return now[0][0]

    return StrictHost(
        {
            "FenceExperiments": experiments,
            "FenceRootView": lambda **_: now[0][1],
            "InstalledPackages": {"package": [], "program": [], "interrupted": False},
            "Sysctl": {},
            "FindInFile": None,
            "UserFiles": {},
        }
    )


def test_a_machine_where_everything_works_is_left_as_it_is(monkeypatch: Any) -> None:
    host = machine((GOOD, RootView()))
    assert run(monkeypatch, fence.prepare, host) == [] and "outer, inner" in str(host.noop_reason)


def test_the_experiments_run_as_the_user_and_only_apparmor_is_looked_at_as_root(monkeypatch: Any) -> None:
    """The operation runs with sudo, and its facts would inherit that. Root can do what the user cannot."""
    host = StrictHost({"FenceExperiments": GOOD, "FenceRootView": RootView()}, root=True)
    run(monkeypatch, fence.prepare, host)
    assert host.asked == [("FenceExperiments", False), ("FenceRootView", True)]


def test_the_parser_of_apparmor_is_installed_where_a_profile_helps(monkeypatch: Any) -> None:
    view = RootView(AppArmor(enabled=True, loadable=True, loaded=frozenset({"bwrap"})))
    command, _ = run(monkeypatch, fence.prepare, machine((RESTRICTED, view), (GOOD, view)))
    assert "install --yes --no-install-recommends apparmor" in command


def test_a_kernel_setting_is_made_under_our_own_name(monkeypatch: Any) -> None:
    settable = RootView(settable=frozenset({"user.max_user_namespaces"}))
    sysctl, keep = run(monkeypatch, fence.prepare, machine((NO_NAMESPACES, settable), (GOOD, settable)))
    assert sysctl == "sysctl user.max_user_namespaces=16384"
    assert SYSCTL_FILE in keep and "user.max_user_namespaces = 16384" in keep


def test_one_cause_after_the_other_is_helped_and_what_did_not_help_is_not_repeated(monkeypatch: Any) -> None:
    view = RootView(UBUNTU, frozenset({"user.max_user_namespaces"}))
    host = machine((NO_NAMESPACES, view), (RESTRICTED, view), (RESTRICTED, view))
    first, _, second = run(monkeypatch, fence.prepare, host)
    assert first.startswith("sysctl ")
    assert apparmor.FILE in second and COPY in second and "userns," in second


def test_apparmors_profile_of_the_distributions_bubblewrap_is_not_touched(monkeypatch: Any) -> None:
    view = RootView(AppArmor(enabled=True, loadable=True, parser=True, abi_4=True, loaded=frozenset({"bwrap"})))
    (command,) = run(monkeypatch, fence.prepare, machine((RESTRICTED, view), (GOOD, view)))
    script_arguments = command[command.rindex(" sh ") :]
    assert "/etc/apparmor.d/bwrap" not in command and "/etc/apparmor.d/disable" not in command
    assert f"profile claude-local-bwrap {COPY} flags=(unconfined)" in script_arguments


@pytest.mark.parametrize("root", [{}, {"_sudo": True}])
def test_what_works_is_written_down_with_the_settings_and_the_file_is_the_users(
    monkeypatch: Any, tmp_path: Path, root: dict[str, bool]
) -> None:
    monkeypatch.setattr(fence, "probe", lambda **asked: Decision((OUTER, INNER)) if asked == root else None)
    dest = tmp_path / "fence.json"
    arguments = {"dest": str(dest), "settings": SETTINGS, "root": root}
    assert changes(fence.configure, **arguments) == (True, False)
    assert parse(dest.read_text()) == SETTINGS and dest.stat().st_mode & 0o777 == 0o600


def test_a_missing_layer_is_one_warning_and_no_error(monkeypatch: Any) -> None:
    host = machine((NO_NAMESPACES, RootView()))
    commands = run(monkeypatch, fence.configure, host, **CONFIGURE)
    assert f"upload {DEST}.claude-local-new" in commands
    (warning,) = host.logged
    assert "no fence works" in warning and "user.max_user_namespaces = 0" in warning
    assert "refuse to start" in warning and "sudo sysctl -w user.max_user_namespaces=16384" in warning


def test_each_missing_layer_says_what_it_means(monkeypatch: Any) -> None:
    refused = Result(1, "bwrap: Can't mount proc on /newroot/proc: Operation not permitted")
    works = Result(0)
    for results, means in (
        ({OUTER: works, INNER: refused}, "without Claude Code's own sandbox"),
        ({OUTER: refused, INNER: works}, "the file tools, hooks and MCP servers of a session are not"),
    ):
        host = machine((Symptoms(distribution=Bubblewrap(BWRAP, results=results), socat=True), RootView()))
        run(monkeypatch, fence.configure, host, **CONFIGURE)
        assert means in host.logged[0]


# --- the facts


def test_what_the_experiments_print_is_understood() -> None:
    fact = FenceExperiments()
    fact.command()
    seen = fact.process(
        [
            "uid 1000",
            "sysctl user.max_user_namespaces 127000",
            "sysctl kernel.apparmor_restrict_unprivileged_userns 1",
            "container lxc",
            "socat yes",
            f"bwrap {BWRAP} 1234 bubblewrap 0.9.0",
            f"try {BWRAP} outer 1",
            f"stderr {BWRAP} outer first  line",
            f"stderr {BWRAP} outer bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted",
            f"try {BWRAP} inner 0",
            f"try {BWRAP} both 124",
            f"bwrap {COPY} 5678 ",
        ]
    )
    assert seen.distribution == Bubblewrap(
        BWRAP,
        "0.9.0",
        "1234",
        {
            OUTER: Result(1, "first  line\nbwrap: loopback: Failed RTM_NEWADDR: Operation not permitted"),
            INNER: Result(0),
            BOTH: Result(124),
        },
    )
    assert seen.copy == Bubblewrap(COPY, "", "5678", {})
    assert (seen.uid, seen.container, seen.socat) == (1000, "lxc", True)
    assert seen.sysctls["kernel.apparmor_restrict_unprivileged_userns"] == "1"


def test_what_root_sees_is_understood() -> None:
    lines = ["settable user.max_user_namespaces", "enabled", "loadable", "parser", "abi_4", "profile 12ab"]
    view = FenceRootView().process([*lines, "loaded bwrap", "loaded claude-local-bwrap"])
    assert view.settable == {"user.max_user_namespaces"}
    assert view.apparmor == AppArmor(True, True, True, True, frozenset({"bwrap", "claude-local-bwrap"}), "12ab")


def test_a_program_that_only_fails_is_reported_with_its_words(tmp_path: Path) -> None:
    """A stand-in for a bubblewrap that is too old, through the real script."""
    old = tmp_path / "bwrap"
    old.write_text(
        '#!/bin/sh\nif test "$1" = --version; then echo bubblewrap 0.3.1; exit; fi\n'
        'echo noise; echo "bwrap: Unknown option --perms" >&2; exit 1\n'
    )
    old.chmod(0o755)
    seen = fact_on_this_machine(FenceExperiments(), bwrap=str(old), copy=str(tmp_path / "no"))
    assert seen.copy is None and seen.distribution.version == "0.3.1" and len(seen.distribution.sha256) == 64
    assert dict(seen.distribution.results) == dict.fromkeys(
        (OUTER, INNER, BOTH), Result(1, "bwrap: Unknown option --perms")
    )


# --- the scripts


def script(text: str, *words: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    """As root of a user namespace of its own, whoever runs the tests."""
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", text, "sh", *words],
        capture_output=True, text=True, check=False, timeout=30, env={"PATH": path},
    )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "bwrap").write_bytes(b"the distribution's")
    (tmp_path / "bwrap").chmod(0o755)
    (tmp_path / "bin").mkdir()
    return {name: tmp_path / name for name in ("bwrap", "libexec/bwrap", "profile", "bin")}


def copied(place: dict[str, Path], parser: str) -> subprocess.CompletedProcess[str]:
    stand_in = place["bin"] / "apparmor_parser"
    stand_in.write_text(f"#!/bin/sh\n{parser}\n")
    stand_in.chmod(0o755)
    words = [str(place["bwrap"]), str(place["libexec/bwrap"]), str(place["profile"]), "a profile\n"]
    return script(COPY_SCRIPT, *words, path=f"{place['bin']}:{os.environ['PATH']}")


def test_the_copy_and_its_profile_are_made_and_follow_the_distribution(place: dict[str, Path]) -> None:
    log = place["bin"] / "log"
    for content in (b"the distribution's", b"a newer one"):
        place["bwrap"].write_bytes(content)
        done = copied(place, f'echo "$*" >>{log}')
        assert done.returncode == 0, done.stderr
        assert place["libexec/bwrap"].read_bytes() == content
        assert place["libexec/bwrap"].stat().st_mode & 0o7777 == 0o755
    assert place["profile"].read_text() == "a profile\n" and place["profile"].stat().st_mode & 0o777 == 0o644
    compiled, loaded = log.read_text().splitlines()[:2]
    assert compiled.startswith("--skip-kernel-load") and loaded == f"--replace --skip-cache {place['profile']}"


@pytest.mark.parametrize("refusing", ["--skip-kernel-load", "--replace"])
def test_a_profile_that_is_refused_leaves_nothing(place: dict[str, Path], refusing: str) -> None:
    done = copied(place, f'test "$1" != {refusing}')
    assert done.returncode == 0 and "bubblewrap stays as it is" in done.stderr
    assert not place["libexec/bwrap"].exists() and not place["profile"].exists()
