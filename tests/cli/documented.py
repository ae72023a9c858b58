"""The JSON shapes that docs/llama-local.md promises."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[2] / "docs" / "llama-local.md").read_text()


def example(command: str) -> Any:
    """The JSON example below the heading that names the command."""
    for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        if command in section.splitlines()[0].split(", "):
            found = re.search(r"```json\n(.*?)```", section, re.DOTALL)
            assert found, f"{command} has no example"
            return json.loads(found[1])
    raise AssertionError(f"docs/llama-local.md has no section on {command}")


def lacks(promised: Any, told: Any, where: str = "") -> list[str]:
    """The members of the documented example that ``told`` does not have."""
    if isinstance(promised, list) and isinstance(told, list):
        return [each for entry in told[:1] for each in lacks(promised[0], entry, f"{where}[]")] if promised else []
    if not isinstance(promised, dict):
        return []
    if not isinstance(told, dict):
        return [] if told is None else [f"{where} is no object"]
    return [
        each
        for key, value in promised.items()
        for each in (lacks(value, told[key], f"{where}.{key}") if key in told else [f"{where}.{key}"])
    ]
