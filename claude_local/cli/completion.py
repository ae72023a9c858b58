"""What the tab key offers: names of profiles. The scripts for the shells are in files/completion."""

from __future__ import annotations

import json
import os

import click

from claude_local.paths import Paths


def profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The placed profiles that begin with ``incomplete``; none before the first deploy."""
    path = Paths(home=os.path.expanduser("~"), model_dir="", bin_dir="").profiles
    try:
        with open(path, encoding="utf-8") as file:
            known = json.load(file)["profiles"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in known if name.startswith(incomplete)]
