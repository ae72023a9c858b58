"""Packages: only what is missing, and apt only then."""

from pathlib import Path
from typing import Any

import pytest

from claude_local.deploy.facts.packages import InstalledPackages
from claude_local.deploy.operations import packages
from tests.deploy.strict_host import StrictHost, fact_on_this_machine, run

PACKAGES = {"bubblewrap": "bwrap", "ca-certificates": None}


def machine(*installed: str, damaged: bool = False, interrupted: bool = False, root: bool = False) -> StrictHost:
    """A machine with these packages; ``damaged``: their commands are missing; ``interrupted``: a dpkg was."""
    programs = [] if damaged else ["bwrap"]
    state = {"package": list(installed), "program": programs, "interrupted": interrupted}
    return StrictHost({"InstalledPackages": state}, root=root)


def test_nothing_missing_runs_no_apt(monkeypatch: Any) -> None:
    host = machine(*PACKAGES)
    assert run(monkeypatch, packages.install, host, packages=PACKAGES) == []
    assert host.noop_reason == "bubblewrap, ca-certificates: installed"


def test_only_the_missing_package_is_installed_after_an_update(monkeypatch: Any) -> None:
    host = machine("ca-certificates", root=True)
    (command,) = run(monkeypatch, packages.install, host, packages=PACKAGES, lock_timeout=7)
    assert command.rstrip(" )2>&1").endswith(" apt.sh 7 install --yes --no-install-recommends bubblewrap")
    assert host.sudo == [True]


def test_a_package_whose_command_is_gone_is_reinstalled(monkeypatch: Any) -> None:
    (command,) = run(monkeypatch, packages.install, machine(*PACKAGES, damaged=True), packages=PACKAGES)
    assert "--reinstall bubblewrap" in command and "ca-certificates" not in command


def test_an_interrupted_dpkg_is_finished_though_nothing_is_missing(monkeypatch: Any) -> None:
    host = machine(*PACKAGES, interrupted=True)
    host.succeeds = False
    (command,) = run(monkeypatch, packages.install, host, packages=PACKAGES, lock_timeout=7)
    assert command.endswith(" apt.sh 7 install --yes --no-install-recommends ) 2>&1")
    assert "apt-get could not finish an interrupted installation" in host.logged[0]


def test_a_failing_apt_is_quoted_with_what_to_do(monkeypatch: Any) -> None:
    host = machine("ca-certificates")
    host.succeeds, host.output = False, ["E: Could not get lock /var/lib/dpkg/lock-frontend"]
    run(monkeypatch, packages.install, host, packages=PACKAGES)
    assert "could not install bubblewrap" in host.logged[0] and "Could not get lock" in host.logged[0]
    assert "packages_lock_timeout" in host.logged[0]


def test_a_failure_behind_a_dead_repository_names_it_and_not_a_lock(monkeypatch: Any) -> None:
    host = machine("ca-certificates")
    dead = "warning: apt-get update: The repository 'https://gone.example/apt stable Release' is not signed."
    host.succeeds = False
    host.output = ["Get:1 x", dead, "Reading package lists...", "E: Unable to locate package bubblewrap"]
    run(monkeypatch, packages.install, host, packages=PACKAGES)
    _, warning, error, fix = host.logged[0].splitlines()
    assert (warning.strip(), error.strip()) == (dead, "E: Unable to locate package bubblewrap")
    assert fix.startswith("  Fix: ") and "/etc/apt/sources.list.d" in fix and "lock" not in fix


@pytest.mark.parametrize(("names", "interrupted"), [([], False), (["tmp.i"], False), (["tmp.i", "0000", "0001"], True)])
def test_what_the_machine_has_and_whether_dpkg_left_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], interrupted: bool
) -> None:
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.setenv("JOURNAL", str(tmp_path))
    state = fact_on_this_machine(InstalledPackages(), packages=["bash", "no-such-package"], programs=["sh", "no-such"])
    assert state == {"package": ["bash"], "program": ["sh"], "interrupted": interrupted}
