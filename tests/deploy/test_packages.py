"""Packages: only what is missing, and apt only then."""

from pathlib import Path
from typing import Any

from claude_local.deploy.facts.packages import MissingPackages
from claude_local.deploy.operations.packages import installed
from tests.deploy.strict_host import StrictHost, fact_on_this_machine, run

WANTED = {"bubblewrap": "bwrap", "ca-certificates": None}


def test_nothing_missing_runs_no_apt(monkeypatch: Any) -> None:
    host = StrictHost({"MissingPackages": []})
    assert run(monkeypatch, installed, host, packages=WANTED) == []
    assert host.noop_reason == "bubblewrap, ca-certificates: installed"


def test_only_the_missing_package_is_installed_after_an_update(monkeypatch: Any) -> None:
    host = StrictHost({"MissingPackages": ["bubblewrap"]})
    (command,) = run(monkeypatch, installed, host, packages=WANTED, lock_timeout=7, root=True)
    assert " apt.sh 7 update && " in command
    assert command.rstrip(" )2>&1").endswith(" apt.sh 7 install --yes --no-install-recommends bubblewrap")
    assert "--reinstall" not in command
    assert host.sudo == [True]


def test_a_package_whose_command_is_gone_is_reinstalled(monkeypatch: Any) -> None:
    host = StrictHost({"MissingPackages": ["bubblewrap!"]})
    (command,) = run(monkeypatch, installed, host, packages=WANTED)
    assert "--reinstall bubblewrap" in command


def test_what_an_interrupted_dpkg_left_is_finished_though_nothing_is_missing(monkeypatch: Any) -> None:
    host = StrictHost({"MissingPackages": ["!"]})
    host.succeeds = False
    (command,) = run(monkeypatch, installed, host, packages=WANTED, lock_timeout=7)
    assert command.endswith(" apt.sh 7 install --yes --no-install-recommends ) 2>&1")
    assert "apt-get could not finish what was interrupted" in host.logged[0]


def test_a_failing_apt_says_what_it_said_and_what_to_do(monkeypatch: Any) -> None:
    host = StrictHost({"MissingPackages": ["bubblewrap"]})
    host.succeeds, host.output = False, ["E: Could not get lock /var/lib/dpkg/lock-frontend"]
    run(monkeypatch, installed, host, packages=WANTED)
    assert "could not install bubblewrap" in host.logged[0] and "Could not get lock" in host.logged[0]


def test_the_fact_tells_missing_from_broken_on_a_real_machine() -> None:
    missing = fact_on_this_machine(
        MissingPackages(), packages=["bash=bash", "no-such-package-here", "coreutils=no-such-command-here", "libc6"]
    )
    assert missing == ["no-such-package-here", "coreutils!"]


def test_the_fact_sees_that_a_dpkg_was_interrupted(tmp_path: Path) -> None:
    assert fact_on_this_machine(MissingPackages(), packages=["bash=bash"], journal=str(tmp_path)) == []
    (tmp_path / "tmp.i").touch()
    assert fact_on_this_machine(MissingPackages(), packages=["bash=bash"], journal=str(tmp_path)) == []
    for name in ("0000", "0001"):
        (tmp_path / name).touch()
    assert fact_on_this_machine(MissingPackages(), packages=["bash=bash"], journal=str(tmp_path)) == ["!"]
