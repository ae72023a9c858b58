#!/usr/bin/env python3
"""Measure profiles on this machine's processor with random weights of the real shape. Nothing is downloaded.

    python benchmarks/cpu_speed.py --server PATH/llama-server --tokenizer FILE.gguf --threads 1 qwen3.5-4b-q4
    ... --try cache-type-k=f16,cache-type-v=f16 --try flash-attn=off qwen3.5-4b-q4
    ... --layers 4 8 qwen3-coder-30b-q4

For each profile it writes a model into a temporary folder and starts llama-server with the profile's flags. The server
reads a prompt and writes an answer as for ``llama-local bench``. ``--try`` adds a run with other flags. ``clock`` is
what bench shows. ``work`` counts processor seconds, so other load on the machine matters little with one thread.
``expected`` is the estimate of claude_local/models/speed.py for as many cores, with the bandwidth that is measured
first. ``--layers`` is for models that do not fit in this machine's memory. It measures two models of a few layers;
their difference gives one layer, and from that the whole model.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import random_model
from claude_local.bench.measure import Bench
from claude_local.hardware import bandwidth
from claude_local.models.architecture import Architecture, shipped
from claude_local.models.memory import Serving, estimate
from claude_local.models.profile import Profile
from claude_local.models.profiles import parse
from claude_local.models.speed import Processor, expected
from claude_local.server.client import LlamaClient, ServerError

ROOT = Path(__file__).resolve().parents[1]
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20
# Tokens of the prompt before an answer.
WRITTEN = 512


@dataclass(frozen=True)
class Figures:
    """``size``: bytes of the weights. ``clock_*``: tokens a second. ``work_*``: processor seconds a token. Memory in
    bytes after all requests: ``anonymous`` and ``mapped`` pages that are resident."""

    size: int
    clock_reads: float
    clock_writes: float
    work_reads: float
    work_writes: float
    anonymous: int
    mapped: int


class Server:
    """llama-server with one model; a context manager."""

    def __init__(self, binary: Path, model: Path, threads: int, context: int, flags: Mapping[str, str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = str(probe.getsockname()[1])
        # fmt: off
        self._argv = [
            str(binary), "--model", str(model), "--host", "127.0.0.1", "--port", port, "--offline", "--no-ui",
            "--parallel", "1", "--ctx-size", str(context), "--cache-ram", "0",
            "--threads", str(threads), "--threads-batch", str(threads),
        ]
        # fmt: on
        for key, value in flags.items():
            self._argv += {"true": [f"--{key}"], "false": [f"--no-{key}"]}.get(value, [f"--{key}", value])
        self.client = LlamaClient(f"http://127.0.0.1:{port}")

    def __enter__(self) -> Server:
        environment = os.environ | {"LD_LIBRARY_PATH": str(Path(self._argv[0]).parent)}
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        while self._process.poll() is None:
            try:
                self.client.json("GET", "/health")
                return self
            except ServerError:
                time.sleep(0.2)
        raise SystemExit(f"the server does not load the model: {' '.join(self._argv)}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def seconds(self) -> float:
        """Processor seconds so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> tuple[int, int]:
        """Bytes of anonymous and of mapped pages that are resident."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        known = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)
                 if name in ("RssAnon", "RssFile")}  # fmt: skip
        return known["RssAnon"], known["RssFile"]


def figures(options: argparse.Namespace, model: Path, flags: Mapping[str, str]) -> Figures:
    """Start a server on ``model``, and measure it."""
    with Server(options.server, model, options.threads, options.context, flags) as server:
        bench = Bench(server.client, "model")
        bench.request(64, 2, reuse=False)
        before = server.seconds()
        read = bench.request(options.prompt, 1, reuse=False)
        between = server.seconds()
        bench.request(WRITTEN, 1, reuse=False)
        short = server.seconds()
        written = bench.request(WRITTEN, 1 + options.answer, reuse=False)
        after = server.seconds()
        return Figures(
            size=model.stat().st_size,
            clock_reads=read.read_speed or 0.0,
            clock_writes=written.decode_speed or 0.0,
            work_reads=(between - before) / options.prompt,
            work_writes=(after - short - (short - between)) / options.answer,
            anonymous=server.memory()[0],
            mapped=server.memory()[1],
        )


def whole(options: argparse.Namespace, profile: Profile, folder: Path) -> Iterator[Figures]:
    """The figures of the whole model with each set of flags."""
    model = folder / "model.gguf"
    random_model.write(model, profile.architecture or "", options.tokenizer)
    for tried in options.tried:
        yield figures(options, model, {**profile.options, **tried})


def extrapolated(options: argparse.Namespace, profile: Profile, folder: Path) -> Iterator[Figures]:
    """The same from two models of ``--layers`` layers. The clock's figures are those of the bigger one."""
    few, many = options.layers
    rest = (shipped()[profile.architecture or ""].layers_count - few) / (many - few)
    measured = []
    for layers in options.layers:
        model = folder / "model.gguf"
        random_model.write(model, profile.architecture or "", options.tokenizer, layers)
        measured.append([figures(options, model, {**profile.options, **tried}) for tried in options.tried])
    for first, second in zip(*measured, strict=True):
        yield replace(
            second,
            size=round(first.size + rest * (second.size - first.size)),
            work_reads=first.work_reads + rest * (second.work_reads - first.work_reads),
            work_writes=first.work_writes + rest * (second.work_writes - first.work_writes),
        )


def show(
    options: argparse.Namespace,
    label: str,
    shape: Architecture,
    flags: Mapping[str, str],
    measured: Figures,
    processor: Processor,
) -> None:
    """Print one run."""
    serving = Serving.of({"parallel": "1", **flags}, options.context)
    read, written = (expected(shape, measured.size, processor, serving, size) for size in (options.prompt, WRITTEN))
    memory = f"{measured.anonymous / MIB:,.0f} + {measured.mapped / MIB:,.0f} mapped"
    if not options.layers:
        needed = estimate(shape, measured.size, serving)
        memory += f" ({needed.total / MIB:,.0f})"
    reads, writes = options.threads / measured.work_reads, options.threads / measured.work_writes
    print(f"{label}\n  reads  {measured.clock_reads:8.1f} {reads:8.1f} {read.prefill:9.1f}   {memory}")
    print(f"  writes {measured.clock_writes:8.1f} {writes:8.1f} {written.decode:9.1f}", flush=True)


def flags_of(text: str) -> dict[str, str]:
    """``flash-attn=off,ubatch-size=256``"""
    return dict(each.split("=", 1) for each in text.split(",") if each)


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiles", nargs="+", help="of models.conf")
    parser.add_argument("--server", type=Path, required=True, help="llama-server")
    parser.add_argument("--tokenizer", type=Path, required=True, help="a GGUF file to take the tokenizer from")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--context", type=int, default=8192, help="tokens")
    parser.add_argument("--prompt", type=int, default=4000, help="tokens")
    parser.add_argument("--answer", type=int, default=48, help="tokens")
    parser.add_argument("--layers", type=int, nargs=2, metavar=("FEW", "MANY"))
    parser.add_argument("--try", dest="tried", type=flags_of, action="append", default=[{}], metavar="FLAG=VALUE,...")
    options = parser.parse_args()
    profiles = parse((ROOT / "models.conf").read_text())
    words = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
    rate = bandwidth.measure()
    processor = Processor.of(options.threads, words, rate)
    print(f"{options.threads} threads; all cores together read {rate / 1e9:.0f} GB/s", flush=True)
    print(f"tokens/s {'clock':>8} {'work':>8} {'expected':>9}   resident, MiB (estimate)", flush=True)
    for name in options.profiles:
        profile = profiles[name]
        shape = shipped()[profile.architecture or ""]
        measure = extrapolated if options.layers else whole
        with tempfile.TemporaryDirectory() as folder:
            for tried, each in zip(options.tried, measure(options, profile, Path(folder)), strict=True):
                label = " ".join([name, *(f"{key}={value}" for key, value in tried.items())])
                show(options, label, shape, {**profile.options, **tried}, each, processor)
    return 0


if __name__ == "__main__":
    sys.exit(main())
