"""What the user wants of the server, kept over restarts: the active profile, whether it is stopped, and load times."""

from __future__ import annotations

import json
import os
from collections.abc import Container
from dataclasses import asdict, dataclass, field, replace

# How many of the last load times of a profile count for the next one.
REMEMBERED = 5


@dataclass(frozen=True)
class Wish:
    """The wish. ``default``: the default profile when ``active`` was chosen; another default makes itself active.
    ``loads``: profile id -> seconds of its last loads, the newest last."""

    active: str
    default: str
    stopped: bool = False
    loads: dict[str, list[float]] = field(default_factory=dict)

    def expected_seconds(self, profile: str) -> float | None:
        """How long a load of the profile takes, from earlier ones; None before the first."""
        times = self.loads.get(profile)
        return round(sum(times) / len(times), 1) if times else None

    def with_load(self, profile: str, seconds: float) -> Wish:
        """The wish with one more load time."""
        times = [*self.loads.get(profile, []), round(seconds, 2)][-REMEMBERED:]
        return replace(self, loads={**self.loads, profile: times})


def read(path: str, default: str, profiles: Container[str]) -> Wish:
    """The wish in the file. ``default`` is active where there is no readable file, where it is a new default, and where
    the active profile is gone."""
    try:
        with open(path, encoding="utf-8") as file:
            raw = json.load(file)
        wish = Wish(
            active=str(raw["active"]),
            default=str(raw["default"]),
            stopped=bool(raw["stopped"]),
            loads={str(name): [float(each) for each in times] for name, times in raw["loads"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Wish(default, default)
    if wish.default != default or wish.active not in profiles:
        return replace(wish, active=default, default=default)
    return wish


def write(path: str, wish: Wish) -> None:
    """Write the file in one step. Raises OSError, for instance on a full disk; the old file is then unchanged."""
    new = f"{path}.new"
    with open(new, "w") as file:
        json.dump(asdict(wish), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
