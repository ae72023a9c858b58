"""The placed profiles as a person compares them: size, context, fit, how long a load takes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from claude_local.cli.output import table
from claude_local.models.index import Index
from claude_local.paths import Paths


def size(count: int) -> str:
    """A number of bytes for people, in decimal units as disks are sold: ``4.9 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def placed(paths: Paths, models: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """One entry for each placed profile, empty before the first deploy. docs/llama-local.md has its members.

    ``models``: the management API's, for what is loaded; without them ``active`` is the default profile and the state
    unknown.
    """
    try:
        raw = json.loads(Path(paths.profiles).read_text())
        profiles, default = dict(raw["profiles"]), raw["default"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    index = Index.load(paths.placements) if os.path.exists(paths.placements) else None
    loaded = {each["id"]: each for each in models}
    entries = []
    for name, profile in profiles.items():
        files = index.profiles.get(name, {}).get("files", []) if index else []
        now = loaded.get(name, {})
        entries.append(
            {
                "id": name,
                "name": profile["name"],
                "size": sum(os.path.getsize(path) for path in files if os.path.exists(path)),
                "verified": bool(index and files and all(index.unchanged(path) for path in files)),
                "ctx_size": profile.get("ctx_size"),
                "fit": profile.get("fit"),
                "active": now.get("active", name == default),
                "state": now.get("state", "unknown"),
                "load_seconds": now.get("load_seconds"),
            }
        )
    return entries


def comparison(profiles: Sequence[dict[str, Any]], *, numbered: bool = False) -> Table:
    """The profiles as a table of 80 columns. ``numbered``: with the number that a person types to choose."""
    headings = ("PROFILE", "SIZE", "CONTEXT", "LOADS IN", "STATE", "FIT")
    rows = table(*(("", *headings) if numbered else headings), right=("SIZE", "CONTEXT", "LOADS IN"))
    for column in rows.columns:
        column.no_wrap = column.header != "FIT"
    for number, each in enumerate(profiles, 1):
        state = each["state"] if each["verified"] else "changed" if each["size"] else "missing"
        cells: list[str | Text] = [
            Text(each["id"]),
            size(each["size"]) if each["size"] else "",
            f"{each['ctx_size']:,}" if each["ctx_size"] else "",
            f"{each['load_seconds']:.0f} s" if each["load_seconds"] else "",
            Text(f"{state}, active" if each["active"] else state),
            Text(_fit(each["fit"])),
        ]
        rows.add_row(*([str(number), *cells] if numbered else cells))
    return rows


def _fit(fit: dict[str, Any] | None) -> str:
    """Whether it fits, and the reason."""
    return f"{'yes' if fit['fits'] else 'no'}: {fit['reason']}" if fit else ""
