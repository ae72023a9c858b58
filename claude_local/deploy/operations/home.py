"""Claude Code's configuration directory: the user's file space, merged and never overwritten."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from pyinfra import host, logger, state
from pyinfra.api import QuoteString, StringCommand, operation

from claude_local.claude import json_merge
from claude_local.claude.json_merge import BrokenJson, Json
from claude_local.deploy.facts.user_files import UserFile, UserFiles
from claude_local.deploy.operations.user_files import replaced


@operation()
def json_merged(dest: str, ours: Json, applied: str | None = None, enforced: Sequence[str] = ()) -> Generator[Any]:
    """Merge our keys into a JSON file that the user and Claude Code write too.

    + dest: the file; made with mode 600 when it is missing
    + ours: the keys and values that the deploy wants
    + applied: the file that keeps what the last deploy wanted, so that a change or a deletion by the user is seen as
      one (None: only missing keys are added and ``enforced`` ones corrected)
    + enforced: key paths such as ``permissions.disableAutoMode`` where ``ours`` always wins

    A file that is no JSON object is moved to ``DEST.broken-YYYYmmdd-HHMMSS`` with a warning, and a fresh one is written.
    """
    found = host.get_fact(UserFiles, paths=[dest, *([applied] if applied else [])])
    file, before = found.get(dest), found.get(applied) if applied else None
    broken = None
    current: Json = {}
    if file is not None:
        try:
            current = json_merge.parse(file.text)
        except BrokenJson as problem:
            broken = str(problem)
    # Without the file, what was applied to it says nothing about the user's wishes.
    last = _parsed(before) if file is not None and broken is None else {}
    merged = json_merge.merge(ours, last, current, enforced)
    write = file is None or broken is not None or merged != current or list(merged) != list(current)
    chmod = file is not None and not write and file.mode != "600"
    remember = applied is not None and (before is None or _parsed(before) != ours)
    if not (write or chmod or remember):
        host.noop(f"{dest} has everything")
        return
    if broken is not None:
        if state.is_executing:
            logger.warning(
                f"{dest} is no JSON ({broken}); it is kept as {dest}.broken-<time> and a fresh one is written"
            )
        script = 'mv -- "$1" "$1.broken-$(date +%Y%m%d-%H%M%S)"'
        yield StringCommand("sh", "-c", QuoteString(script), "sh", QuoteString(dest))
    if write:
        yield from replaced(dest, json_merge.dump(merged).encode("utf-8", "surrogateescape"), "600")
    elif chmod:
        yield StringCommand("chmod", "600", QuoteString(dest))
    if remember and applied is not None:
        yield from replaced(applied, json_merge.dump(ours).encode(), "600")


def _parsed(file: UserFile | None) -> Json:
    try:
        return json_merge.parse(file.text) if file else {}
    except BrokenJson:
        return {}
