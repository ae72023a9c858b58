"""The fence: make the machine ready for it with the least that helps, and write down what works."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import Any

from pyinfra import host, logger, state
from pyinfra.api import QuoteString, StringCommand, operation

from claude_local.deploy.facts.fence import FenceExperiments, FenceRootView
from claude_local.deploy.operations import packages
from claude_local.deploy.operations.user_files import whole_file
from claude_local.fence import apparmor, config
from claude_local.fence.probe import BWRAP, COPY, Action, AllowCopy, Decision, InstallPackages, SetSysctls, decide

# Sorts after the names that administrators usually give theirs: the last file wins.
SYSCTL_FILE = "/etc/sysctl.d/zz-claude-local.conf"

# $1 the file, then NAME=VALUE. A setting that cannot be made is not kept either; the probe afterwards says what it means.
SYSCTL_SCRIPT = r"""
file=$1; shift
for assignment do
  name=${assignment%%=*} value=${assignment#*=}
  if ! printf '%s\n' "$value" >"/proc/sys/$(echo "$name" | tr . /)"; then
    echo "$name cannot be set to $value here" >&2
    continue
  fi
  test -e "$file" || printf '# Written by claude-local: its fence needs user namespaces.\n' >"$file"
  grep -qxF "$name = $value" "$file" || printf '%s\n' "$name = $value" >>"$file"
done
"""

# $1 the distribution's bubblewrap, $2 our copy, $3 the profile's file, $4 its text. All of it or nothing.
COPY_SCRIPT = r"""
set -u
bwrap=$1 copy=$2 file=$3 text=$4
PATH=$PATH:/usr/sbin:/sbin
umask 022
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
give_up() { echo "$*: bubblewrap stays as it is" >&2; rm -f "$copy" "$file"; exit 0; }
printf '%s' "$text" >"$scratch/profile"
apparmor_parser --skip-kernel-load --skip-cache "$scratch/profile" || give_up "apparmor_parser refuses our profile"
install -d -o root -g root -m 755 "$(dirname "$copy")"
cmp -s "$bwrap" "$copy" || { install -o root -g root -m 755 "$bwrap" "$copy.new" && mv -f "$copy.new" "$copy"; }
install -o root -g root -m 644 "$scratch/profile" "$file"
apparmor_parser --replace --skip-cache "$file" || give_up "the kernel refuses our AppArmor profile"
"""


def probed(root: bool) -> Decision:
    """Run the experiments as the connecting user, look at AppArmor as root, and decide.

    ``root``: whether sudo is needed for root's part (``bool(ws.root)``).
    """
    seen = host.get_fact(FenceExperiments, _sudo=False)
    view = host.get_fact(FenceRootView, _sudo=root)
    return decide(replace(seen, apparmor=view.apparmor, settable=view.settable))


@operation()
def fitted(lock_timeout: int = 300, root: bool = False) -> Generator[Any]:
    """Do the least that makes the fence's experiments succeed: packages, kernel settings, an AppArmor profile.

    + lock_timeout: seconds to wait for another apt or dpkg to release its lock
    + root: whether to run commands through sudo (``bool(ws.root)``)

    What cannot be helped stays as it is, without an error.
    """
    decision = probed(root)
    tried: list[Action] = []
    while new := [action for action in decision.actions if action not in tried]:
        for action in new:
            yield from _commands(action, lock_timeout, root)
        tried += new
        decision = probed(root)
    if not tried:
        host.noop(f"the fence's layers that can work here do: {', '.join(decision.layers) or 'none'}")


def _commands(action: Action, lock_timeout: int, root: bool) -> Iterable[Any]:
    if isinstance(action, InstallPackages):
        return packages.installed._inner(packages=action.packages, lock_timeout=lock_timeout, root=root)
    if isinstance(action, SetSysctls):
        words = [SYSCTL_FILE, *(f"{name}={value}" for name, value in action.values.items())]
        return [_script(SYSCTL_SCRIPT, words)]
    assert isinstance(action, AllowCopy)
    return [_script(COPY_SCRIPT, [BWRAP, COPY, apparmor.FILE, apparmor.profile(COPY, action.abi_4)])]


def _script(script: str, words: Iterable[str]) -> StringCommand:
    return StringCommand("sh", "-c", QuoteString(script), "sh", *[QuoteString(word) for word in words])


@operation()
def configured(dest: str, wanted: config.FenceConfig, root: bool = False) -> Generator[Any]:
    """Write fence.json: the layers that work on this machine, with which bubblewrap, and what the settings let through.

    + dest: the file
    + wanted: what comes from the settings; layers, bwrap and reason are filled in from the experiments
    + root: whether root's part of the look needs sudo (``bool(ws.root)``)

    A layer that is missing is one warning, not an error.
    """
    decision = probed(root)
    if not decision.complete and state.is_executing:
        host.log_styled(warning(decision), fg="yellow", log_func=logger.warning)
    found = config.FenceConfig(
        **{**vars(wanted), "layers": decision.layers, "bwrap": decision.bwrap, "reason": decision.reason}
    )
    yield from whole_file._inner(dest=dest, text=config.dump(found), mode="600")


def warning(decision: Decision) -> str:
    """For people: what is missing, why, what it means, what they could do."""
    means = {
        (config.OUTER,): "commands of a session are fenced like all of it, but without Claude Code's own sandbox",
        (config.INNER,): "commands are fenced; the file tools, hooks and MCP servers of a session are not",
        (): "claude-local will refuse to start, unless it is called with --unfenced",
    }
    lines = [decision.reason, f"what it means: {means.get(decision.layers, '')}"]
    lines += [f"what helps: {each}" for each in decision.advice]
    return "The fence is incomplete on this machine.\n  " + "\n  ".join(lines)
