"""Preflight's look at the workstation, with the password that sudo wants where docker can only be asked with it."""

from __future__ import annotations

import sys
from typing import Any

from pyinfra import config, host

from claude_local.deploy.facts.preflight import PreflightFindings


def password_at_hand() -> bool:
    """Whether sudo's password is there or can be asked for: in pyinfra's configuration or data (``_sudo_password``),
    given before in this run, or a terminal to ask on."""
    given = (config.SUDO_PASSWORD, host.data.get("_sudo_password"), host.connector_data.get("prompted_sudo_password"))
    return any(given) or sys.stdin.isatty()


def looked(uid: int, sudo: bool, **arguments: Any) -> dict[str, Any]:
    """The fact PreflightFindings for its ``arguments``, as root where docker says nothing to the user.

    ``uid`` and whether there is a ``sudo``: the identity's. Without the answers of docker our own container's port would
    count as another program's, and the image as not built.
    """
    seen: dict[str, Any] = host.get_fact(PreflightFindings, **arguments)
    if not seen["unasked"] or uid == 0 or not sudo or not password_at_hand():
        return seen
    more: dict[str, Any] = host.get_fact(PreflightFindings, **arguments, _sudo=True)
    return {**more, "root": seen["root"]}
