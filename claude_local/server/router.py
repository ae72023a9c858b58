"""What the router says about its models (GET /v1/models)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from claude_local.server.presets import ACTIVE


@dataclass(frozen=True)
class Model:
    """A section of presets.ini in the router. ``state``: unloaded, loading, loaded or sleeping. ``aliases``: further
    names that mean it. ``progress``: of a load, 0 to 1. ``failed``: its process ended with an error, ``exit_code``."""

    id: str
    state: str
    aliases: frozenset[str] = frozenset()
    progress: float | None = None
    failed: bool = False
    exit_code: int | None = None

    @property
    def ready(self) -> bool:
        """Whether it answers requests; one that sleeps wakes up for them."""
        return self.state in ("loaded", "sleeping")


def models(answer: Any) -> dict[str, Model]:
    """Each section of presets.ini, from the decoded answer. Raises ValueError where it is not a router's."""
    try:
        return {each["id"]: _model(each) for each in answer["data"]}
    except (KeyError, TypeError, AttributeError):
        raise ValueError("not what llama-server answers in router mode") from None


def ready(models: Mapping[str, Model]) -> bool:
    """Whether the router knows the default profile and has a model loaded or asleep."""
    return any(ACTIVE in each.aliases for each in models.values()) and any(each.ready for each in models.values())


def _model(entry: dict[str, Any]) -> Model:
    status = entry["status"]
    progress = (status.get("progress") or {}).get("value")
    return Model(
        id=entry["id"],
        state=status["value"],
        aliases=frozenset(entry.get("aliases") or ()),
        progress=progress if isinstance(progress, int | float) else None,
        failed=bool(status.get("failed")),
        exit_code=status.get("exit_code"),
    )
