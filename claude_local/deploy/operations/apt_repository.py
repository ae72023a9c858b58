"""A vendor's apt repository, trusted for one key that is pinned by its fingerprint."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from typing import Any

from pyinfra.api import QuoteString, StringCommand

from claude_local.deploy.operations import apt, packages
from claude_local.deploy.operations.streaming import shell, streamed

# Leaves either a repository that apt can read, or nothing. $7: the exit status then. $8: /etc, for tests.
SCRIPT = r"""
set -eu
address=$1 fingerprint=$2 keyring=$3 list=$4 text=$5 lock=$6 status=$7
etc=${8:-/etc}
keyring=$etc/apt/keyrings/$keyring list=$etc/apt/sources.list.d/$list
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
give_up() { echo "the repository is not used: $*"; rm -f "$list"; exit "$status"; }
curl -fsSL --connect-timeout 10 --max-time 60 -o "$scratch/key" "$address" || give_up "no key from $address"
found=$(gpg --homedir "$scratch" --batch --show-keys --with-colons "$scratch/key" 2>/dev/null |
  awk -F: '$1 == "pub" { keys++ } $1 == "fpr" && keys == 1 && !f { f = $10 } END { if (keys == 1) print f }')
test "$found" = "$fingerprint" || give_up "the key at $address is ${found:-unreadable}, expected $fingerprint"
install -d -m 755 "$etc/apt/keyrings"
install -m 644 "$scratch/key" "$keyring"
printf '%s' "$text" >"$list"
sh -c APT_SCRIPT apt.sh "$lock" -o Dir::Etc::sourcelist="$list" -o Dir::Etc::sourceparts=- \
  -o APT::Get::List-Cleanup=0 update || give_up "apt-get update fails with $address"
""".replace("APT_SCRIPT", shlex.quote(apt.SCRIPT))


def added(
    *,
    address: str,
    fingerprint: str,
    keyring: str,
    list_name: str,
    text: str,
    lock_timeout: int,
    root: bool,
    optional: bool = False,
) -> Generator[Any]:
    """The commands that add a repository: curl and gpg, the key (refused unless it is the pinned one), the sources file.

    ``address``: the key's; ``fingerprint``: 40 hexadecimal digits; ``keyring`` and ``list_name``: file names below
    /etc/apt/keyrings and sources.list.d; ``text``: the sources file. A failure leaves no sources file
    behind; with ``optional`` it is told, and the run goes on.
    """
    yield from packages.installed._inner(
        packages={"curl": "curl", "gnupg": "gpg", "ca-certificates": None}, lock_timeout=lock_timeout, root=root
    )
    words = [address, fingerprint, keyring, list_name, text, str(int(lock_timeout)), str(int(not optional))]
    yield streamed(
        StringCommand("sh", "-c", QuoteString(SCRIPT), "sh", shell(words)),
        root=root,
        failure=lambda tail: "the repository is not added:\n  " + "\n  ".join(tail[-4:]),
    )
