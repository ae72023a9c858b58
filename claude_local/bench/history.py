"""The runs of earlier benches: one JSON file for each profile and build, and what became slower."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# The share of a figure that may be lost before it counts, and the seconds by which a time may always grow.
LOSS, SLACK = 0.10, 0.25


def last(directory: Path, profile: str) -> dict[str, Any] | None:
    """The newest run of the profile, whatever its build; None before the first."""
    runs = []
    for path in directory.glob("*.json"):
        try:
            run = json.loads(path.read_text())
            runs.append((run["when"], run)) if run["profile"] == profile else None
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return max(runs, key=lambda each: str(each[0]))[1] if runs else None


def save(directory: Path, run: dict[str, Any]) -> Path:
    """Write the run in the place of the former one of its profile and build. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{re.sub('[^A-Za-z0-9._-]', '_', run['profile'])}--{run['build']}.json"
    new = path.with_suffix(".new")
    new.write_text(json.dumps(run, indent=2) + "\n")
    os.replace(new, path)
    return path


def losses(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is more than LOSS slower than before, a line each."""
    return [*_slower(before, now), *_longer(before, now)]


def _slower(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    former = {each["tokens"]: each for each in before["speeds"]}
    for speed in now["speeds"]:
        for kind in ("prefill", "decode"):
            was = former.get(speed["tokens"], {}).get(kind)
            if was and speed[kind] < was * (1 - LOSS):
                yield f"{kind} at {speed['tokens']:,} tokens: {speed[kind]:.1f}/s, it was {was:.1f}/s"


def _longer(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    was, first = before.get("first_answer") or {}, now.get("first_answer") or {}
    times = [("the load", before.get("load_seconds"), now.get("load_seconds"))]
    if was.get("tokens") == first.get("tokens"):
        times += [(f"a {kind} first answer", was.get(key), first.get(key)) for kind, key in FIRST]
    for what, former, seconds in times:
        if former is not None and seconds is not None and seconds > former * (1 + LOSS) + SLACK:
            yield f"{what}: {seconds:.1f} s, it was {former:.1f} s"


FIRST = (("cold", "cold_seconds"), ("warm", "warm_seconds"))
