"""Rows about the GGUF files: there, unchanged since they were verified, and whole."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

from claude_local.models import gguf
from claude_local.models.placement import Index
from claude_local.verify.checks import Check, Failed
from claude_local.verify.workbench import Workbench

PIECE = 8 * 1024 * 1024


def _placements(bench: Workbench) -> dict[str, Any]:
    path = Path(bench.paths.placements)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Failed(f"{path} is missing: no model was placed") from None
    except (OSError, ValueError) as error:
        raise Failed(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("files"), dict):
        raise Failed(f"{path} holds no placements")
    return found


def sha256(path: Path, bench: Workbench) -> str:
    """The digest of a file, telling the watcher how far it is."""
    digest, size, read = hashlib.sha256(), path.stat().st_size, 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            read += len(piece)
            bench.say(f"reading {path.name}: {read / 1e6:.0f} of {size / 1e6:.0f} MB")
    return digest.hexdigest()


def _fix(ours: bool, unseen: bool, path: Path) -> str:
    """What helps. ``unseen``: size, time and inode are those of the verified file, so that a deploy does not look again."""
    if not ours:
        return f"replace {path} by a whole copy (it is your own file, so ./provision leaves it alone), then ./provision"
    if unseen:
        return f"touch {shlex.quote(str(path))} && ./provision    (hashes it again, and places it again)"
    return "./provision    (places it again)"


def _file(path: Path, index: Index, bench: Workbench) -> str:
    stamp = index.files.get(str(path), {})
    try:
        info = path.stat()
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise Failed(f"{path} is missing", _fix(index.placed(str(path)), False, path)) from None
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}", f"ls -l {shlex.quote(str(path))}") from None
    same = (info.st_mtime_ns, info.st_ino) == (stamp.get("mtime_ns"), stamp.get("inode"))
    size, wanted = info.st_size, stamp.get("size")
    fix = _fix(index.ours(str(path)), same and size == wanted, path)
    if wanted is not None and size != wanted:
        kind = "truncated" if size < wanted else "not the verified file"
        raise Failed(f"{path} is {kind}: {size} bytes of {wanted}", fix)
    if magic != gguf.MAGIC:
        raise Failed(f"{path} is corrupt: it does not start with GGUF", fix)
    if same and not bench.deep:
        return f"{path.name}, {size / 1e6:.0f} MB, unchanged since it was verified"
    why = "looked at again" if same else "touched since it was verified, looked at again"
    expected = stamp.get("sha256")
    if expected is None:
        problem = gguf.problem(str(path))
        if problem is not None:
            raise Failed(f"{path} is corrupt: {problem}", fix)
        return f"{path.name}, {size / 1e6:.0f} MB, {why}: a sound GGUF (no sha256 is known for it)"
    found = sha256(path, bench)
    if found != expected:
        raise Failed(f"{path} is corrupt: sha256 {found[:16]}... instead of {expected[:16]}...", fix)
    return f"{path.name}, {size / 1e6:.0f} MB, {why}: sha256 {found[:16]}... is right"


def checks(profiles: tuple[str, ...]) -> list[Check]:
    """One row a profile."""

    def row(profile: str) -> Check:
        def run(bench: Workbench) -> str:
            found = _placements(bench)
            entry = (found.get("profiles") or {}).get(profile)
            if not entry or not entry.get("files"):
                raise Failed(f"{profile} has not been placed")
            index = Index(bench.paths.placements, found["files"])
            return "; ".join(_file(Path(name), index, bench) for name in entry["files"])

        return Check(f"model.{profile}", f"the files of {profile} are whole", run, limit=3600)

    return [row(profile) for profile in profiles]
