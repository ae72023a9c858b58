"""What a run did, stage by stage, with times. It is printed once, when the operations have ended."""

from __future__ import annotations

import atexit
import time
from dataclasses import dataclass
from typing import Any

from pyinfra import logger
from pyinfra.api.state import BaseStateCallback, State


@dataclass
class Stage:
    """A stage's operations: their duration in seconds, and how many of them changed something."""

    seconds: float = 0.0
    changes: int = 0
    failed: bool = False


def render(stages: dict[str, Stage], closing: list[str]) -> list[str]:
    """The table's lines (stage, duration, result), then the closing lines unless a stage failed."""
    width = max(map(len, stages), default=5)
    lines = [f"{'stage':<{width}}  {'time':>8}  result"]
    for name, stage in stages.items():
        minutes, seconds = divmod(stage.seconds, 60)
        spent = f"{int(minutes)}m {seconds:04.1f}s" if minutes else f"{seconds:.1f}s"
        if stage.failed:
            result = "FAILED"
        elif stage.changes:
            result = f"{stage.changes} change{'' if stage.changes == 1 else 's'}"
        else:
            result = "unchanged"
        lines.append(f"{name:<{width}}  {spent:>8}  {result}")
    total = sum(stage.seconds for stage in stages.values())
    lines.append(f"{'total':<{width}}  {int(total // 60)}m {total % 60:04.1f}s")
    if not any(stage.failed for stage in stages.values()):
        lines += ["", *closing]
    return lines


class StageClock(BaseStateCallback):
    """pyinfra callback that sums up each stage's operations, by the ``tasks/STAGE.py |`` prefix of their names."""

    def __init__(self, closing: list[str]) -> None:
        self.closing = closing
        self.stages: dict[str, Stage] = {}
        self.started = 0.0
        self.current: Stage | None = None

    def _stage(self, state: State, op_hash: str) -> Stage:
        name = next(iter(state.op_meta[op_hash].names), "")
        prefix = name.partition(" | ")[0]
        stage = prefix.removeprefix("tasks/").removesuffix(".py")
        return self.stages.setdefault(stage, Stage())

    def operation_start(self, state: State, op_hash: str) -> None:  # type: ignore[override]
        """Start the clock."""
        self.started, self.current = time.monotonic(), self._stage(state, op_hash)

    def operation_host_error(  # type: ignore[override]
        self, state: State, host: Any, op_hash: str, *_: Any, **__: Any
    ) -> None:
        """Mark the stage as failed."""
        self._stage(state, op_hash).failed = True

    def operation_end(self, state: State, op_hash: str) -> None:  # type: ignore[override]
        """Add the operation's time and changes to its stage."""
        stage, self.current = self._stage(state, op_hash), None
        stage.seconds += time.monotonic() - self.started
        for host in state.inventory.get_active_hosts():
            if op_hash in state.ops[host] and state.ops[host][op_hash].operation_meta.did_change():
                stage.changes += 1

    def report(self) -> None:
        """Log the table to stderr, or nothing when no operation ran (``--dry``, Ctrl-C at the question)."""
        if not self.stages:
            return
        if self.current is not None:  # no host is left, or somebody interrupted the run
            self.current.failed = True
            self.current.seconds += time.monotonic() - self.started
        logger.info("")
        for line in render(self.stages, self.closing):
            logger.info(line)


def at_the_end(state: State, closing: list[str]) -> None:
    """Print the stages' table when the process ends, once a run. ``closing`` follows a run without failures."""
    if any(isinstance(handler, StageClock) for handler in state.callback_handlers):
        return
    clock = StageClock(closing)
    state.add_callback_handler(clock)
    atexit.register(clock.report)
