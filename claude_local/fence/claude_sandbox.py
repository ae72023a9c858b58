"""The settings that a session gets with ``--settings``: the enforced ones and those of Claude Code's own sandbox.
Pure."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass


@dataclass(frozen=True)
class ClaudeSandbox:
    """Claude Code's own sandbox around each command, for one session.

    ``enabled``: whether this layer is used. ``files``: whether it restricts files too. Where the outer layer does, this
    one would only make empty files in the workspace for each command, and lock git's configuration. ``weaker_nested``:
    do not mount /proc anew (bubblewrap covers parts of root's /proc in the outer layer, and the kernel then refuses a
    new mount of it). ``allow_write``: paths besides the
    workspace that commands may write. ``allowed_domains``: ``HOST:PORT`` or domains that they may reach.
    ``all_unix_sockets``: commands may use every Unix socket that they can see. ``proxy_port``: the port of our proxy
    (proxy.py) in place of Claude Code's own. ``deny_write``, ``deny_read``: paths closed to commands and to the file
    tools, where no outer layer closes them. ``auto_allow``: commands run without a question.
    """

    enabled: bool = True
    files: bool = True
    weaker_nested: bool = False
    allow_write: Sequence[str] = ()
    allowed_domains: Sequence[str] = ()
    all_unix_sockets: bool = False
    proxy_port: int | None = None
    deny_write: Sequence[str] = ()
    deny_read: Sequence[str] = ()
    auto_allow: bool = False


def session_settings(enforced: dict[str, object], sandbox: ClaudeSandbox) -> dict[str, object]:
    """``enforced`` with what this session's sandbox needs; ``enforced`` itself is not changed."""
    settings = deepcopy(enforced)
    if sandbox.enabled:
        _add_sandbox(_section(settings, "sandbox"), sandbox)
    else:
        settings["sandbox"] = {"enabled": False}
    rules = [f"Read(/{path}{end})" for path in sandbox.deny_read for end in ("", "/**")]
    rules += [f"Edit(/{path}{end})" for path in sandbox.deny_write for end in ("", "/**")]
    _extend(_section(settings, "permissions"), "deny", rules)
    return settings


def _add_sandbox(section: dict[str, object], sandbox: ClaudeSandbox) -> None:
    if sandbox.weaker_nested:
        section["enableWeakerNestedSandbox"] = True
    if sandbox.auto_allow:
        section["autoAllowBashIfSandboxed"] = True
    files, network = _section(section, "filesystem"), _section(section, "network")
    if not sandbox.files:
        files["disabled"] = True
    _extend(files, "allowWrite", sandbox.allow_write)
    _extend(files, "denyWrite", sandbox.deny_write)
    _extend(files, "denyRead", sandbox.deny_read)
    _extend(network, "allowedDomains", sandbox.allowed_domains)
    if sandbox.proxy_port is not None:
        network.update(httpProxyPort=sandbox.proxy_port, socksProxyPort=sandbox.proxy_port)
    if sandbox.all_unix_sockets:
        network["allowAllUnixSockets"] = True


def _section(parent: dict[str, object], key: str) -> dict[str, object]:
    """The object at ``key``, made when it is missing or something else."""
    section = parent.setdefault(key, {})
    if not isinstance(section, dict):
        section = parent[key] = {}
    return section


def _extend(section: dict[str, object], key: str, values: Sequence[str]) -> None:
    """Add the values that the list at ``key`` does not hold yet."""
    known = section.get(key)
    known = list(known) if isinstance(known, list) else []
    added = [value for value in values if value not in known]
    if added:
        section[key] = known + added
