"""What the tab key offers: names of profiles, and the scripts with which bash, zsh and fish ask for it.

``python -m claude_local.cli.completion DIRECTORY`` writes the scripts that files/completion has, from click's own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from claude_local.paths import Paths


def profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The placed profiles that begin with ``incomplete``; none before the first deploy."""
    path = Paths(home=os.path.expanduser("~"), model_dir="", bin_dir="").profiles
    try:
        with open(path, encoding="utf-8") as file:
            return [name for name in json.load(file)["profiles"] if name.startswith(incomplete)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def scripts() -> dict[str, str]:
    """The script of each shell."""
    from claude_local.cli.commands import PROGRAM, llama_local

    made = [
        each(llama_local, {}, PROGRAM, "_LLAMA_LOCAL_COMPLETE") for each in (BashComplete, ZshComplete, FishComplete)
    ]
    # BashComplete.source() would look for a bash first.
    return {each.name: each.source_template % each.source_vars() for each in made}


if __name__ == "__main__":
    for shell, script in scripts().items():
        Path(sys.argv[1], f"llama-local.{shell}").write_text(script)
