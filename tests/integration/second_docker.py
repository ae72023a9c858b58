"""A second Docker daemon on this machine's network that leaves the first one alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The prefix of the test bridges' names.
PREFIX = "claude-local"


@contextmanager
def bridge(number: int, address: str) -> Iterator[str]:
    """Create a bridge for the second daemon and yield its name. The daemon's default would be the first one's bridge.

    ``address``: with the length of its mask. A bridge that an earlier run left behind is replaced.
    """
    name = f"{PREFIX}{number}"
    if Path("/sys/class/net", name).exists():
        subprocess.run(["ip", "link", "delete", name], check=True, timeout=30)
    before = set(_bridges())
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True, timeout=30)
    try:
        subprocess.run(["ip", "address", "add", address, "dev", name], check=True, timeout=30)
        yield name
    finally:
        # That of the server's network, which the second daemon leaves, too.
        for each in [name, *(each for each in set(_bridges()) - before if each.startswith("br-"))]:
            subprocess.run(["ip", "link", "delete", each], check=True, timeout=30)


def _bridges() -> list[str]:
    return [path.parent.name for path in Path("/sys/class/net").glob("*/bridge")]


def configuration(bridge: str) -> str:
    """The daemon.json of a daemon that changes no packet filter and no other bridge."""
    return json.dumps({"bridge": bridge, "iptables": False, "ip6tables": False, "ip-forward": False, "ip-masq": False})


@contextmanager
def forwarding() -> Iterator[None]:
    """Let the containers on one network of a second dockerd talk: it makes no rules, and the first one's drop that."""
    rule = ["FORWARD", "-i", "br-+", "-o", "br-+", "-j", "ACCEPT"]
    subprocess.run(["iptables", "-I", *rule], check=True, timeout=20)
    try:
        yield
    finally:
        subprocess.run(["iptables", "-D", *rule], check=True, timeout=20)


def others() -> list[str]:
    """This machine's other bridges, with their addresses."""
    command = ["ip", "-brief", "address", "show", "type", "bridge"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    return [line for line in lines if not line.startswith(PREFIX)]
