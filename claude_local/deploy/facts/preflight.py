"""What preflight judges: apt, sudo, ports, disks, the results of former deploys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pyinfra.api import FactBase, FactProcessError, StringCommand

from claude_local.deploy import shell

# Prints tagged lines, also on a bare machine. In /proc/net/tcp*, state 0A is LISTEN and ports are hexadecimal. Docker
# is asked as root where sudo needs no password, else as this user (who may be in the group docker).
SCRIPT = r"""
containers=$1; files=$2; runtime=$3; shift 3
test -e "$runtime" && echo 'runtime yes'
command -v apt-get >/dev/null 2>&1 && echo 'apt yes'
if test "$(id -u)" = 0; then as_root=; else as_root='sudo -n'; fi
if test -z "$as_root" || sudo -n true 2>/dev/null; then echo 'root yes'; fi
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r _ local _ state _; do
  if test "$state" = 0A; then echo "listen $((0x${local##*:}))"; fi
done
for docker in $(command -v docker) /usr/bin/docker; do
  test -x "$docker" || continue
  case $(readlink -f "$docker") in */snap) snap=yes; continue ;; esac
  snap=
  if test -n "$as_root" && ! sudo -n true 2>/dev/null; then
    as_root=
    timeout 20 "$docker" version --format '{{.Server.Version}}' >/dev/null 2>&1 || echo 'unasked yes'
  fi
  for container in $containers; do
    $as_root "$docker" port "$container" 2>/dev/null | sed -n 's/.*:\([0-9]*\)$/ours \1/p'
  done
  $as_root "$docker" images --format 'image {{.Tag}}' claude-local/llama-server 2>/dev/null
  docker_root=$($as_root "$docker" info --format '{{.DockerRootDir}}' 2>/dev/null)
  break
done
test -z "${snap:-}" || echo 'snap yes'
printf '%s\n' "$files" | while IFS= read -r file; do
  test -n "$file" || continue
  if size=$(stat -c %s "$file" 2>/dev/null || stat -c %s "$file.part" 2>/dev/null); then echo "file $size $file"; fi
done
for path do
  at=$path
  if test "$path" = /var/lib/docker; then at=${docker_root:-$path}; fi
  while test ! -e "$at"; do at=$(dirname "$at"); done
  df -PT -B1 "$at" | sed -n "2s|^\([^ ]*\) *\([^ ]*\) *[0-9]* *[0-9]* *\([0-9]*\) .*|mount \1 \2 \3 $path|p"
done
true
"""


class PreflightFindings(FactBase[dict[str, Any]]):
    """``{"apt", "root", "runtime", "snap", "unasked": bool, "listen", "ours": [port], "image": [tag],
    "file": {path: bytes}, "mount": {path: [device, type, free bytes]}}``.

    ``unasked``: only root can ask docker, and sudo needs a password; read the fact again with ``_sudo``.

    + containers: names of our containers
    + files: absolute paths of model files
    + runtime: a file that only a finished deploy leaves
    + paths: directories whose file systems matter; /var/lib/docker stands for the daemon's real data directory
    """

    def command(
        self, containers: Sequence[str], files: Sequence[str], runtime: str, paths: Sequence[str]
    ) -> StringCommand:
        return shell.script(SCRIPT, " ".join(containers), "\n".join(files), runtime, *paths)

    def process(self, output: list[str]) -> dict[str, Any]:
        findings = self.default()
        try:
            for line in output:
                tag, _, rest = line.partition(" ")
                if tag in ("apt", "root", "runtime", "snap", "unasked"):
                    findings[tag] = True
                elif tag == "image":
                    findings[tag].append(rest)
                elif tag in ("listen", "ours"):
                    findings[tag].append(int(rest))
                elif tag == "file":
                    size, path = rest.split(" ", 1)
                    findings[tag][path] = int(size)
                elif tag == "mount":
                    device, kind, free, path = rest.split(" ", 3)
                    findings[tag][path] = [device, kind, int(free)]
        except ValueError as error:
            raise FactProcessError(f"preflight printed something unexpected: {json.dumps(line)}: {error}") from None
        return findings

    @staticmethod
    def default() -> dict[str, Any]:
        """A machine that answers nothing."""
        return {
            "apt": False, "root": False, "runtime": False, "snap": False, "unasked": False,
            "listen": [], "ours": [], "image": [], "file": {}, "mount": {},
        }  # fmt: skip
