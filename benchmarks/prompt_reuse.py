#!/usr/bin/env python3
"""How many tokens does llama-server read again? A table, one row a situation, one column an architecture that ships.

Each cell is the computed tokens of a prompt, as POST /v1/messages reports them, in the real router with one
slot. The models have the layers of the shipped ones, few and narrow, with random weights; one token is one character.
"before" is a server without --cache-disk, or the one that --before names.

    PYTHONPATH=. benchmarks/prompt_reuse.py --server PATH/llama-server [--before PATH/llama-server]
    PYTHONPATH=. benchmarks/prompt_reuse.py --server PATH/llama-server --only Qwen3.5-9B

Takes about 15 seconds an architecture on two cores. Exit status: 0 when every cell is within the targets.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chat import reuse
from tests.chat.reuse import Counts

ARCHITECTURES = (
    "Qwen2.5-Coder-1.5B", "Qwen3-Coder-30B-A3B", "Qwen3-Coder-Next", "Qwen3.5-9B", "Qwen3.6-35B-A3B", "gpt-oss-20b",
    "gemma-4-26B-A4B", "GLM-4.7-Flash",
)  # fmt: skip
# Tokens beyond what is new: for a turn that goes on, and for a new session.
TARGET, NEW_SESSION = 100, 2500


def measure(server: Path, architecture: str, files: bool) -> dict[str, Counts]:
    """The counts of each situation."""
    with tempfile.TemporaryDirectory() as folder, reuse.serve(server, Path(folder), architecture, files) as router:
        return reuse.matrix(router)


def missed(name: str, counts: Counts) -> bool:
    """Whether a cell is over its target."""
    if name == reuse.FIRST:
        return False
    return counts.computed > (NEW_SESSION if name.startswith("new") else counts.fresh + TARGET)


def main() -> int:
    """Print the tables; see the module."""
    parser = argparse.ArgumentParser(description="Measure how much of a prompt is read again.")
    parser.add_argument("--server", type=Path, required=True)
    parser.add_argument("--before", type=Path, help="another llama-server, without our patch")
    parser.add_argument("--only", choices=ARCHITECTURES, action="append")
    options = parser.parse_args()
    names = options.only or ARCHITECTURES
    before = [measure(options.before or options.server, each, files=False) for each in names]
    now = [measure(options.server, each, files=True) for each in names]
    for title, columns in (("before", before), ("now", now)):
        print(f"\n| {title} | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        for row in now[0]:
            print(f"| {row} | {' | '.join(f'{counts[row].computed:,}' for counts in columns)} |")
    over = [(name, row) for name, counts in zip(names, now, strict=True) for row in counts if missed(row, counts[row])]
    for name, row in over:
        print(f"over the target: {name}, {row}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
