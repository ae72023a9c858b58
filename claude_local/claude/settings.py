"""What Claude Code finds in ~/.claude-local, and how our defaults and the user's changes become one file. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]

SCHEMA = "https://json.schemastore.org/claude-code-settings.json"

# Claude Code itself rewrites .claude.json all the time; these keys answer its first-run questions. Whether a folder is
# trusted stays the user's to answer.
FIRST_RUN: Json = {"hasCompletedOnboarding": True, "hasSeenAutoDefaultNudge": True, "installMethod": "native"}
# Put back when they are missing or different; installMethod is Claude Code's own to change.
FIRST_RUN_ENFORCED = ("hasCompletedOnboarding", "hasSeenAutoDefaultNudge")

# The file tools ask before they write a guarded name (.git, .vscode, .envrc, .bashrc ... at any depth) even where a
# project's rules allow it, and the sandbox closes most of these names to commands: seen with 2.1.330 for every name in
# claude_local.fence.policy. This is the one that the sandbox leaves open and that direnv runs. A name without a slash holds at any
# depth for the tools and at the top for commands; one with ** would make `claude doctor` complain.
GUARDED_RULES = ["Edit(.envrc)"]


class BrokenSettings(ValueError):
    """A file that is no JSON object; the message says where it stops being one."""


def user_settings(default_mode: str) -> Json:
    """Our part of settings.json. ``default_mode``: the permission mode that a session starts in, such as ``plan``."""
    return {
        "$schema": SCHEMA,
        "permissions": {
            "defaultMode": default_mode,
            "disableAutoMode": "disable",
            "disableBypassPermissionsMode": "disable",
        },
    }


def enforced_settings(ports: Iterable[int], status_line: str | None = None) -> Json:
    """What the wrapper passes with ``--settings``, where no project's settings can undo it.

    ``ports``: the ports on this machine that sandboxed commands may reach, and nothing else. ``status_line``: the
    program that shows the fence below the prompt (files/status-line). Tried as a whole with 2.1.330: ``claude doctor``
    is content, and a project with ``sandbox.enabled: false`` stays sandboxed.

    There is no rule against reading /proc: Read and Grep refuse environments and memory there by themselves (tried
    through links, ``..``, task/ and root/), while ``Read(//proc/**)`` forbids ``cat /proc/cpuinfo`` in Bash, and a rule
    with a star inside (``Read(//proc/*/environ)``) makes bubblewrap fail at each command.
    """
    hosts = [f"{host}:{port}" for host in ("127.0.0.1", "localhost") for port in ports]
    settings: Json = {
        "permissions": {
            "disableAutoMode": "disable",
            "disableBypassPermissionsMode": "disable",
            "blockWritesOutsideWorkingDirectories": True,
            "deny": GUARDED_RULES,
        },
        "sandbox": {
            "enabled": True,
            "failIfUnavailable": True,
            "autoAllowBashIfSandboxed": False,
            "allowUnsandboxedCommands": False,
            "network": {"allowedDomains": hosts, "strictAllowlist": True},
            # No command needs llama-server's token: it is taken out of their environment.
            "credentials": {"envVars": [{"name": "ANTHROPIC_AUTH_TOKEN", "mode": "deny"}]},
        },
    }
    if status_line is not None:
        settings["statusLine"] = {"type": "command", "command": shlex.quote(status_line)}
    return settings


def parse(text: str) -> Json:
    """The JSON object in ``text``; an empty file is an empty object. Raises BrokenSettings."""
    if not text.strip():
        return {}
    try:
        found = json.loads(text.removeprefix("\ufeff"))
    except ValueError as problem:
        raise BrokenSettings(str(problem)) from None
    except RecursionError:
        raise BrokenSettings("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise BrokenSettings(f"it holds a {type(found).__name__}, not an object")
    return found


def dump(settings: Json) -> str:
    """As Claude Code writes it: two spaces, a newline at the end."""
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"


_MISSING = object()


def merge(ours: Json, applied: Json, current: Json, enforced: Iterable[str] = ()) -> Json:
    """One file from our defaults and the user's changes; ``current`` with as little changed as possible.

    ``ours`` is what the deploy wants now, ``applied`` what it wanted the last time, ``current`` what is on disk.
    A value on disk that differs from the applied one is the user's change and stays, and so does a deletion; a value
    that is as we left it follows ours, also when we no longer want it. ``enforced`` key paths (``a.b``; all below them
    too) are ours in any case. Lists and scalars are one value. The order of the keys on disk is kept, new ones follow.
    """
    return _merge(ours, applied, current, tuple(tuple(path.split(".")) for path in enforced), ())


Path = tuple[str, ...]


def _merge(
    ours: Mapping[str, Any], applied: Mapping[str, Any], current: Json, enforced: tuple[Path, ...], at: Path
) -> Json:
    merged = {}
    for key in [*current, *(key for key in ours if key not in current)]:
        value = _value(
            ours.get(key, _MISSING), applied.get(key, _MISSING), current.get(key, _MISSING), enforced, (*at, key)
        )
        if value is not _MISSING:
            merged[key] = value
    return merged


def _value(ours: Any, applied: Any, current: Any, enforced: tuple[Path, ...], at: Path) -> Any:
    if ours is not _MISSING and any(at[: len(path)] == path for path in enforced):
        if isinstance(ours, dict) and isinstance(current, dict):
            return _merge(ours, {}, current, enforced, at)
        return ours
    if isinstance(current, dict) and (isinstance(ours, dict) or (ours is _MISSING and isinstance(applied, dict))):
        wanted = ours if isinstance(ours, dict) else {}
        merged = _merge(wanted, applied if isinstance(applied, dict) else {}, current, enforced, at)
        # A group that only we filled goes with its last key.
        return _MISSING if ours is _MISSING and not merged and current else merged
    if _same(current, applied):
        return ours
    if isinstance(ours, dict):
        # The user removed or replaced the whole group: what is enforced in it comes back.
        return _only_enforced(ours, enforced, at) or current
    return current


def _only_enforced(ours: Json, enforced: tuple[Path, ...], at: Path) -> Json:
    kept: Json = {}
    for key, value in ours.items():
        here = (*at, key)
        if any(here[: len(path)] == path for path in enforced):
            kept[key] = value
        elif isinstance(value, dict) and (inner := _only_enforced(value, enforced, here)):
            kept[key] = inner
    return kept


def _same(one: Any, other: Any) -> bool:
    """Equality as JSON has it: 1 and true differ, and _MISSING equals only itself."""
    if one is _MISSING or other is _MISSING:
        return one is other
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
