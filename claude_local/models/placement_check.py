"""Whether the files of a plan are in place. Changes nothing but the stamps of damaged files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from claude_local.models import gguf
from claude_local.models.index import Index
from claude_local.models.part import hash_file
from claude_local.models.placement_plan import FileGroup, PlacementPlan, PlannedFile
from claude_local.models.progress import ProgressLines, short
from claude_local.models.run_lock import run_lock
from claude_local.models.search import Candidate, survey


def content_problem(path: str, file: PlannedFile, *, progress: bool = False) -> str | None:
    """Read a file and say what is wrong with its content; None when it is the file of the plan."""
    try:
        if file.sha256 is None:
            return gguf.problem(path)
        lines = ProgressLines(f"checking {short(path)}", os.stat(path).st_size) if progress else None
        digest = hash_file(path, lines)
        if digest == file.sha256:
            return None
        return gguf.problem(path) or f"its sha256 is {digest[:12]}…, expected {file.sha256[:12]}…"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"


def with_known_identities(group: FileGroup, index: Index) -> FileGroup:
    """The group with the sha256 and size that the hub gave in earlier runs, for files without one in the plan."""
    files = []
    for file in group.files:
        identity = index.identity(file, unchanged=False) if file.sha256 is None and file.hub else None
        files.append(file.identified(*identity) if identity else file)
    return replace(group, files=tuple(files))


def profile_records(plan: PlacementPlan, placed: Iterable[tuple[FileGroup, Sequence[Candidate]]]) -> dict[str, Any]:
    """The ``profiles`` part of models.json: where each profile's model, projector and files are."""
    paths: dict[str, list[str]] = {}
    for group, candidates in placed:
        paths.setdefault(group.profile, []).extend(each.path for each in candidates)
    records = {}
    for name, profile in plan.profiles.items():
        projector = profile["mmproj"]
        records[name] = {
            "model": paths[name][0],
            "mmproj": paths[name][profile["names"].index(projector)] if projector else None,
            "files": paths[name],
        }
    return records


def check(plan: PlacementPlan, *, deep: bool = False) -> dict[str, Any]:
    """The state of every file: {"ok": bool, "files": [{profile, name, path, state, detail, size, sha256, placed}]}, and
    what models.json says ("placements").

    ``deep`` hashes every file that has the right size. A damaged one loses its stamp, so that the next ``place``
    replaces it. That needs the lock: raises AnotherRun.
    """
    index = Index.load(plan.placements_path)
    groups = [with_known_identities(group, index) for group in plan.groups]
    surveyed = [(group, survey(group, plan, index)) for group in groups]
    rows, damaged = [], []
    for group, candidates in surveyed:
        for file, candidate in zip(group.files, candidates, strict=True):
            hashed = _hashed(candidate, file) if deep else candidate
            if candidate.state == "ok" and hashed.state == "corrupt":
                damaged.append(candidate.path)
            rows.append(
                {
                    "profile": group.profile,
                    "name": file.name,
                    "path": hashed.path,
                    "state": hashed.state,
                    "detail": hashed.detail,
                    "size": hashed.size,
                    "sha256": file.sha256,
                    "placed": index.ours(hashed.path),
                }
            )
    if damaged:
        _forget_stamps(plan, damaged)
    ok = all(row["state"] == "ok" for row in rows)
    if ok:
        recorded = (index.profiles, index.roots, index.needed, index.gone(index.profiles))
        ok = recorded == (profile_records(plan, surveyed), list(plan.roots), [], [])
    return {"ok": ok, "files": rows, "placements": index.content()}


def _hashed(candidate: Candidate, file: PlannedFile) -> Candidate:
    """The candidate after its content was read."""
    if candidate.state not in ("ok", "changed", "unverified"):
        return candidate
    problem = content_problem(candidate.path, file)
    if problem is not None:
        return replace(candidate, state="corrupt", detail=problem)
    if candidate.state != "ok":
        return candidate
    return replace(candidate, detail="sha256 checked now" if file.sha256 else "header checked now")


def _forget_stamps(plan: PlacementPlan, paths: Sequence[str]) -> None:
    """Have the next ``place`` hash these files again. Raises AnotherRun."""
    with run_lock(plan.model_dir, plan.placements_path):
        index = Index.load(plan.placements_path)
        for path in paths:
            if path in index.files:
                index.files[path]["mtime_ns"] = None
        index.save()
