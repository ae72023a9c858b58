"""What the checks of one run share: parameters, things found out once, the temporary home, and the clearing away."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from claude_local.fence.config import ConfigError, FenceConfig, parse
from claude_local.verify import processes
from claude_local.verify.parameters import Parameters

Found = TypeVar("Found")


class Workbench:
    """One run's shared state. ``say`` shows what a slow check is doing; ``deep`` hashes every model again.

    A context manager: leaving it runs what ``on_close`` was given, last first, and kills what still carries the marker.
    """

    def __init__(self, parameters: Parameters, *, deep: bool = False) -> None:
        self.parameters = parameters
        self.paths = parameters.paths
        self.deep = deep
        self.marker = secrets.token_hex(8)
        self.say: Callable[[str], None] = lambda text: None
        self._found: dict[str, Any] = {}
        self._closers: list[Callable[[], None]] = []

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def once(self, key: str, find: Callable[[], Found]) -> Found:
        """What ``find`` returns, asked for only once in a run; an exception is remembered and raised again."""
        if key not in self._found:
            try:
                self._found[key] = (find(), None)
            except Exception as trouble:
                self._found[key] = (None, trouble)
        value, failure = self._found[key]
        if failure is not None:
            raise failure
        return cast(Found, value)

    def known(self, key: str) -> Any:
        """What ``once(key, ...)`` found earlier in this run, or None."""
        return self._found.get(key, (None, None))[0]

    def on_close(self, closer: Callable[[], None]) -> None:
        self._closers.append(closer)

    def reap(self) -> None:
        """End what a check may have left running."""
        processes.reap(self.marker)

    def close(self) -> None:
        self.reap()
        while self._closers:
            self._closers.pop()()

    def environment(self, **extra: str) -> dict[str, str]:
        """This process's environment with the run's marker, a plain locale and ``extra``."""
        return {**os.environ, "LC_ALL": "C.UTF-8", processes.MARKER: self.marker, **extra}

    @property
    def fence(self) -> FenceConfig | None:
        """fence.json; None when there is none that can be used (configuration.fence_config says why)."""
        try:
            return parse(Path(self.paths.fence_config).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ConfigError):
            return None

    @property
    def bwrap(self) -> str:
        """The bubblewrap that works here: the fence's own copy where AppArmor asks for one, else the one on PATH."""
        fence = self.fence
        return fence.bwrap if fence is not None and fence.bwrap != FenceConfig().bwrap else "bwrap"

    @property
    def start_command(self) -> str:
        return f"docker start {self.parameters.container}    (or ./provision)"

    @property
    def logs_command(self) -> str:
        return f"docker logs --tail 40 {self.parameters.container}    shows why; ./provision repairs the server"
