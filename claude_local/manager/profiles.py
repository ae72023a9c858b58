"""profiles.json: what the deploy tells the management API about the placed profiles."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Profile:
    """What profiles.json says about a placed profile. ``ctx_size``: tokens, None where the model decides."""

    id: str
    name: str
    description: str
    ctx_size: int | None


def read_profiles(path: Path) -> tuple[str, dict[str, Profile]]:
    """The default profile, and all placed ones. Raises OSError or ValueError for a missing or damaged file."""
    raw = json.loads(path.read_text())
    try:
        profiles = {
            str(name): Profile(str(name), str(each["name"]), str(each.get("description") or ""), each.get("ctx_size"))
            for name, each in raw["profiles"].items()
        }
        return str(raw["default"]), profiles
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not what the deploy writes: {error!r}") from None
