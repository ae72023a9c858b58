"""Guarded names that a session puts into git's index or under a ref, where no mount guards them: a later ``git
checkout`` outside would write them, and a program obeys what they say."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from os.path import join
from tempfile import TemporaryFile
from threading import Timer

from claude_local.fence import policy
from claude_local.fence.environment import system_program

# Seconds that one git command may take, and bytes that it may print: a session wrote what it reads.
_TIMEOUT, _OUTPUT = 10.0, 4 << 20
# The same for a list of all tracked files: about 600,000.
_INDEX = 64 << 20
# New tips, and paths in former tips, that are looked at; with more, what is new is reported without a further look.
_TIPS, _LOOKUPS = 200, 20_000
_NAMES = [f":(glob,icase)**/{name}{end}" for name in sorted(policy.GUARDED) for end in ("", "/**")]
# git takes nothing from the user's settings, asks nobody and fetches nothing.
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin", "LC_ALL": "C", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none",
}  # fmt: skip
_EMPTY_TREE = {
    40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}


@dataclass(frozen=True)
class Tracked:
    """What git could check out in one git directory. ``tips``: object by ref, HEAD among them. ``index``: object and
    path of the entries with guarded names. ``hidden``: paths whose changes ``git status`` does not show
    (assume-unchanged, skip-worktree). ``is_readable``: whether git could read refs and index."""

    tips: dict[str, str] = field(default_factory=dict)
    index: frozenset[tuple[str, str]] = frozenset()
    hidden: frozenset[str] = frozenset()
    is_readable: bool = True


def read_tracked(git_dir: str) -> Tracked:
    """What git could check out now."""
    refs, entries = _git(git_dir, "show-ref", "--head"), _git(git_dir, "ls-files", "-s", "-z", "--", *_NAMES)
    tips = {name: tip for tip, _, name in (line.partition(" ") for line in (refs or "").splitlines())}
    if os.path.lexists(join(git_dir, "commondir")):
        # A worktree: the other refs are the repository's.
        tips = {name: tip for name, tip in tips.items() if name == "HEAD"}
    parts = [entry.partition("\t") for entry in (entries or "").split("\0") if entry]
    index = frozenset((head.split()[1], path) for head, _, path in parts)
    hidden = None if entries is None else _hidden(git_dir)
    return Tracked(tips, index, hidden or frozenset(), None not in (refs, entries, hidden))


def _hidden(git_dir: str) -> frozenset[str] | None:
    """The tracked files whose changes git does not show; None where git does not list them. A sparse checkout skips
    files itself, so only the other mark counts there."""
    is_sparse = (_git(git_dir, "config", "--type=bool", "core.sparseCheckout") or "").strip() == "true"
    entries = _git(git_dir, "ls-files", "-v", "-z", limit=_INDEX)
    if entries is None:
        return None
    listed = entries.split("\0")
    return frozenset(each[2:] for each in listed if each[:1].islower() or (each[:1] == "S" and not is_sparse))


def new_names(git_dir: str, before: Tracked, now: Tracked) -> dict[str, list[str]]:
    """Where something with a guarded name is that was nowhere ``before``: the index or refs, by path. A ref that
    replaces objects counts as one."""
    if before.is_readable and not now.is_readable:
        return {"something that git cannot read": ["the index or the refs"]}
    found = [(tip, path, "the index") for tip, path in now.index - before.index]
    moved = {name: tip for name, tip in now.tips.items() if before.tips.get(name) != tip}
    for name, tip in list(moved.items())[:_TIPS]:
        base = before.tips.get(name) or before.tips.get("HEAD") or _EMPTY_TREE[len(tip)]
        found += [(new, path, name) for new, path in _changed(git_dir, base, tip)]
    old = _former(git_dir, set(before.tips.values()), {(tip, path) for tip, path, _ in found})
    places: dict[str, list[str]] = {}
    for tip, path, where in found:
        if (tip, path) not in old:
            places.setdefault(path, []).append(where)
    for name in moved:
        if name.startswith("refs/replace/"):
            places.setdefault(name, []).append("the refs")
    return places


def _changed(git_dir: str, base: str, tip: str) -> list[tuple[str, str]]:
    """Object and path of what has a guarded name in ``tip`` and is different in ``base``."""
    said = _git(git_dir, "diff-tree", "-r", "-z", "--raw", "--no-renames", base, tip, "--", *_NAMES)
    words = (said or "").split("\0")
    pairs = [(head.split(), path) for head, path in zip(words[::2], words[1::2], strict=False)]
    return [(head[3], path) for head, path in pairs if len(head) == 5 and head[4] != "D"]


def _former(git_dir: str, tips: set[str], wanted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the ``wanted`` objects and paths that one of the former ``tips`` has, too: a switch to another branch
    brings nothing new."""
    paths = {path for _, path in wanted if "\n" not in path}
    if not paths or len(tips) * len(paths) > _LOOKUPS:
        return set()
    asked = [(tip, path) for tip in tips for path in paths]
    said = _git(git_dir, "cat-file", "--batch-check=%(objectname)", text="".join(f"{t}:{p}\n" for t, p in asked))
    return {(line, path) for (_, path), line in zip(asked, (said or "").splitlines(), strict=False)} & wanted


def _git(git_dir: str, *words: str, text: str = "", limit: int = _OUTPUT) -> str | None:
    """What git prints; None where it fails, takes long or prints much. 1 is show-ref's status for no refs."""
    git = system_program("git")
    if git is None:
        return None
    argv = [git, f"--git-dir={git_dir}", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", *words]
    with suppress(OSError), TemporaryFile() as asked:
        asked.write(os.fsencode(text))
        asked.seek(0)
        with subprocess.Popen(
            argv, env=_ENVIRONMENT, cwd="/", stdin=asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            timer = Timer(_TIMEOUT, process.kill)
            timer.start()
            said = process.stdout.read(limit + 1) if process.stdout else b""
            if len(said) > limit:
                process.kill()
            status = process.wait()
            timer.cancel()
        return os.fsdecode(said) if status in (0, 1) and len(said) <= limit else None
    return None


def lines(git_dir: str, places: dict[str, list[str]]) -> Iterable[str]:
    """What to tell the user of ``new_names``."""
    for path, where in places.items():
        at = " and ".join(where[:2]) + " and others" * (len(where) > 2)
        yield (f"while this session ran, {path} came into {at} of {git_dir}: git checkout would write it, and programs "
               "obey it. If that was not you, read it there first")  # fmt: skip
