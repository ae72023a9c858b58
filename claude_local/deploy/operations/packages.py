"""Debian packages: only what is missing, patient with another apt."""

from __future__ import annotations

from collections.abc import Generator, Mapping

from pyinfra import host
from pyinfra.api import FunctionCommand, StringCommand, operation

from claude_local.deploy.facts.packages import UNFINISHED, MissingPackages
from claude_local.deploy.operations.apt import apt
from claude_local.deploy.operations.streaming import streamed


@operation()
def installed(
    packages: Mapping[str, str | None], lock_timeout: int = 300, root: bool = False
) -> Generator[FunctionCommand]:
    """Install the Debian packages that are missing; ``apt-get update`` only then.

    + packages: package name -> a command that it must put on PATH (None: no command to look for). A package that is
      installed without its command is installed again. What an interrupted dpkg left, of whatever packages, is finished.
    + lock_timeout: seconds to wait for another apt or dpkg to release its locks
    + root: whether to run apt through sudo (``bool(ws.root)``)

    Runs ``apt-get update`` and ``apt-get install --no-install-recommends``, both through files/apt.sh.
    """
    entries = [name if command is None else f"{name}={command}" for name, command in packages.items()]
    missing = host.get_fact(MissingPackages, packages=entries)
    if not missing:
        host.noop(f"{', '.join(packages)}: installed")
        return
    wanted = [name for name in missing if name != UNFINISHED]
    names = sorted(name.rstrip("!") for name in wanted)
    reinstall = ["--reinstall"] if any(name.endswith("!") for name in wanted) else []
    install = apt(["install", "--yes", "--no-install-recommends", *reinstall, *names], lock_timeout)
    yield streamed(
        StringCommand(apt(["update"], lock_timeout), "&&", install),
        root=root,
        failure=lambda tail: (
            f"apt-get could not {'install ' + ', '.join(names) if names else 'finish what was interrupted'}:\n  "
            + "\n  ".join(tail[-6:])
            + "\nIf it says that a lock is held, let the other apt finish (or raise packages_lock_timeout) and run again."
        ),
    )
