"""What a run did, stage by stage, with times: printed once, when the operations have ended."""

from __future__ import annotations

import atexit
import time
from dataclasses import dataclass
from typing import Any

from pyinfra import logger
from pyinfra.api.state import BaseStateCallback, State


@dataclass
class Stage:
    """Seconds spent in a stage's operations and how many of them changed something."""

    seconds: float = 0.0
    changes: int = 0
    failed: bool = False


def render(stages: dict[str, Stage], closing: list[str]) -> list[str]:
    """The table's lines: stage, duration, what happened; then the closing lines, unless a stage failed."""
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
            result = "as it should be"
        lines.append(f"{name:<{width}}  {spent:>8}  {result}")
    total = sum(stage.seconds for stage in stages.values())
    lines.append(f"{'total':<{width}}  {int(total // 60)}m {total % 60:04.1f}s")
    if not any(stage.failed for stage in stages.values()):
        lines += ["", *closing]
    return lines


class StageClock(BaseStateCallback):
    """pyinfra callback: sums up the operations of each stage, by the ``tasks/STAGE.py |`` prefix of their names."""

    def __init__(self, closing: list[str]) -> None:
        self.closing = closing
        self.stages: dict[str, Stage] = {}
        self.started = 0.0

    def _stage(self, state: State, op_hash: str) -> Stage:
        name = next(iter(state.op_meta[op_hash].names), "")
        prefix = name.partition(" | ")[0]
        stage = prefix.removeprefix("tasks/").removesuffix(".py")
        return self.stages.setdefault(stage, Stage())

    def operation_start(self, state: State, op_hash: str) -> None:  # type: ignore[override]
        self.started = time.monotonic()

    def operation_host_error(self, state: State, host: Any, op_hash: str, *_: Any, **__: Any) -> None:  # type: ignore[override]
        self._stage(state, op_hash).failed = True
        self._stage(state, op_hash).seconds += time.monotonic() - self.started

    def operation_end(self, state: State, op_hash: str) -> None:  # type: ignore[override]
        stage = self._stage(state, op_hash)
        stage.seconds += time.monotonic() - self.started
        for host in state.inventory.get_active_hosts():
            if op_hash in state.ops[host] and state.ops[host][op_hash].operation_meta.did_change():
                stage.changes += 1

    def report(self) -> None:
        """Log the table to stderr; nothing when no operation ran (``--dry``, an answer of no)."""
        if self.stages:
            logger.info("")
            for line in render(self.stages, self.closing):
                logger.info(line)


def at_the_end(state: State, closing: list[str]) -> None:
    """Print the stages' table when the process ends; registered once a run, whatever the number of hosts."""
    if any(isinstance(handler, StageClock) for handler in state.callback_handlers):
        return
    clock = StageClock(closing)
    state.add_callback_handler(clock)
    atexit.register(clock.report)
