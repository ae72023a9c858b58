"""What the dashboard reads from the user's files: the fence, its last refusals, the last verify."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_local.fence.config import ConfigError, FenceConfig, parse
from claude_local.fence.refusals import Refusal, history
from claude_local.paths import Paths

# How many refusals are shown.
REFUSALS = 5


@dataclass
class Files:
    """Reads anew what has changed since. ``verify``: the report of the last verify, empty before the first."""

    paths: Paths
    fence: FenceConfig | None = None
    refusals: list[Refusal] = field(default_factory=list)
    verify: dict[str, Any] = field(default_factory=dict)
    _stamps: dict[str, float] = field(default_factory=dict)

    def read(self) -> None:
        """Look at all of them. A file that is missing or damaged shows as nothing."""
        if self._changed(self.paths.fence_config):
            with suppress(OSError, ConfigError):
                self.fence = parse(Path(self.paths.fence_config).read_text())
        if self._changed(self.paths.verify_report):
            with suppress(OSError, ValueError):
                self.verify = json.loads(Path(self.paths.verify_report).read_text())
        projects = Path(self.paths.config_dir, "projects")
        if self._changed(str(projects), *map(str, projects.rglob("*.jsonl"))):
            self.refusals = history(str(projects), REFUSALS)

    def _changed(self, *names: str) -> bool:
        """Whether one of these files is newer than at the last look; the first stands for all of them."""
        newest = 0.0
        for name in names:
            with suppress(OSError):
                newest = max(newest, os.stat(name).st_mtime)
        before, self._stamps[names[0]] = self._stamps.get(names[0], 0.0), newest
        return newest != before
