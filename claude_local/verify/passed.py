"""Which rows have passed, and on what: while that is unchanged, `./provision` does not run them again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from claude_local.verify import docker_rows
from claude_local.verify.checks import Check, Row
from claude_local.verify.fingerprint import fingerprint
from claude_local.verify.report import write_atomically
from claude_local.verify.workbench import Workbench

# Bytes to read for one subject. A bigger file (Claude Code's binary) counts by its size and time.
BUDGET = 32 * 1024 * 1024


def _programs(bench: Workbench) -> Any:
    """The runtime, which verify itself is part of."""
    files = fingerprint(Path(bench.paths.lib), budget=BUDGET)
    return sorted(entry for entry in files.items() if "__pycache__" not in entry[0])


def _machine(bench: Workbench) -> Any:
    """The kernel, and the programs that a fence needs of the distribution."""
    programs = [Path(path).resolve() for name in (bench.bwrap, "socat") if (path := shutil.which(name))]
    return [os.uname().release, fingerprint(*programs, budget=BUDGET)]


def _session(bench: Workbench) -> Any:
    """Claude Code, and the files that say how it starts."""
    paths = bench.paths
    files = [paths.wrapper, paths.settings, paths.enforced_settings, paths.bash_env, paths.fence_config, paths.profiles]
    return fingerprint(*map(Path, files), Path(paths.claude).resolve(), budget=BUDGET)


def _server(bench: Workbench) -> Any:
    """The server's image, and its container with all that it reads: a label has the digest of that."""
    return docker_rows.identity(bench)


SUBJECTS: dict[str, Callable[[Workbench], Any]] = {
    "machine": _machine,
    "programs": _programs,
    "session": _session,
    "server": _server,
}


class Passed:
    """The record in the state directory: id of a row -> the digest of its subjects when it passed last."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.path = Path(bench.paths.verify_passed)
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        self.digests: dict[str, str] = found if isinstance(found, dict) else {}

    def _digest(self, check: Check) -> str:
        """Of what the row is about, as it is now."""
        subjects = [
            self.bench.once(f"subject {name}", lambda name=name: SUBJECTS[name](self.bench))  # type: ignore[misc]
            for name in check.about
        ]
        return hashlib.sha256(json.dumps(subjects, sort_keys=True).encode()).hexdigest()

    def due(self, checks: Sequence[Check]) -> list[str]:
        """The ids of the rows to run: the quick ones, and those whose subjects are not what they passed on.

        Rows about the same subjects share sessions and judge them together, so all of them run when one has to.
        """
        stale = {check.about for check in checks if check.about and self.digests.get(check.id) != self._digest(check)}
        return [check.id for check in checks if not check.about or check.about in stale]

    def remember(self, checks: Iterable[Check], rows: Iterable[Row]) -> None:
        """Note the rows that have passed, and forget those that have not."""
        by_id = {check.id: check for check in checks}
        for row in rows:
            check = by_id[row.id]
            if check.about and row.status == "PASS":
                self.digests[row.id] = self._digest(check)
            else:
                self.digests.pop(row.id, None)
        write_atomically(self.path, self.digests)
