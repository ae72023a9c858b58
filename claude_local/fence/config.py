"""fence.json: what the deploy found out about this machine and what the user's settings let through."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

OUTER, INNER = "outer", "inner"


class ConfigError(ValueError):
    """A fence.json that cannot be used; the message says what is wrong in it."""


@dataclass(frozen=True)
class FenceConfig:
    """The fence of one workstation. All paths are absolute.

    ``layers``: which of OUTER (bubblewrap around the whole process) and INNER (Claude Code's sandbox around each
    command) work here; a layer that is not in it is not tried. ``bwrap``: the bubblewrap to use (a file of its own where
    AppArmor wants one). ``reason``: why a layer is missing, in one line; empty when none is. ``ports``: ports on
    127.0.0.1 that a session may reach. ``domains``: what sandboxed commands may reach beyond them; not empty means that
    the outer fence shares the machine's network. ``writable``, ``hidden``, ``visible``: the user's additions to the
    paths that are writable and hidden, and exceptions from the hidden ones. ``environment``: variables that pass though
    their name looks like a credential. ``sockets``: of ``ssh-agent``, ``gpg-agent``, ``display``.
    """

    layers: tuple[str, ...] = (OUTER, INNER)
    bwrap: str = "/usr/bin/bwrap"
    reason: str = ""
    ports: tuple[int, ...] = ()
    domains: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    visible: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()

    @property
    def outer(self) -> bool:
        return OUTER in self.layers

    @property
    def inner(self) -> bool:
        return INNER in self.layers


_TEXT, _NUMBERS = ("bwrap", "reason"), ("ports",)


def parse(text: str) -> FenceConfig:
    """The configuration in ``text`` (JSON). Raises ConfigError; a key that is missing has its default."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"it is no JSON ({error})") from None
    if not isinstance(raw, dict):
        raise ConfigError("it holds no JSON object")
    known = {each.name for each in fields(FenceConfig)}
    if strange := sorted(raw.keys() - known):
        raise ConfigError(f"it has the unknown key {strange[0]!r}")
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key in _TEXT:
            good = isinstance(value, str)
        else:
            kind = int if key in _NUMBERS else str
            good = isinstance(value, list) and all(type(each) is kind for each in value)
        if not good:
            raise ConfigError(f"{key} is {value!r}")
        values[key] = tuple(value) if isinstance(value, list) else value
    if strange := sorted(set(values.get("layers", ())) - {OUTER, INNER}):
        raise ConfigError(f"layers names {strange[0]!r}")
    return FenceConfig(**values)


def dump(config: FenceConfig) -> str:
    """As the deploy writes it."""
    return json.dumps(asdict(config), indent=2, ensure_ascii=False) + "\n"
