"""The network addresses that a program and all its children talk to, from strace or else from samples of /proc."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from claude_local.verify import processes

# Every system call that names a peer. io_uring could connect without any of them, so its set-up is recorded too.
CALLS = ("connect", "sendto", "sendmsg", "sendmmsg", "io_uring_setup")

_CALL = re.compile(r"^(?:\d+\s+)?(\w+)\(")
_V4 = re.compile(r'sa_family=AF_INET, sin_port=htons\((\d+)\), sin_addr=inet_addr\("([0-9.]+)"\)')
_V6 = re.compile(r'sa_family=AF_INET6, sin6_port=htons\((\d+)\),[^}]*?inet_pton\(AF_INET6, "([0-9a-fA-F:.]+)"')


@dataclass
class Destinations:
    """Peers: (address, port) -> how often. ``method``: how they were recorded. ``uring``: io_uring was set up."""

    method: str
    peers: Counter[tuple[str, int]] = field(default_factory=Counter)
    uring: bool = False

    def other_than(self, *ports: int) -> list[str]:
        """Every peer but ``ports`` on 127.0.0.1, as ``address:port``."""
        others = {(address, port) for address, port in self.peers if address != "127.0.0.1" or port not in ports}
        return sorted(
            f"{address}:{number}" if ":" not in address else f"[{address}]:{number}" for address, number in others
        )


def _plain(address: str) -> str:
    """``address`` in its usual form; an IPv4 address mapped to IPv6 as IPv4."""
    parsed = ipaddress.ip_address(address)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def from_strace(lines: Iterable[str]) -> Destinations:
    """The IPv4 and IPv6 peers in strace's output (``-f``, the calls of CALLS)."""
    destinations = Destinations("strace")
    for line in lines:
        call = _CALL.match(line)
        if call is not None and call[1] == "io_uring_setup":
            # The runtime of Claude Code tries it; only a ring that was set up counts.
            destinations.uring = destinations.uring or not re.search(r"= -1 ", line)
            continue
        for pattern in (_V4, _V6):
            for port, address in pattern.findall(line):
                destinations.peers[(_plain(address), int(port))] += 1
    return destinations


def _decoded(hexadecimal: str) -> tuple[str, int]:
    """The peer in a field of /proc/net/{tcp,udp}[6]: ``0100007F:1F90`` is 127.0.0.1:8080 (little-endian words)."""
    address, port = hexadecimal.split(":")
    raw = bytes.fromhex(address)
    words = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return _plain(str(ipaddress.ip_address(words))), int(port, 16)


def _sockets(pid: int) -> set[str]:
    """The inodes of the sockets that ``pid`` has open."""
    inodes = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                link = os.readlink(entry.path)
                if link.startswith("socket:["):
                    inodes.add(link[8:-1])
    return inodes


def sample(pid: int) -> set[tuple[str, int]]:
    """The peers of the sockets that ``pid`` has open now; listening and unconnected sockets have none."""
    inodes, peers = _sockets(pid), set()
    for name in ("tcp", "tcp6", "udp", "udp6") if inodes else ():
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                columns = line.split()
                if len(columns) > 9 and columns[9] in inodes:
                    peer = _decoded(columns[2])
                    if peer[1]:
                        peers.add(peer)
    return peers


class PeerRecord:
    """Records the peers of one program: run ``prefix() + argv``; ``stop()`` returns them.

    ``file`` is where strace writes; the program sees that directory as ``inside``. Where strace cannot be used, the
    processes are recognized by ``marker``.
    """

    def __init__(self, file: Path, marker: str, *, use_strace: bool, inside: Path | None = None) -> None:
        self.file = file
        self.inside = inside / file.name if inside is not None else file
        self.marker = marker
        self.use_strace = use_strace
        self._peers: Counter[tuple[str, int]] = Counter()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def prefix(self) -> list[str]:
        """What to put before the program's argv. Starts the samples of /proc where strace cannot be used."""
        if self.use_strace:
            return ["strace", "-f", "-qq", "--seccomp-bpf", "-s", "0", "-e", "trace=" + ",".join(CALLS),
                    "-e", "signal=none", "-o", str(self.inside), "--"]  # fmt: skip
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return []

    def _sample(self) -> None:
        while not self._done.wait(0.1):
            for pid in processes.marked(self.marker):
                if pid != os.getpid():
                    self._peers.update(sample(pid))

    def stop(self) -> Destinations:
        """The peers, after the program has ended. Deletes the file."""
        self._done.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            return Destinations("samples of /proc, ten a second", self._peers)
        try:
            with self.file.open(encoding="utf-8", errors="replace") as lines:
                return from_strace(lines)
        finally:
            self.file.unlink(missing_ok=True)


def strace_works(directory: Path) -> bool:
    """Whether strace is installed and may trace (containers often forbid it)."""
    if shutil.which("strace") is None:
        return False
    file = directory / "strace-probe"
    try:
        ended = processes.run(
            ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect", "-o", str(file), "--", "true"], timeout=20
        )
    except OSError:
        return False
    finally:
        file.unlink(missing_ok=True)
    return ended.ok
