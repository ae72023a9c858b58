"""The fence: prepare the machine with the least that helps, and write down which layers work."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from typing import Any

from pyinfra import host, logger, state
from pyinfra.api import operation
from pyinfra.operations import server

from claude_local.deploy import shell
from claude_local.deploy.facts.fence import FenceExperiments, FenceRootView
from claude_local.deploy.operations import known, packages, user_files
from claude_local.fence import apparmor, config
from claude_local.fence.probe import BWRAP, COPY, Action, AllowCopy, Decision, InstallPackages, SetSysctls, decide

# Sorts after the usual names of administrators' files: the last file wins.
SYSCTL_FILE = "/etc/sysctl.d/zz-claude-local.conf"

# $1 the distribution's bubblewrap, $2 our copy, $3 the profile's file, $4 its text. It makes both, or neither.
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


def probe(**root: Any) -> Decision:
    """Run the experiments as the connecting user, read AppArmor's state as root, and decide.

    ``root``: the global arguments that make root, for an operation that runs as the user.
    """
    symptoms = known.ask(FenceExperiments, _sudo=False)
    view = known.ask(FenceRootView, **root)
    return decide(replace(symptoms, apparmor=view.apparmor, settable=view.settable))


@operation()
def prepare(lock_timeout: int = 300) -> Generator[Any]:
    """Do the least that makes the fence's experiments succeed: packages, kernel settings, an AppArmor profile.

    + lock_timeout: seconds to wait for another apt or dpkg

    What cannot be helped stays as it is, without an error.

    Example::

        fence.prepare(name="Prepare the machine for the fence", lock_timeout=300, _sudo=True)
    """
    decision = probe()
    tried: list[Action] = []
    while new := [action for action in decision.actions if action not in tried]:
        for action in new:
            for fact in (FenceExperiments, FenceRootView):
                known.forget(fact)
            yield from _commands(action, lock_timeout)
        tried += new
        decision = probe()
    if not tried:
        host.noop(f"the fence's layers that can work here do: {', '.join(decision.layers) or 'none'}")


def _commands(action: Action, lock_timeout: int) -> Iterable[Any]:
    if isinstance(action, InstallPackages):
        yield from packages.install._inner(packages=action.packages, lock_timeout=lock_timeout)
    elif isinstance(action, SetSysctls):
        for name, value in action.values.items():
            yield from server.sysctl._inner(key=name, value=value, persist=True, persist_file=SYSCTL_FILE)
    elif isinstance(action, AllowCopy):
        yield shell.script(COPY_SCRIPT, BWRAP, COPY, apparmor.FILE, apparmor.profile(COPY, action.abi_4))


@operation()
def configure(dest: str, settings: config.FenceConfig, root: Mapping[str, Any]) -> Generator[Any]:
    """Write fence.json: the layers that work here, with which bubblewrap, and what the settings let through.

    + dest: the file
    + settings: what the settings say; layers, bwrap and reason are filled in from the experiments
    + root: global arguments that make root (``ws.root``), to read AppArmor's state; the file is the user's

    A missing layer is a warning, not an error.

    Example::

        fence.configure(name="Write fence.json", dest=ws.paths.fence_config, settings=FenceConfig(), root=ws.root)
    """
    decision = probe(**root)
    if not decision.complete and state.is_executing:
        host.log_styled(warning(decision), fg="yellow", log_func=logger.warning)
    works = {"layers": decision.layers, "bwrap": decision.bwrap, "reason": decision.reason}
    complete = config.FenceConfig(**{**vars(settings), **works})
    yield from user_files.put._inner(dest=dest, text=config.dump(complete), mode="600")


def warning(decision: Decision) -> str:
    """The warning for an incomplete fence: what is missing, why, what it means, what helps."""
    means = {
        (config.OUTER,): "commands of a session are fenced like all of it, but without Claude Code's own sandbox",
        (config.INNER,): "commands are fenced; the file tools, hooks and MCP servers of a session are not",
        (): "claude-local will refuse to start, unless it is called with --unfenced",
    }
    lines = [decision.reason, f"what it means: {means.get(decision.layers, '')}"]
    lines += [f"what helps: {each}" for each in decision.advice]
    return "The fence is incomplete on this machine.\n  " + "\n  ".join(lines)
