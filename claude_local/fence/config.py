"""fence.json: which layers of the fence work on this machine, and what the user's settings let through."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

OUTER, INNER = "outer", "inner"


class ConfigError(ValueError):
    """An invalid fence.json; the message says what is wrong in it."""


@dataclass(frozen=True)
class FenceConfig:
    """The fence of one workstation. All paths are absolute.

    ``layers``: which of OUTER (bubblewrap around the whole process) and INNER (Claude Code's sandbox around each
    command) work here. ``bwrap``: the bubblewrap to run, a copy of its own where AppArmor needs one. ``reason``: why
    a layer is missing, in one line. ``ports``: ports on 127.0.0.1 that a session may reach. ``server_port``:
    llama-server's among them, where only a client's requests pass; ``manager_port``: the management API's.
    ``domains``: domains that sandboxed commands may reach; unless empty, the session shares the machine's network.
    ``writable``, ``hidden``, ``visible``: paths that the user adds to the writable and the hidden ones, and
    exceptions from the hidden ones. ``environment``: variables that a session gets although their names look like
    credentials. ``sockets``: some of ``ssh-agent``, ``gpg-agent``, ``display``. ``auto_allow``: commands run without
    a question where both layers work.
    """

    layers: tuple[str, ...] = (OUTER, INNER)
    bwrap: str = "/usr/bin/bwrap"
    reason: str = ""
    ports: tuple[int, ...] = ()
    server_port: int = 8080
    manager_port: int = 8081
    domains: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    visible: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    auto_allow: bool = False

    @property
    def outer(self) -> bool:
        """Whether the outer layer works here."""
        return OUTER in self.layers

    @property
    def inner(self) -> bool:
        """Whether the inner layer works here."""
        return INNER in self.layers


def parse(text: str) -> FenceConfig:
    """The configuration in the JSON ``text``; a missing key has its default. Raises ConfigError.

    Nothing is guessed: a key or layer that is not known here comes from a deploy of another version, and a session
    must not start with less of a fence than that deploy meant.
    """
    try:
        raw: dict[str, Any] = json.loads(text)
        for key, value in raw.items():
            raw[key] = tuple(value) if isinstance(value, list) else value
        config = FenceConfig(**raw)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(str(error)) from None
    for each in fields(FenceConfig):
        value = getattr(config, each.name)
        item = int if each.name == "ports" else str
        if type(value) is not type(each.default) or (type(value) is tuple and {type(one) for one in value} - {item}):
            raise ConfigError(f"{each.name} is {value!r}, which is not of the right type")
    if unknown := sorted({*config.layers} - {OUTER, INNER}):
        raise ConfigError(f"layers names the unknown layer {unknown[0]!r}")
    return config


def dump(config: FenceConfig) -> str:
    """The text of fence.json, as the deploy writes it."""
    return json.dumps(asdict(config), indent=2, ensure_ascii=False) + "\n"
