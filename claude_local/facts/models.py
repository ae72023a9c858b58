"""Whether the model files are in place on the workstation."""

from __future__ import annotations

import json
from typing import Any

from pyinfra.api import FactBase, QuoteString, StringCommand


def placement(command: str, python: str, plan: dict[str, Any], *options: str) -> StringCommand:
    """``printf PLAN | python -m claude_local.runtime.placement COMMAND``: the plan travels on standard input."""
    text = json.dumps(plan, sort_keys=True, ensure_ascii=True)
    return StringCommand(
        "printf %s", QuoteString(text), "|", QuoteString(python), "-m claude_local.runtime.placement", command, *options
    )


class PlacementCheck(FactBase[dict[str, Any] | None]):
    """What ``placement check`` says: {"ok": bool, "files": [...]}; None while the runtime is not there yet.

    Costs about 0.2 s; no file is read. + python: the runtime's interpreter + plan: ``profiles.placement_plan``
    """

    def command(self, python: str, plan: dict[str, Any]) -> StringCommand:
        return StringCommand(
            "! test -x", QuoteString(python), "||", "{", placement("check", python, plan), "2>/dev/null || true;", "}"
        )

    def process(self, output: list[str]) -> dict[str, Any] | None:
        try:
            answer = json.loads(output[-1])
        except ValueError:
            return None
        return answer if isinstance(answer, dict) and "ok" in answer else None

    @staticmethod
    def default() -> dict[str, Any] | None:
        return None


class Placements(FactBase[dict[str, Any]]):
    """models.json (``ws.paths.placements``): where each placed profile's files are; empty while nothing is placed.

    + path: of models.json
    """

    def command(self, path: str) -> StringCommand:
        return StringCommand("! test -r", QuoteString(path), "|| cat", QuoteString(path))

    def process(self, output: list[str]) -> dict[str, Any]:
        try:
            answer = json.loads("\n".join(output))
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}

    @staticmethod
    def default() -> dict[str, Any]:
        return {}
