"""Debian packages: install what is missing, wait for another apt, finish what an interrupted dpkg left."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from pathlib import Path

from pyinfra import host
from pyinfra.api import FunctionCommand, StringCommand, operation

from claude_local.deploy import shell
from claude_local.deploy.facts.packages import InstalledPackages, Packages
from claude_local.deploy.operations.streaming import stream

APT_SCRIPT = (Path(__file__).parents[3] / "files" / "apt.sh").read_text()


def apt_get(arguments: list[str], lock_timeout: int) -> StringCommand:
    """``apt-get ARGUMENTS`` through files/apt.sh; it needs root and waits ``lock_timeout`` seconds for another apt."""
    return shell.join(["sh", "-c", APT_SCRIPT, "apt.sh", str(int(lock_timeout)), *arguments])


# Part of apt's error message -> what helps. The first match counts.
_ADVICE = {
    "ould not get lock": "let the other apt finish, or raise packages_lock_timeout, and run again",
    "list of sources could not be read": "correct /etc/apt/sources.list.d until apt-get update reads it, and run again",
    "warning: apt-get update": "repair or remove the repositories that fail, in /etc/apt/sources.list.d, and run again",
}


def failure(problem: str) -> Callable[[list[str]], str]:
    """A ``failure`` for ``stream``: the problem, apt's errors, and what to do about them."""

    def message(tail: list[str]) -> str:
        errors = [line for line in tail if line.startswith(("E: ", "warning: "))] or tail[-6:]
        advice = next((fix for part, fix in _ADVICE.items() if any(part in line for line in errors)), "")
        return "\n  ".join([f"{problem}:", *errors[-6:], *([f"Fix: {advice}"] if advice else [])])

    return message


@operation()
def install(packages: Mapping[str, str | None], lock_timeout: int = 300) -> Generator[FunctionCommand]:
    """Install the Debian packages that are missing, and run ``apt-get update`` only then. That may fail.

    + packages: package name -> a command that it must put on PATH, or None. A package that lost its command is
      installed again.
    + lock_timeout: seconds to wait for another apt or dpkg to release its locks

    Instead of pyinfra's ``apt.packages``, which fails at once on the lock that apt's timer holds after a boot, stops on
    an interrupted dpkg, counts every ``update`` as a change, and shows nothing while it works.

    Example::

        packages.install(name="Install bubblewrap", packages={"bubblewrap": "bwrap"}, lock_timeout=300, _sudo=True)
    """
    programs = [program for program in packages.values() if program]
    now: Packages = host.get_fact(InstalledPackages, packages=list(packages), programs=programs)
    absent = [name for name in packages if name not in now["package"]]
    damaged = [
        name for name, program in packages.items() if program and name not in absent and program not in now["program"]
    ]
    if not (absent or damaged or now["interrupted"]):
        host.noop(f"{', '.join(packages)}: installed")
        return
    names = sorted([*absent, *damaged])
    reinstall = ["--reinstall"] if damaged else []
    install_command = apt_get(["install", "--yes", "--no-install-recommends", *reinstall, *names], lock_timeout)
    work = f"install {', '.join(names)}" if names else "finish an interrupted installation"
    yield stream(install_command, failure=failure(f"apt-get could not {work}"))
