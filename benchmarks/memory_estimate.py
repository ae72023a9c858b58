#!/usr/bin/env python3
"""How far is our estimate of a model's memory from what llama-server says? A table, one row a model and setting.

llama-server measures a model before it loads it (--fit): weights, KV cache and compute buffer, without reading a
tensor. So it can be asked about every shipped profile: a sparse file with the model's shape and no data
(tests/sparse_models.py) stands for the real one. Real GGUF files can be named too.

    PYTHONPATH=. benchmarks/memory_estimate.py --server PATH/llama-server
    PYTHONPATH=. benchmarks/memory_estimate.py --server PATH/llama-server --model a.gguf --quick --markdown

Each row takes about a second; nothing is loaded, the process is ended when it has told its numbers. Exit status: 0 when
every total is within 15 %.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from claude_local.models import gguf
from claude_local.models.architecture import DATA, from_header
from claude_local.models.memory import MIB, Estimate, Serving, estimate
from tests import sparse_models

TOLERANCE = 0.15
# Seconds until llama-server must have told its numbers.
PATIENCE = 120

Q8 = ("-ctk", "q8_0", "-ctv", "q8_0")
SETTINGS: tuple[tuple[str, ...], ...] = (
    ("-c", "8192"),
    ("-c", "32768"),
    ("-c", "131072"),
    ("-c", "131072", *Q8),
    ("-c", "32768", "-ub", "2048"),
    ("-c", "131072", "-ub", "2048", *Q8),
    ("-c", "32768", "-ub", "128"),
    ("-c", "65536", "-np", "2"),
    ("-c", "65536", "-np", "4", "-kvu"),
    ("-c", "32768", "-fa", "off"),
)
QUICK = (SETTINGS[1], SETTINGS[5], SETTINGS[8])
OPTIONS = {
    "-np": "parallel", "-ub": "ubatch-size", "-ctk": "cache-type-k", "-ctv": "cache-type-v", "-fa": "flash-attn",
}  # fmt: skip

HOST = re.compile(r"- (?:Host|CPU_REPACK) +\| +\d+ = +(?P<model>\d+) \+ +(?P<context>\d+) \+ +(?P<compute>\d+)")


class NoNumbers(Exception):
    """llama-server ended or said an error before it told its numbers; the message holds its last lines."""


@dataclass(frozen=True)
class Reported:
    """What llama-server says it needs, MiB."""

    model: int
    context: int
    compute: int

    @property
    def total(self) -> int:
        return self.model + self.context + self.compute


def projected(command: Sequence[str], arguments: Sequence[str], stop: Callable[[], object] | None = None) -> Reported:
    """Start llama-server, read its projection, end it. ``command``: how it is started, without arguments; ``stop``:
    what else has to be done to end it. Raises NoNumbers."""
    words = [
        *command,
        *arguments,
        "--host",
        "127.0.0.1",
        "--port",
        "1",
        "--no-warmup",
        "--no-ui",
        "--offline",
        "-lv",
        "5",
    ]
    said: list[str] = []
    parts: list[tuple[int, int, int]] = []
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        timer = threading.Timer(PATIENCE, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line.rstrip())
                if match := HOST.search(line):
                    parts.append((int(match["model"]), int(match["context"]), int(match["compute"])))
                elif "projected to use" in line and parts:
                    return Reported(*(sum(column) for column in zip(*parts, strict=True)))
        finally:
            timer.cancel()
            process.kill()
            if stop is not None:
                stop()
    raise NoNumbers("\n".join(said[-8:]))


def serving(arguments: Sequence[str]) -> Serving:
    """The same options for the estimate."""
    words, options, context = list(arguments), {"parallel": "1"}, 0
    while words:
        word = words.pop(0)
        if word == "-kvu":
            options["kv-unified"] = "true"
        elif word == "-c":
            context = int(words.pop(0))
        else:
            options[OPTIONS[word]] = words.pop(0)
    return Serving.of(options, context)


def estimated(path: Path, arguments: Sequence[str]) -> Estimate:
    """Our estimate for a file with these options. The weights are those of the tensors, as llama-server counts them."""
    with open(path, "rb") as file:
        header = gguf.read(file)
    architecture = from_header(header)
    weights = header.expected_bytes
    if architecture.tied and architecture.name == "gemma4":
        # It asks for the output first, so that the projection (which assumes no mmap) counts the embedding twice.
        weights += header.embedding_bytes
    return estimate(architecture, weights, serving(arguments), embedding=header.embedding_bytes)


def shapes(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every shipped shape as a sparse file in ``folder``: (name, path)."""
    for name, record in json.loads(DATA.read_text(encoding="utf-8")).items():
        path = folder / f"{name}.gguf"
        sparse_models.write(path, record["architecture"], record["keys"], record["vocabulary"])
        yield name, path


@dataclass(frozen=True)
class Row:
    """One comparison, MiB."""

    name: str
    options: str
    ours: Estimate
    theirs: Reported

    @property
    def error(self) -> float:
        """Of the total: 0.05 is 5 % too much."""
        return self.ours.total / MIB / self.theirs.total - 1

    @property
    def beside_weights(self) -> float:
        """Of what the options decide: cache and compute buffer."""
        return (self.ours.cache + self.ours.compute) / MIB / (self.theirs.context + self.theirs.compute) - 1

    def cells(self) -> list[str]:
        pairs = (
            (self.ours.weights, self.theirs.model),
            (self.ours.cache, self.theirs.context),
            (self.ours.compute, self.theirs.compute),
            (self.ours.total, self.theirs.total),
        )
        return [
            self.name, self.options, *(f"{ours / MIB:.0f} / {theirs}" for ours, theirs in pairs),
            f"{self.error:+.1%}", f"{self.beside_weights:+.1%}",
        ]  # fmt: skip


HEADINGS = ["model", "options", "weights", "KV cache", "compute", "total (ours / llama-server, MiB)", "total", "rest"]


def compare(
    command: Sequence[str],
    name: str,
    path: Path,
    arguments: Sequence[str],
    seen_as: str | None = None,
    stop: Callable[[], object] | None = None,
) -> Row:
    """One row. ``seen_as``: the path by which llama-server sees the file; ``stop`` as in projected. Raises NoNumbers."""
    slots = () if "-np" in arguments else ("-np", "1")
    theirs = projected(command, ["-m", seen_as or str(path), *arguments, *slots], stop)
    return Row(name, " ".join(arguments), estimated(path, arguments), theirs)


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--server", required=True, help="llama-server of the pinned build, or words that start it")
    parser.add_argument("--model", action="append", default=[], type=Path, help="a real GGUF file, besides the shapes")
    parser.add_argument("--quick", action="store_true", help="three settings instead of all")
    parser.add_argument("--markdown", action="store_true", help="a table for a page")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        models = [(path.stem, path) for path in options.model] + list(shapes(Path(folder)))
        for name, path in models:
            for setting in QUICK if options.quick else SETTINGS:
                row = compare(shlex.split(options.server), name, path, setting)
                rows.append(row)
                mark = "| " if options.markdown else ""
                if options.markdown and len(rows) == 1:
                    print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|")
                print(
                    mark + (" | " if options.markdown else "  ").join(row.cells()) + (" |" if options.markdown else "")
                )
    worst = max(abs(row.error) for row in rows)
    print(
        f"\n{len(rows)} rows, the total at most {worst:.1%} off, the rest {max(abs(r.beside_weights) for r in rows):.1%}"
    )
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
