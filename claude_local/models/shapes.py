"""Print the shapes of models whose files are on this machine, from their headers, as one line of JSON.

    printf NAMES | python -m claude_local.models.shapes ROOT...

NAMES: one file name a line, looked up in each ROOT. Prints {name: {"architecture", "vocabulary", "keys", "tied",
"embedding"}}, without the files that do not exist or are no sound GGUF.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from claude_local.models import gguf
from claude_local.models.architecture import ArchitectureError, from_header


def shape(path: str) -> dict[str, Any] | None:
    """The record of one file; None when its header does not have what it takes."""
    try:
        with open(path, "rb") as file:
            header = gguf.read(file)
        architecture = from_header(header)
        architecture.parameters  # noqa: B018 - raises where a number is missing
    except (OSError, gguf.GgufError, ArchitectureError, ZeroDivisionError):
        return None
    return {
        "architecture": architecture.name,
        "vocabulary": architecture.vocabulary,
        "keys": architecture.keys,
        "tied": bool(architecture.tied),
        "embedding": 0 if architecture.tied else header.embedding_bytes,
    }


def look(roots: Sequence[str], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The shapes of the files that exist."""
    shapes: dict[str, dict[str, Any]] = {}
    for name in names:
        for path in (os.path.join(root, tail) for root in roots for tail in (name, os.path.basename(name))):
            record = shape(path)
            if record is not None:
                shapes[name] = record
                break
    return shapes


if __name__ == "__main__":
    print(json.dumps(look(sys.argv[1:], [line for line in sys.stdin.read().splitlines() if line])))
