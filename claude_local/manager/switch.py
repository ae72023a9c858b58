"""One switch: where it is, who wants it, and how it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any


class SwitchError(Exception):
    """A switch that did not happen. ``status``: the HTTP status. ``more``: further members of the answer."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.more = more


@dataclass
class Stage:
    """Where a switch is. ``name``: draining, saving, unloading, loading, ready or failed.

    ``progress``: of the load, 0 to 1. ``seconds_left``: expected from earlier loads; None when unknown.
    """

    name: str
    model: str
    progress: float | None = None
    seconds_left: float | None = None

    def as_data(self) -> dict[str, Any]:
        """The members of a stage in an event."""
        return {"stage": self.name, "model": self.model, "progress": self.progress, "seconds_left": self.seconds_left}


@dataclass
class Running:
    """A switch. ``began``: seconds since the epoch. ``private``: it is the user's, who may know where sessions work.
    ``seconds``: stage -> seconds that it took."""

    model: str
    who: str
    began: float
    stage: Stage
    private: bool = True
    cancelled: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[dict[str, Any]] | None = None

    def as_data(self) -> dict[str, Any]:
        """The member ``switch`` of a status."""
        return {**self.stage.as_data(), "who": self.who, "since": self.began}

    async def answer(self) -> dict[str, Any]:
        """Wait for the end: model, ctx_size, previous, previous_ctx_size (tokens), seconds. Raises SwitchError."""
        assert self.task is not None
        return await asyncio.shield(self.task)

    async def stages(self) -> AsyncIterator[Stage]:
        """Each stage as it comes, for one listener, until the switch has ended."""
        assert self.task is not None
        told: Stage | None = None
        while not self.task.done():
            await self.changed.wait()
            self.changed.clear()
            if self.stage != told:
                told = self.stage
                yield told
