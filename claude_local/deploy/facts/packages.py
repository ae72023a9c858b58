"""Debian packages on the workstation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from pyinfra.api import FactBase, StringCommand

from claude_local.deploy import shell

# $1 programs, one a line; then packages. An interrupted dpkg leaves files with numbers for names.
SCRIPT = r"""
programs=$1 journal=${JOURNAL:-/var/lib/dpkg/updates}
shift
dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed /package /p'
for program in $programs; do
  if command -v "$program" >/dev/null 2>&1; then echo "program $program"; fi
done
for file in "$journal"/[0-9]*; do
  if test -e "$file"; then echo "interrupted yes"; break; fi
done
true
"""


class Packages(TypedDict):
    """Which of the packages are installed, which of the programs are on PATH, and whether a dpkg was interrupted."""

    package: list[str]
    program: list[str]
    interrupted: bool


class InstalledPackages(FactBase[Packages]):
    """The state of some packages and of their programs. pyinfra's facts would take a command for each program.

    + packages: names
    + programs: names of commands
    """

    def command(self, packages: Iterable[str], programs: Iterable[str]) -> StringCommand:
        return shell.script(SCRIPT, "\n".join(programs), *packages)

    def process(self, output: list[str]) -> Packages:
        state = self.default()
        for line in output:
            kind, _, name = line.partition(" ")
            if kind == "interrupted":
                state["interrupted"] = True
            elif kind == "package":
                state["package"].append(name)
            elif kind == "program":
                state["program"].append(name)
        return state

    @staticmethod
    def default() -> Packages:
        """A machine without any."""
        return Packages(package=[], program=[], interrupted=False)
