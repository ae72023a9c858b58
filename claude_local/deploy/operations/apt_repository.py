"""Add a vendor's apt repository and trust one key for it, pinned by its fingerprint."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from typing import Any

from claude_local.deploy import shell
from claude_local.deploy.operations import packages
from claude_local.deploy.operations.streaming import last_lines, stream

# Leaves a repository that apt can read, or nothing. $7: the exit status in that case. $8: /etc, for tests.
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
""".replace("APT_SCRIPT", shlex.quote(packages.APT_SCRIPT))


def add(
    *,
    address: str,
    fingerprint: str,
    keyring: str,
    list_name: str,
    text: str,
    lock_timeout: int,
    optional: bool = False,
) -> Generator[Any]:
    """The commands that add a repository, for an operation to ``yield from``; they need root.

    + address: URL of the key
    + fingerprint: the key's, 40 hexadecimal digits; any other key is refused
    + keyring: file name below /etc/apt/keyrings
    + list_name: file name below /etc/apt/sources.list.d
    + text: the sources file (deb822)
    + lock_timeout: seconds to wait for another apt or dpkg
    + optional: report a failure and go on; either way a failure leaves no sources file

    Instead of pyinfra's ``apt.key`` and ``apt.sources_file``, which trust whatever key the address serves and keep a
    repository that apt cannot read.
    """
    yield from packages.install._inner(
        packages={"curl": "curl", "gnupg": "gpg", "ca-certificates": None}, lock_timeout=lock_timeout
    )
    arguments = [address, fingerprint, keyring, list_name, text, str(int(lock_timeout)), str(int(not optional))]
    yield stream(shell.script(SCRIPT, *arguments), failure=last_lines("the repository could not be added", 4))
