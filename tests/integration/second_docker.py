"""A second Docker daemon on this machine's network, which the first one must not notice."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What the names of tests' bridges begin with.
PREFIX = "claude-local"


@contextmanager
def bridge(number: int, address: str) -> Iterator[str]:
    """A bridge for the second daemon: with its own one it would take the first daemon's; its name. ``address``: with
    its mask's length. One that an earlier run was kept from removing is replaced."""
    name = f"{PREFIX}{number}"
    if Path("/sys/class/net", name).exists():
        subprocess.run(["ip", "link", "delete", name], check=True, timeout=30)
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True, timeout=30)
    try:
        subprocess.run(["ip", "address", "add", address, "dev", name], check=True, timeout=30)
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True, timeout=30)


def configuration(bridge: str) -> str:
    """daemon.json for a daemon that keeps its hands off packet filters and other bridges."""
    return json.dumps({"bridge": bridge, "iptables": False, "ip6tables": False, "ip-forward": False, "ip-masq": False})


def others() -> list[str]:
    """This machine's bridges that no test made, with their addresses."""
    command = ["ip", "-brief", "address", "show", "type", "bridge"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    return [line for line in lines if not line.startswith(PREFIX)]
