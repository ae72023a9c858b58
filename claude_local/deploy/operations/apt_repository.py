"""Add a vendor's apt repository and trust one key for it, pinned by its fingerprint."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from typing import Any

from claude_local.deploy import shell
from claude_local.deploy.operations import packages
from claude_local.deploy.operations.streaming import last_lines, stream
from claude_local.docker.apt_repository import AptRepository

# Leaves a repository that apt can read, or apt's sources as they were. $7: the exit status in that case. $8: /etc, for
# tests. Where a source has the address already, nothing is added: apt cannot read two that name different keys.
SCRIPT = r"""
set -eu
export LC_ALL=C
uri=$1 key=$2 fingerprint=$3 name=$4 text=$5 lock=$6 status=$7
etc=${8:-/etc}
keyring=$etc/apt/keyrings/$name.asc list=$etc/apt/sources.list.d/$name.sources
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
give_up() { echo "$uri is not used: $*"; rm -f "$list" "$keyring"; exit "$status"; }
readable() { apt-get --print-uris update >"$scratch/uris" 2>"$scratch/error"; }
rm -f "$list"
readable || give_up "apt cannot read its sources: $(head -n 1 "$scratch/error")"
if cut -d "'" -f 2 "$scratch/uris" | grep -qF "://${uri#*://}/"; then
  echo "apt's sources have $uri already"
  exit 0
fi
curl -fsSL --connect-timeout 10 --max-time 60 -o "$scratch/key" "$key" || give_up "no key from $key"
found=$(gpg --homedir "$scratch" --batch --show-keys --with-colons "$scratch/key" 2>/dev/null |
  awk -F: '$1 == "pub" { keys++ } $1 == "fpr" && keys == 1 && !f { f = $10 } END { if (keys == 1) print f }')
test "$found" = "$fingerprint" || give_up "the key at $key is ${found:-unreadable}, expected $fingerprint"
install -d -m 755 "$etc/apt/keyrings"
install -m 644 "$scratch/key" "$keyring"
printf '%s' "$text" >"$list"
readable || give_up "with it, apt cannot read its sources: $(head -n 1 "$scratch/error")"
sh -c APT_SCRIPT apt.sh "$lock" -o Dir::Etc::sourcelist="$list" -o Dir::Etc::sourceparts=- \
  -o APT::Get::List-Cleanup=0 update || give_up "apt-get update fails with it"
""".replace("APT_SCRIPT", shlex.quote(packages.APT_SCRIPT))


def add(repository: AptRepository, *, lock_timeout: int, optional: bool = False) -> Generator[Any]:
    """The commands that add a repository, for an operation to ``yield from``; they need root.

    + repository: the repository and its key; any other key is refused
    + lock_timeout: seconds to wait for another apt or dpkg
    + optional: report a failure and go on; either way a failure leaves apt's sources as they were

    Instead of pyinfra's ``apt.key`` and ``apt.sources_file``, which trust whatever key the address serves and keep a
    repository that apt cannot read.
    """
    yield from packages.install._inner(
        packages={"curl": "curl", "gnupg": "gpg", "ca-certificates": None}, lock_timeout=lock_timeout
    )
    arguments = [
        repository.uri, repository.key_address, repository.fingerprint, repository.name, repository.sources_file,
        str(int(lock_timeout)), str(int(not optional)),
    ]  # fmt: skip
    yield stream(shell.script(SCRIPT, *arguments), failure=last_lines("the repository could not be added", 4))
