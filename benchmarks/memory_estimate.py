#!/usr/bin/env python3
"""How far is our estimate of a model's memory from llama-server's? A table, one row a model and setting.

llama-server measures a model before it loads it (--fit): weights, KV cache and compute buffer. It reads no tensor for
that, so a sparse file with the shape of a shipped profile's model and no data (tests/sparse_models.py) is enough. Real
GGUF files can be named too.

    PYTHONPATH=. benchmarks/memory_estimate.py --server PATH/llama-server
    PYTHONPATH=. benchmarks/memory_estimate.py --server PATH/llama-server --model a.gguf --quick --markdown

A row takes about a second. Nothing is loaded: llama-server is ended when it has printed its numbers. Exit status: 0
when every total is within 15 %.
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
# Seconds that llama-server may take to print its numbers.
TIMEOUT = 120

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
    """llama-server ended, or failed, before it printed its numbers; the message holds its last lines."""


@dataclass(frozen=True)
class Reported:
    """The memory that llama-server reports it needs, in MiB."""

    model: int
    context: int
    compute: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.model + self.context + self.compute


def projected(command: Sequence[str], arguments: Sequence[str], stop: Callable[[], object] | None = None) -> Reported:
    """Start llama-server, read its projection, end it. Raises NoNumbers.

    ``command`` starts llama-server, without arguments. ``stop`` is called in addition to end it.
    """
    # fmt: off
    argv = [
        *command, *arguments, "--host", "127.0.0.1", "--port", "1", "--no-warmup", "--no-ui", "--offline", "-lv", "5",
    ]
    # fmt: on
    log: list[str] = []
    devices: list[Reported] = []
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        timer = threading.Timer(TIMEOUT, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                log.append(line.rstrip())
                if match := HOST.search(line):
                    devices.append(Reported(int(match["model"]), int(match["context"]), int(match["compute"])))
                elif "projected to use" in line and devices:
                    return Reported(
                        sum(each.model for each in devices),
                        sum(each.context for each in devices),
                        sum(each.compute for each in devices),
                    )
        finally:
            timer.cancel()
            process.kill()
            if stop is not None:
                stop()
    raise NoNumbers("\n".join(log[-8:]))


def serving(arguments: Sequence[str]) -> Serving:
    """The same options in the estimate's form."""
    options, context = {"parallel": "1"}, 0
    rest = iter(arguments)
    for argument in rest:
        if argument == "-kvu":
            options["kv-unified"] = "true"
        elif argument == "-c":
            context = int(next(rest))
        else:
            options[OPTIONS[argument]] = next(rest)
    return Serving.of(options, context)


def estimated(path: Path, arguments: Sequence[str]) -> Estimate:
    """Our estimate for a file with these options. The weights are the tensors' bytes, as llama-server counts them."""
    with open(path, "rb") as file:
        header = gguf.read(file)
    architecture = from_header(header)
    weights = header.expected_bytes
    if architecture.tied and architecture.name == "gemma4":
        # llama-server creates the output tensor first, so its projection (without mmap) counts the embedding twice.
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
        """The relative error of the total: 0.05 means that our estimate is 5 % too large."""
        return self.ours.total / MIB / self.theirs.total - 1

    @property
    def beside_weights(self) -> float:
        """The relative error of cache and compute buffer, which depend on the options."""
        return (self.ours.cache + self.ours.compute) / MIB / (self.theirs.context + self.theirs.compute) - 1

    def cells(self) -> list[str]:
        """The row's cells, in the order of HEADINGS."""
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
    served_as: str | None = None,
    stop: Callable[[], object] | None = None,
) -> Row:
    """One row. ``served_as`` is llama-server's path for the file, ``stop`` as in projected. Raises NoNumbers."""
    slots = () if "-np" in arguments else ("-np", "1")
    theirs = projected(command, ["-m", served_as or str(path), *arguments, *slots], stop)
    return Row(name, " ".join(arguments), estimated(path, arguments), theirs)


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--server", required=True, help="llama-server of the pinned build, or a command that starts it")
    parser.add_argument("--model", action="append", default=[], type=Path, help="a real GGUF file; repeatable")
    parser.add_argument("--quick", action="store_true", help="three settings instead of all")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args()
    if options.markdown:
        print(f"| {' | '.join(HEADINGS)} |\n{'|---' * len(HEADINGS)}|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        models = [(path.stem, path) for path in options.model] + list(shapes(Path(folder)))
        for name, path in models:
            for setting in QUICK if options.quick else SETTINGS:
                rows.append(compare(shlex.split(options.server), name, path, setting))
                cells = rows[-1].cells()
                print(f"| {' | '.join(cells)} |" if options.markdown else "  ".join(cells))
    worst, rest = max(abs(row.error) for row in rows), max(abs(row.beside_weights) for row in rows)
    print(f"\n{len(rows)} rows, the total at most {worst:.1%} off, the rest {rest:.1%}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
