#!/usr/bin/env python3
"""Measures switching: under load, with every part of it killed, and where the time goes.

    .venv/bin/python benchmarks/switching.py load                    # 200 switches under four streaming clients
    .venv/bin/python benchmarks/switching.py kill                    # manager, server, child: ten kills each
    sudo .venv/bin/python benchmarks/switching.py kill dockerd       # a Docker daemon of its own, killed ten times
    .venv/bin/python benchmarks/switching.py time                    # stages of a switch, beside llama-server's load
    .venv/bin/python benchmarks/switching.py time --deployed         # the same with the deployed profiles
    .venv/bin/python benchmarks/switching.py time --deployed --tokens 8000     # in long conversations
    .venv/bin/python benchmarks/switching.py sessions                # loads of two sessions on two profiles

A deployed machine is needed: its images, its runtime, and for ``--deployed`` its models. The benchmark runs containers
of its own on ports of its own (tests/two_containers.py), so sessions go on. Everything is removed at the end. Exit
status 1 when a request was lost, a state was wrong, or a switch costs more than a second beyond the load.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from tests.own_docker import UNSHARE, own_docker  # noqa: E402
from tests.switching_kills import Round, kill_rounds  # noqa: E402
from tests.switching_load import switch_under_load, two_sessions  # noqa: E402
from tests.switching_time import bare_load, real_models, timed_switch  # noqa: E402
from tests.two_containers import deployed_images, prepare, two_containers  # noqa: E402

NAMES = ("alpha", "bravo", "carol")
# Of a switch, in their order; and seconds that it may take beyond the load.
STAGES = ("draining", "saving", "unloading", "loading", "ready")
LIMIT = 1.0
VICTIMS = ("manager", "server", "child", "dockerd")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("what", choices=("load", "kill", "time", "sessions"))
    parser.add_argument("victims", nargs="*", help=f"of kill: {', '.join(VICTIMS)}; without: the first three")
    parser.add_argument(
        "--rounds",
        type=int,
        help="switches of load (200), kills of each victim (10), switches (6), turns of each session (10)",
    )
    parser.add_argument(
        "--deployed", action="store_true", help="time, sessions: the deployed profiles, not tiny models"
    )
    parser.add_argument("--tokens", type=int, default=0, help="time: of the conversation that each model has")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        return measure(options, options.folder)
    with tempfile.TemporaryDirectory(prefix="claude-local-switching-", dir="/var/tmp") as folder:
        if "dockerd" not in options.victims:
            return measure(options, Path(folder))
        again = [*UNSHARE, sys.executable, *sys.argv, "--folder", folder]
        return subprocess.run(again, check=False).returncode


def measure(options: argparse.Namespace, folder: Path) -> int:
    """The table that was asked for."""
    if options.what == "load":
        return load(folder, options.rounds or 200)
    if options.what == "time":
        return times(folder, options.rounds or 6, options.deployed, options.tokens)
    if options.what == "sessions":
        return sessions(folder, options.rounds or 10, options.deployed)
    return kill(folder, options.victims or VICTIMS[:3], options.rounds or 10)


def load(folder: Path, switches: int) -> int:
    """The table of the switches under load."""
    with two_containers(folder, NAMES) as pair:
        result = switch_under_load(pair, NAMES, switches)
    print(f"switches: {dict(result.statuses)}, median {statistics.median(result.seconds):.2f} s,", end=" ")
    print(f"longest {max(result.seconds):.2f} s; asked for last: {result.asked}, active: {result.active}")
    print(
        f"requests: {result.requests} answered, {len(result.unanswered)} not; slowest {result.slowest_request:.1f} s;"
    )
    print(f"tries that were repeated: {dict(result.failures)}")
    print(f"before: {result.before}\nafter:  {result.after}")
    good = result.statuses == {200: switches} and result.active == result.asked and not result.unanswered
    return 0 if good and result.after.processes == result.before.processes else 1


def kill(folder: Path, victims: Sequence[str], rounds: int) -> int:
    """The table of the kills."""
    print("| killed | after s | stage | from | to | answers then | ready after s | wrong |")
    print("|---|---|---|---|---|---|---|---|")
    wrong = 0
    images = deployed_images()
    for victim in victims:
        place = folder / victim
        place.mkdir()
        if victim == "dockerd":
            with own_docker(place, images) as daemon, two_containers(place / "pair", NAMES[:2], images) as pair:
                wrong += sum(show(one) for one in kill_rounds(pair, victim, rounds, daemon))
        else:
            with two_containers(place, NAMES[:2]) as pair:
                wrong += sum(show(one) for one in kill_rounds(pair, victim, rounds))
    return 1 if wrong else 0


def times(folder: Path, switches: int, deployed: bool, tokens: int) -> int:
    """The table of a switch's stages, for each profile in turn, in conversations of so many tokens."""
    pair = prepare(folder, NAMES[:2], deployed_images())
    pair = real_models(pair) if deployed else pair
    try:
        pair.run()
        names = [each["id"] for each in pair.get("/models")["models"]]
        # The second load reads the file from the page cache, as a switch does.
        bare = {name: statistics.median([bare_load(pair, name) for _ in range(3)][1:]) for name in names}
        pair.switch(names[0]).raise_for_status()
        order = (names[1:] + names[:1]) * (switches // len(names))
        rows = [timed_switch(pair, name, bare[name], tokens) for name in order]
        log = (pair.folder / "log/server.log").read_text()
    finally:
        pair.remove()
    stages = sorted({stage for row in rows for stage in row.stages}, key=list(STAGES).index)
    print(f"| to | {' | '.join(stages)} | whole switch | load alone | overhead | restored | first token |")
    print("|---|" + "---|" * (len(stages) + 5))
    for row in rows:
        cells = [*(row.stages.get(stage, 0.0) for stage in stages), row.total, row.bare, row.overhead]
        restored = f"{row.restored[0]:,} tokens in {row.restored[1]:.2f}"
        print(f"| {row.model} | {' | '.join(f'{cell:.2f}' for cell in cells)} | {restored} | {row.first_token:.2f} |")
    for size in re.findall(r"wrote \S+session (\(.*\))", log):
        print(f"saved: {size}")
    return 1 if statistics.median(row.overhead for row in rows) > LIMIT else 0


def sessions(folder: Path, turns: int, deployed: bool) -> int:
    """The table of two sessions that answer in turns: one place for a model, then two."""
    print(f"| models in memory | loads for two sessions of {turns} turns | seconds |\n|---|---|---|")
    counts = []
    for models_at_once in (1, 2):
        pair = prepare(folder / str(models_at_once), NAMES[:2], deployed_images()).keeping(models_at_once)
        pair = real_models(pair) if deployed else pair
        try:
            pair.run()
            other = next(each["id"] for each in pair.get("/models")["models"] if not each["active"])
            loads, seconds = two_sessions(pair, other, turns)
        finally:
            pair.remove()
        counts.append(loads)
        print(f"| {models_at_once} | {loads} | {seconds:.1f} |", flush=True)
    return 0 if counts[1] <= counts[0] / 4 else 1


def show(one: Round) -> bool:
    """Print a row; whether something was wrong."""
    cells = (one.victim, f"{one.moment:.2f}", one.stage, one.before, one.asked, one.active, f"{one.seconds:.1f}")
    print(f"| {' | '.join(cells)} | {'; '.join(one.wrong) or '-'} |", flush=True)
    return bool(one.wrong)


if __name__ == "__main__":
    sys.exit(main())
