"""Place the model files: fetch what is missing, verify what is there."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pyinfra import host
from pyinfra.api import QuoteString, StringCommand, operation

from claude_local.deploy.facts.models import PlacementCheck, placement
from claude_local.deploy.operations.streaming import streamed


def _told(tail: list[str]) -> str:
    """The part of the output that says why: from the last ``error:`` on, else the last lines."""
    starts = [index for index, line in enumerate(tail) if line.startswith("error:")]
    told = tail[starts[-1] :] if starts else tail[-5:]
    return "The models could not be placed:\n  " + "\n  ".join(line.removeprefix("error: ") for line in told)


@operation()
def placed(python: str, plan: dict[str, Any]) -> Generator[Any]:
    """Have every file of the plan in place, its sha256 checked once.

    + python: the runtime's interpreter on the workstation (tasks/runtime.py makes it)
    + plan: what ``profiles.placement_plan`` returns
    """
    seen = host.get_fact(PlacementCheck, python=python, plan=plan)
    if seen is not None and seen["ok"]:
        host.noop("the models are in place: " + ", ".join(profile["id"] for profile in plan["profiles"]))
        return
    missing = "error: the runtime is not there yet; tasks/runtime.py makes it"
    guard = StringCommand("test -x", QuoteString(python), "|| { echo", QuoteString(missing), "; exit 1; };")
    yield streamed(StringCommand(guard, placement("place", python, plan)), failure=_told)
