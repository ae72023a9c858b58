"""Rows about the GGUF files: present, complete, and unchanged since they were verified."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

from claude_local.models import gguf
from claude_local.models.index import Index
from claude_local.verify.checks import Check, Failed
from claude_local.verify.workbench import Workbench

CHUNK = 8 * 1024 * 1024


def _placements(bench: Workbench) -> dict[str, Any]:
    """models.json, decoded. Raises Failed."""
    path = Path(bench.paths.placements)
    try:
        placements = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Failed(f"{path} is missing: no model was placed") from None
    except (OSError, ValueError) as error:
        raise Failed(f"{path} cannot be read: {error}") from None
    if not isinstance(placements, dict) or not isinstance(placements.get("files"), dict):
        raise Failed(f"{path} does not list any files")
    return placements


def sha256(path: Path, bench: Workbench) -> str:
    """The digest of a file; reports its progress."""
    digest, size, done = hashlib.sha256(), path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            bench.say(f"reading {path.name}: {done / 1e6:.0f} of {size / 1e6:.0f} MB")
    return digest.hexdigest()


def _fix(ours: bool, same_stamp: bool, path: Path) -> str:
    """What to type. ``same_stamp``: size, time and inode are those of the verified file, so a deploy would trust it."""
    if not ours:
        return f"replace {path} with a good copy (it is your own file: ./provision leaves it alone), then ./provision"
    if same_stamp:
        return f"touch {shlex.quote(str(path))} && ./provision    (hashes it again, and places it again)"
    return "./provision    (places it again)"


def _file(path: Path, index: Index, bench: Workbench) -> str:
    """The evidence for one file. Raises Failed."""
    stamp = index.files.get(str(path), {})
    try:
        info = path.stat()
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise Failed(f"{path} is missing", _fix(index.placed(str(path)), False, path)) from None
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}", f"ls -l {shlex.quote(str(path))}") from None
    untouched = (info.st_mtime_ns, info.st_ino) == (stamp.get("mtime_ns"), stamp.get("inode"))
    size, expected_size = info.st_size, stamp.get("size")
    fix = _fix(index.ours(str(path)), untouched and size == expected_size, path)
    if expected_size is not None and size != expected_size:
        kind = "truncated" if size < expected_size else "not the verified file"
        raise Failed(f"{path} is {kind}: {size} bytes of {expected_size}", fix)
    if magic != gguf.MAGIC:
        raise Failed(f"{path} is corrupt: it does not start with GGUF", fix)
    about = f"{path.name}, {size / 1e6:.0f} MB"
    if untouched and not bench.deep:
        return f"{about}, unchanged since it was verified"
    return f"{about}, {'' if untouched else 'touched since it was verified, '}{_content(path, stamp, fix, bench)}"


def _content(path: Path, stamp: dict[str, Any], fix: str, bench: Workbench) -> str:
    """Read the file: its sha256, or its header where no sha256 is known. Raises Failed."""
    expected = stamp.get("sha256")
    if expected is None:
        if (problem := gguf.problem(str(path))) is not None:
            raise Failed(f"{path} is corrupt: {problem}", fix)
        return "its GGUF header is sound (no sha256 is known for it)"
    digest = sha256(path, bench)
    if digest != expected:
        raise Failed(f"{path} is corrupt: sha256 {digest[:16]}... instead of {expected[:16]}...", fix)
    return f"sha256 {digest[:16]}... matches"


def checks(profiles: tuple[str, ...]) -> list[Check]:
    """One row a profile."""

    def row(profile: str) -> Check:
        def run(bench: Workbench) -> str:
            placements = _placements(bench)
            entry = (placements.get("profiles") or {}).get(profile)
            if not entry or not entry.get("files"):
                raise Failed(f"{profile} has not been placed")
            index = Index(bench.paths.placements, placements["files"])
            return "; ".join(_file(Path(name), index, bench) for name in entry["files"])

        return Check(f"model.{profile}", f"the files of {profile} are intact", run, limit=3600)

    return [row(profile) for profile in profiles]
