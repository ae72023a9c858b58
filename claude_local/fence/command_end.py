"""Says in one line what the fence refused a command, and the setting that allows it.

files/bash-env.sh runs this at the end of a command whose output looks like a refusal, or for which the session's proxy
refused something: ``command_end.py STATUS SEEN``, with the command's exit status, the number of refusals before it
(refusals.py), and the command's output as standard input. Nothing is imported from the package, so that it starts fast.
"""

import os
import re
import sys

# Bytes of output, from its end, that are searched.
TAIL = 65536
# Refusals in the line at most.
SHOWN = 3
PREFIX = "claude-local: the fence refused "

_READ_ONLY = re.compile(r"read-only file system|\bEROFS\b", re.IGNORECASE)
# A quoted path, or a word with a slash.
_PATH = re.compile(r"'([^'\n]+)'|\"([^\"\n]+)\"|`([^`\n]+)`|([^\s'\"`:,()]*/[^\s'\"`:,()]*)")
# What programs say that do not ask the proxy.
_NO_NETWORK = re.compile(
    r"could not resolve (?:host|proxy)|name resolution|Name or service not known|\bENOTFOUND\b|\bEAI_AGAIN\b"
    r"|UnknownHostException|Network is unreachable|\bENETUNREACH\b",
    re.IGNORECASE,
)
# What they say that Claude Code's own proxy refused (with fence_domains). Claude Code adds the host to the output.
_FORBIDDEN = re.compile(
    r"CONNECT tunnel failed, response 403|Tunnel connection failed: 403|blocked by network allowlist"
    r"|\b403 Forbidden - [A-Z]+ https?:",
    re.IGNORECASE,
)
_HOST = re.compile(r"https?://([^/\s'\":]+(?::\d+)?)|(?:host: |ENOTFOUND |EAI_AGAIN )'?([\w.-]+)", re.IGNORECASE)
_NOBODY = re.compile(r"connection refused|\bECONNREFUSED\b|Failed to connect to (?:localhost|127\.|::1)", re.IGNORECASE)
_PORT = re.compile(r"(?:localhost|127\.0\.0\.1|::1)\W{1,3}(?:port )?(\d{2,5})\b(?!\.)", re.IGNORECASE)
_HERE = re.compile(r"(127\.|localhost:|\[::1\])", re.IGNORECASE)


def written(output: str) -> list[str]:
    """The paths that the lines with "Read-only file system" in ``output`` name."""
    found, before = [], ""
    for line in output.replace("\u2018", "'").replace("\u2019", "'").splitlines():
        message = _READ_ONLY.search(line)
        if message is None:
            before = _path(line) or before
            continue
        # Python, Node and zsh name the path after the message, others before it, cargo in a line before.
        after = re.split(_READ_ONLY, line)[-1].strip(" :")
        first = line[: message.start()].rstrip(" :").rpartition(": ")[2]
        if path := _path(after, "(") or _path(first, "") or before:
            found.append(path)
    return found


def _path(words: str, no_word: str | None = None) -> str:
    """The last path in ``words``; with ``no_word``, else the last word, unless ``words`` begins with that."""
    paths = [next(filter(None, each.groups())) for each in _PATH.finditer(words)]
    if paths or no_word is None or (no_word and words.startswith(no_word)):
        return paths[-1] if paths else ""
    return words.split()[-1] if words.split() else ""


def unwritable(path: str) -> str | None:
    """The absolute path, when it (or the nearest directory that exists) cannot be written here."""
    where = os.path.realpath(path)
    existing = where
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    return None if os.access(existing, os.W_OK) else where


def refusals(output: str, status: int, hosts: list[str], guarded: list[str]) -> list[str]:
    """What the fence refused: each with the setting that allows it. ``hosts``: the addresses that the proxy refused.
    ``guarded``: directories in which no setting allows what is refused.
    What only the output says of the network does not count when the command worked: it may show an old log."""
    found = [f"{host} (setting {'fence_ports' if _HERE.match(host) else 'fence_domains'})" for host in hosts]
    for path in filter(None, map(unwritable, written(output))):
        outside = any(path.startswith(each.rstrip("/") + "/") for each in guarded)
        found.append(f"{path} ({'guarded: change it outside the session' if outside else 'setting fence_writable'})")
    if status and not hosts:
        if line := _line(_FORBIDDEN, output):
            found.append(f"{_host(line)} (setting fence_domains)")
        elif line := _line(_NO_NETWORK, output):
            found.append(f"{_host(line)} (setting fence_domains; only programs that use HTTPS_PROXY reach it)")
    return list(dict.fromkeys(found))


def _host(line: str) -> str:
    named = _HOST.search(line)
    return next(filter(None, named.groups())) if named else "the network"


def unanswered(output: str) -> str:
    """What to do about a port on which nothing listens in the command's own network; empty when there is none."""
    if not (line := _line(_NOBODY, output)):
        return ""
    port = _PORT.search(line)
    place = f"port {port[1]}" if port else "that port"
    return f"nothing listens on {place} in this command (on this machine: setting fence_ports; your own: same command)"


def _line(pattern: re.Pattern[str], output: str) -> str:
    return next((line for line in output.splitlines() if pattern.search(line)), "")


def refused_hosts(path: str, seen: int) -> list[str]:
    """The addresses in the list of :mod:`claude_local.fence.refusals` that came after the first ``seen``."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            count, *hosts = file.read().split()
    except (OSError, ValueError):
        return []
    new = int(count) - seen
    return list(dict.fromkeys(hosts[-new:])) if new > 0 else []


def main(argv: list[str]) -> None:
    """Print the line, if there is something to say."""
    status, seen = int(argv[1]), int(argv[2])
    with open(0, "rb", closefd=False) as stdin:
        stdin.seek(max(0, stdin.seek(0, os.SEEK_END) - TAIL))
        output = stdin.read().decode(errors="replace")
    hosts = refused_hosts(os.environ.get("CLAUDE_LOCAL_REFUSED", ""), seen)
    guarded = filter(None, map(os.environ.get, ("CLAUDE_LOCAL_WORKSPACE", "CLAUDE_CONFIG_DIR")))
    found = refusals(output, status, hosts, list(guarded))
    if not found and status and (words := unanswered(output)):
        print(f"claude-local: {words}", file=sys.stderr)
    if found:
        more = f" and {len(found) - SHOWN} more" * (len(found) > SHOWN)
        words = "".join(each if each.isprintable() else "?" for each in ", ".join(found[:SHOWN]))
        print(f"{PREFIX}{words}{more}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv)
