"""Which Debian packages and commands are there."""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra.api import FactBase, QuoteString, StringCommand

# The entry that says that a dpkg was interrupted: what it leaves here it has not done yet.
UNFINISHED = "!"
JOURNAL = "/var/lib/dpkg/updates"


class MissingPackages(FactBase[list[str]]):
    """Those of ``packages`` that are not usable: not installed, or installed without the command that is needed.

    Argument: pairs ``name`` or ``name=command``. Yields ``NAME`` for a package that is not installed and ``NAME!`` for
    one whose command is not on PATH although dpkg calls it installed (deleted by hand, a broken upgrade). And ``!``
    where a dpkg was interrupted, whatever it was to install; ``journal`` is where it shows.
    """

    def command(self, packages: Iterable[str], journal: str = JOURNAL) -> StringCommand:
        script = (
            "for entry do name=${entry%%=*}; "
            'if test "$(dpkg-query -W -f=\'${db:Status-Status}\' "$name" 2>/dev/null)" != installed; then echo "$name"; '
            'elif test "$name" != "$entry" && ! PATH="$PATH:/usr/sbin:/sbin" command -v "${entry#*=}" >/dev/null 2>&1; '
            'then echo "$name!"; fi; done; for left in "$0"/[0-9]*; do test ! -e "$left" || { echo "!"; break; }; done; true'
        )
        return StringCommand("sh", "-c", QuoteString(script), journal, *[QuoteString(entry) for entry in packages])

    def process(self, output: list[str]) -> list[str]:
        return [line.strip() for line in output if line.strip()]

    @staticmethod
    def default() -> list[str]:
        return []
