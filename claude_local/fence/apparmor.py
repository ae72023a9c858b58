"""The AppArmor profile for our copy of bubblewrap. Pure."""

from __future__ import annotations

from hashlib import sha256

NAME = "claude-local-bwrap"
FILE = f"/etc/apparmor.d/{NAME}"


def profile(path: str, abi_4: bool) -> str:
    """The profile that lets the program at ``path``, and nothing else, make user namespaces.

    It confines nothing (``unconfined``): bubblewrap and Claude Code's sandbox do that. ``abi_4``: the parser knows
    AppArmor 4, which has a rule for user namespaces; an older one needs no rule. The profile is attached to ``path``
    only, so it never competes with another profile for bubblewrap.
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
    """The sha256 of that profile's text, in hex."""
    return sha256(profile(path, abi_4).encode()).hexdigest()
