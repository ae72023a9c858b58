"""The addresses outside that a session reaches from its own network namespace."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from os.path import islink, join

from claude_local.fence import plan
from claude_local.fence.config import FenceConfig
from claude_local.fence.ide import ide_ports
from claude_local.fence.options import Options
from claude_local.fence.survey import Places

Address = tuple[str, int]


@dataclass(frozen=True)
class Network:
    """``own_namespace``: the session has a network namespace with loopback only. ``addresses``: what the launcher
    relays into it. ``proxy_port``: the port there of the proxy for sandboxed commands; None when there is no proxy of
    ours."""

    own_namespace: bool
    addresses: list[Address]
    proxy_port: int | None

    @property
    def listeners(self) -> list[Address]:
        """The addresses on which inside.py has to listen."""
        return self.addresses + ([("127.0.0.1", self.proxy_port)] if self.proxy_port is not None else [])


def session_network(config: FenceConfig, options: Options, places: Places) -> Network:
    """The network of a session. It shares the machine's where ``fence_domains`` is set, and for commands that
    download."""
    if config.domains or options.downloads:
        return Network(False, [], None)
    addresses = relayed_addresses(config, places, options.server, os.environ)
    return Network(True, addresses, plan.proxy_port(port for _, port in addresses) if config.inner else None)


def server_address(server: str) -> Address:
    """Host and port of llama-server's address, ``http://HOST[:PORT]``."""
    place = server.partition("://")[2].rstrip("/")
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        return host, int(port.removeprefix(":") or 80)
    host, _, port = place.partition(":")
    return "127.0.0.1" if host == "localhost" else host, int(port or 80)


def relayed_addresses(config: FenceConfig, places: Places, server: str, env: Mapping[str, str]) -> list[Address]:
    """The ports of ``fence_ports``, llama-server and the user's IDEs."""
    addresses = [("127.0.0.1", port) for port in config.ports]
    if server:
        addresses.append(server_address(server))
    directories = [join(places.home, ".claude", "ide")]
    # A session could have made this link.
    if not islink(join(places.config_dir, "ide")):
        directories.append(join(places.config_dir, "ide"))
    # An ordinary user cannot listen below 1024: such a port is no IDE's, and inside.py could not offer it.
    ports = ide_ports(directories, env.get("CLAUDE_CODE_SSE_PORT"))
    addresses += [("127.0.0.1", port) for port in ports if port >= 1024]
    return list(dict.fromkeys(addresses))
