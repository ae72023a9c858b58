#!/usr/bin/env python3
"""Measure how fast a model is placed, compared with plain curl: same file, same loopback server, same disk.

    .venv/bin/python benchmarks/placement.py                              # 1 GiB, 7 rounds
    .venv/bin/python benchmarks/placement.py --mib 4096 --rounds 5 --directory /data --json result.json

The variants take turns, each round in another order, so that other load on the machine hits all of them alike. Before
each turn the disk writes what the last one left (sync).

    curl       curl -o FILE: no hash, and the data may still be in memory
    transfer   our transfer of the same file, and then its sha256
    curl+sync  curl -o FILE, then sync FILE
    place      the whole program: start, search, transfer, sha256, fsync, stamp
    curl+sha   curl -o FILE, then sha256sum FILE: what a careful person would type

Nothing is left behind. Exit status: 0 when the median of place : curl+sha, taken round by round, is at least ``--aim``,
else 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
VARIANTS = ("curl", "transfer", "curl+sync", "place", "curl+sha")
PAIRS = (("place", "curl+sha"), ("transfer", "curl"), ("place", "curl+sync"))


class Handler(BaseHTTPRequestHandler):
    """Serves one file by sendfile: the kernel copies, so that Python does not set the pace."""

    protocol_version = "HTTP/1.1"
    path_served = ""

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        with open(self.path_served, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            position = 0
            while position < size:
                position += os.sendfile(
                    self.connection.fileno(), file.fileno(), position, min(size - position, 1 << 24)
                )


def serve(path: str) -> int:
    """Serve ``path`` until standard input ends; the port is the first line of output."""
    import threading

    Handler.path_served = path
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    return 0


def transfer(url: str, target: str, size: int, sha256: str) -> int:
    """Our transfer alone, in a process of its own; prints its seconds."""
    sys.path.insert(0, str(PROJECT))
    from claude_local.models.download import Downloader
    from claude_local.models.part import PartFile
    from claude_local.models.sources import Source

    began = time.monotonic()
    part = PartFile(target, size, "m.gguf", sha256)
    Downloader("https://hub.invalid").fetch(Source("url", url, ()), part, patient=True)
    right = part.hexdigest() == sha256
    seconds = time.monotonic() - began
    part.close()
    print(seconds)
    return 0 if right else 1


def run(*command: str) -> float:
    """The seconds that a command takes."""
    began = time.monotonic()
    subprocess.run(command, check=True, cwd=PROJECT, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def measure(variant: str, url: str, folder: Path, size: int, sha256: str) -> float:
    """Seconds of one turn."""
    goal = folder / variant.replace("+", "-")
    goal.mkdir()
    target = str(goal / "m.gguf")
    curl = ["curl", "-s", "--fail", "--noproxy", "*", "-o", target, url]
    os.sync()
    try:
        if variant == "curl":
            return run(*curl)
        if variant == "curl+sync":
            return run(*curl) + run("sync", target)
        if variant == "curl+sha":
            return run(*curl) + run("sha256sum", target)
        if variant == "transfer":
            command = [sys.executable, __file__, "--transfer", url, target + ".part", str(size), sha256]
            done = subprocess.run(command, check=True, cwd=PROJECT, capture_output=True, text=True)
            return float(done.stdout.splitlines()[-1])
        plan = goal / "plan.json"
        file = {"name": "m.gguf", "sha256": sha256, "size": size, "sources": [f"url {url}"]}
        text = {
            "model_dir": str(goal),
            "search_dirs": [],
            "hub": "https://hub.invalid",
            "placements_path": str(goal / "state" / "models.json"),
            "profiles": [{"id": "p", "model": "m.gguf", "mmproj": None, "files": [file]}],
        }
        plan.write_text(json.dumps(text), encoding="utf-8")
        return run(sys.executable, "-m", "claude_local.models.placement", "place", str(plan))
    finally:
        shutil.rmtree(goal)


def make(path: Path, size: int) -> str:
    """A file of random bytes that begins as a GGUF does; its sha256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        block = b"GGUF" + os.urandom(MIB - 4)
        for _ in range(size // MIB):
            file.write(block)
            digest.update(block)
            block = os.urandom(MIB)
    return digest.hexdigest()


def main() -> int:
    if sys.argv[1:2] == ["--serve"]:
        return serve(sys.argv[2])
    if sys.argv[1:2] == ["--transfer"]:
        return transfer(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
    parser = argparse.ArgumentParser(description="Placing a model against plain curl, on loopback.")
    parser.add_argument("--mib", type=int, default=1024, help="size of the file (default: 1024)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--directory", help="on the disk to measure (default: the directory for temporary files)")
    parser.add_argument("--aim", type=float, default=0.7, help="the least ratio to curl and sha256sum (default: 0.7)")
    parser.add_argument("--json", help="write every measurement to this file")
    options = parser.parse_args()
    size = options.mib * MIB
    with tempfile.TemporaryDirectory(prefix="placement-", dir=options.directory) as name:
        folder = Path(name)
        served = folder / "served.gguf"
        sha256 = make(served, size)
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(served)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None and server.stdin is not None
        try:
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/m.gguf"
            rates: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
            # The first turn of all finds a cold cache: it does not count.
            measure("curl", url, folder, size, sha256)
            for number in range(options.rounds):
                turn = number % len(VARIANTS)
                for variant in VARIANTS[turn:] + VARIANTS[:turn]:
                    rates[variant].append(size / measure(variant, url, folder, size, sha256) / MIB)
                print(f"round {number + 1}: " + "  ".join(f"{v} {rates[v][-1]:.0f}" for v in VARIANTS), flush=True)
        finally:
            server.stdin.close()
            server.wait(10)
    print(f"\n{'':10} {'median':>7} {'least':>7} {'most':>7}   MiB/s, {options.mib} MiB, {options.rounds} rounds")
    for variant, seen in rates.items():
        print(f"{variant:10} {statistics.median(seen):7.0f} {min(seen):7.0f} {max(seen):7.0f}")
    ratios = {}
    for ours, theirs in PAIRS:
        each = [one / other for one, other in zip(rates[ours], rates[theirs], strict=True)]
        ratios[f"{ours} : {theirs}"] = statistics.median(each)
        print(f"{ours} : {theirs}  {statistics.median(each):.2f}  (rounds {min(each):.2f} to {max(each):.2f})")
    if options.json:
        text = json.dumps({"mib": options.mib, "rates": rates, "ratios": ratios}, indent=1)
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    return 0 if next(iter(ratios.values())) >= options.aim else 1


if __name__ == "__main__":
    sys.exit(main())
