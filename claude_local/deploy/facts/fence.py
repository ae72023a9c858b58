"""What bubblewrap can do on the workstation as the user, and AppArmor's state as root sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import FactBase, FactProcessError, StringCommand

from claude_local.deploy import shell
from claude_local.fence import apparmor, plan
from claude_local.fence.probe import BWRAP, COPY, AppArmor, Bubblewrap, Result, Symptoms

# Needs sh, coreutils and util-linux; leaves no files. $1 the distribution's bubblewrap, $2 our copy of it, $3 and $4
# the outer fence's arguments for a user and for root. The inner fence is that of @anthropic-ai/sandbox-runtime 0.0.83
# around each command (dist/sandbox/linux-sandbox-utils.js), with the namespaces that its apply-seccomp makes inside.
# That program is part of Claude Code, so unshare stands in for it, under another name because AppArmor may know unshare
# by its path. As root a fresh /proc cannot be mounted in the outer fence: bubblewrap covers parts of root's.
EXPERIMENTS = r"""
LC_ALL=C; export LC_ALL
bwrap=$1 copy=$2 outer=$3 as_root=$4
uid=$(id -u)
echo "uid $uid"
for path in /proc/sys/kernel/unprivileged_userns_clone /proc/sys/kernel/apparmor_restrict_unprivileged_userns \
  /proc/sys/user/max_*_namespaces; do
  value=$(cat "$path" 2>/dev/null) || continue
  echo "sysctl $(echo "${path#/proc/sys/}" | tr / .) $value"
done
if test -e /.dockerenv; then echo 'container docker'
elif test -e /run/.containerenv; then echo 'container podman'
elif test -s /run/systemd/container; then echo "container $(head -n 1 /run/systemd/container)"
elif kind=$(systemd-detect-virt --container 2>/dev/null); then echo "container $kind"
fi
if PATH="$PATH:/usr/sbin:/sbin" command -v socat >/dev/null 2>&1; then echo 'socat yes'; fi
attempt() {
  name=$1; shift
  stderr=$(timeout -k 2 15 "$@" 2>&1 >/dev/null </dev/null 3</etc/passwd 4</etc/group); status=$?
  echo "try $program $name $status"
  printf '%s\n' "$stderr" | grep . | tail -n 4 | cut -c 1-400 | while IFS= read -r line; do
    printf 'stderr %s %s %s\n' "$program" "$name" "$line"
  done
}
# Nothing mounts over a link, and what it leads to needs no trial of its own.
for place in /tmp /var/tmp /run; do
  test -L "$place" || continue
  outer=$(printf '%s' "$outer" | sed "s| --perms [0-7]* --tmpfs $place | |")
  as_root=$(printf '%s' "$as_root" | sed "s| --perms [0-7]* --tmpfs $place | |")
done
more='' proc='--proc /proc'
if test "$uid" = 0; then outer=$as_root more='--cap-add CAP_SETFCAP' proc='--bind /proc /proc'; fi
inner="--new-session --die-with-parent --unshare-net --ro-bind / / --dev /dev --unshare-pid --unshare-user
  --cap-drop ALL --tmpfs /tmp"
nested=true
if unshare=$(command -v unshare); then
  inner="$inner --ro-bind $unshare /tmp/nested"
  nested='/tmp/nested --user --map-current-user --pid --fork --mount true'
fi
for program in "$bwrap" "$copy"; do
  test -x "$program" || continue
  echo "bwrap $program $(sha256sum <"$program" | cut -d ' ' -f 1) $("$program" --version 2>/dev/null | tail -n 1)"
  attempt outer "$program" $outer true
  attempt inner "$program" $inner $more --proc /proc -- $nested
  attempt both "$program" $outer "$program" $inner $proc -- $nested
done
true
"""

# Needs root; without it, parts of the answer are missing. $1 our profile's file.
ROOT = r"""
for path in /proc/sys/kernel/unprivileged_userns_clone /proc/sys/user/max_*_namespaces; do
  if test -w "$path"; then echo "settable $(echo "${path#/proc/sys/}" | tr / .)"; fi
done
if test "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y; then echo enabled; fi
kernel=/sys/kernel/security/apparmor
if test -w "$kernel/.replace"; then echo loadable; fi
if PATH="$PATH:/usr/sbin:/sbin" command -v apparmor_parser >/dev/null 2>&1; then echo parser; fi
if test -e /etc/apparmor.d/abi/4.0; then echo abi_4; fi
if test -f "$1"; then echo "profile $(sha256sum <"$1" | cut -d ' ' -f 1)"; fi
for each in "$kernel"/policy/profiles/*; do
  name=$(cat "$each/name" 2>/dev/null) || continue
  # It reads <unknown> where the parser did not note the attachment.
  case "$name $(cat "$each/attach" 2>/dev/null)" in *bwrap*) echo "loaded $name" ;; esac
done
true
"""


@dataclass(frozen=True)
class RootView:
    """AppArmor's state, and the kernel settings that root can change here."""

    apparmor: AppArmor = field(default_factory=AppArmor)
    settable: frozenset[str] = field(default_factory=frozenset)


def _outer(accounts: tuple[int, int] | None = None) -> list[str]:
    """The arguments of an outer fence around an empty workspace, without the program. None has a space in it."""
    return plan.bubblewrap_argv("", plan.Fence(), "/", own_network=True, runtime_dir="/run/user/0", accounts=accounts)[
        1:
    ]


class FenceExperiments(FactBase[Symptoms]):
    """The results of the experiments, run as the current user.

    They take about 0.1 s; one that hangs is ended after 15 s. :class:`FenceRootView` has root's part.

    + bwrap: the distribution's bubblewrap
    + copy: our copy of it
    """

    def command(self, bwrap: str = BWRAP, copy: str = COPY) -> StringCommand:
        self.bwrap, self.copy = bwrap, copy
        return shell.script(EXPERIMENTS, bwrap, copy, " ".join(_outer()), " ".join(_outer(accounts=(3, 4))))

    def process(self, output: list[str]) -> Symptoms:
        known: dict[str, Any] = {}
        sysctls: dict[str, str] = {}
        programs: dict[str, Bubblewrap] = {}
        results: dict[str, dict[str, Result]] = {}
        try:
            for line in output:
                tag, _, rest = line.partition(" ")
                if tag == "uid":
                    known["uid"] = int(rest)
                elif tag == "sysctl":
                    name, value = rest.split()
                    sysctls[name] = value
                elif tag == "container":
                    known["container"] = rest.strip()
                elif tag == "socat":
                    known["socat"] = True
                elif tag == "bwrap":
                    path, digest, version = rest.split(" ", 2)
                    results[path] = {}
                    programs[path] = Bubblewrap(path, version.removeprefix("bubblewrap").strip(), digest, results[path])
                elif tag == "try":
                    path, name, status = rest.split(" ")
                    results[path][name] = Result(int(status))
                elif tag == "stderr":
                    path, name, text = rest.split(" ", 2)
                    before = results[path][name]
                    results[path][name] = Result(before.status, f"{before.stderr}\n{text}".strip())
        except (KeyError, ValueError) as error:
            raise FactProcessError(f"the fence's probe printed something unexpected: {line!r}: {error}") from None
        return Symptoms(
            distribution=programs.get(self.bwrap), copy=programs.get(self.copy), sysctls=sysctls, **known
        )  # fmt: skip

    @staticmethod
    def default() -> Symptoms:
        """A machine that answers nothing (pyinfra's @fake): bubblewrap is missing."""
        return Symptoms()


class FenceRootView(FactBase[RootView]):
    """:class:`RootView` of the machine; it needs root.

    + profile: file of our AppArmor profile
    """

    def command(self, profile: str = apparmor.FILE) -> StringCommand:
        return shell.script(ROOT, profile)

    def process(self, output: list[str]) -> RootView:
        flags = dict.fromkeys(("enabled", "loadable", "parser", "abi_4"), False)
        loaded, settable, profile = set[str](), set[str](), ""
        for line in output:
            tag, _, rest = line.partition(" ")
            if tag in flags:
                flags[tag] = True
            elif tag == "settable":
                settable.add(rest)
            elif tag == "profile":
                profile = rest
            elif tag == "loaded":
                loaded.add(rest)
        return RootView(AppArmor(loaded=frozenset(loaded), profile=profile, **flags), frozenset(settable))

    @staticmethod
    def default() -> RootView:
        """A machine without AppArmor."""
        return RootView()
