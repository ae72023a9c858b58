"""The AppArmor profile for our copy of bubblewrap. Pure."""

from __future__ import annotations

from hashlib import sha256

NAME = "claude-local-bwrap"
FILE = f"/etc/apparmor.d/{NAME}"


def profile(path: str, abi_4: bool) -> str:
    """The profile that lets the program at ``path``, and nothing else, make user namespaces.

    It confines nothing (``unconfined``): bubblewrap and Claude Code's sandbox do that. ``abi_4``: the parser knows
    AppArmor 4, where user namespaces have a rule. One that does not takes the older form; user namespaces are not
    mediated for it. One profile for one path, so it never competes with another for bubblewrap.
    """
    version, rules = ("4.0", "  userns,\n") if abi_4 else ("3.0", "")
    return (
        f"# Written by claude-local (tasks/fence.py), changes are lost; local/{NAME} is for yours.\n"
        f"# Lets the fence's own copy of bubblewrap make user namespaces, whatever profile {'/usr/bin/bwrap'} has.\n"
        f"abi <abi/{version}>,\n"
        "include <tunables/global>\n"
        "\n"
        f"profile {NAME} {path} flags=(unconfined) {{\n"
        f"{rules}"
        f"  include if exists <local/{NAME}>\n"
        "}\n"
    )


def profile_sha256(path: str, abi_4: bool) -> str:
    return sha256(profile(path, abi_4).encode()).hexdigest()
