"""JSON files that the deploy, the user and Claude Code write: reading, writing, a three-way merge. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]
KeyPath = tuple[str, ...]

_MISSING = object()


class BrokenJson(ValueError):
    """A text that is not a JSON object; the message says where it stops being one."""


def parse(text: str) -> Json:
    """The JSON object in ``text``; an empty text is an empty object. Raises BrokenJson."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text.removeprefix("\ufeff"))
    except ValueError as problem:
        raise BrokenJson(str(problem)) from None
    except RecursionError:
        raise BrokenJson("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise BrokenJson(f"it holds a {type(value).__name__}, not an object")
    return value


def dump(value: Json) -> str:
    """The text of a JSON file as Claude Code writes it: two spaces, a newline at the end."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def merge(ours: Json, applied: Json, current: Json, enforced: Iterable[str] = ()) -> Json:
    """Merge our defaults and the user's changes: ``current`` with as little changed as possible.

    ``ours`` is what the deploy wants now, ``applied`` what it wanted the last time, ``current`` what is on disk.
    A value on disk that differs from the applied one is the user's change and stays, and so does a deletion. A value
    that the user did not change follows ours, even when we no longer want it. ``enforced`` key paths (``a.b``, with
    all below) are always ours. Lists and scalars count as one value. Keys keep their order on disk; new ones follow.
    """
    return _merge(ours, applied, current, tuple(tuple(path.split(".")) for path in enforced), ())


def difference(current: Json, merged: Json) -> Json:
    """The part of ``merged`` that ``current`` does not have."""
    lacks: Json = {}
    for key, value in merged.items():
        old = current.get(key, _MISSING)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := difference(old, value):
                lacks[key] = inner
        elif not _same(old, value):
            lacks[key] = value
    return lacks


def _merge(
    ours: Mapping[str, Any], applied: Mapping[str, Any], current: Json, enforced: tuple[KeyPath, ...], at: KeyPath
) -> Json:
    """The merged object at the key path ``at``."""
    merged = {}
    for key in [*current, *(key for key in ours if key not in current)]:
        mine, last, theirs = (values.get(key, _MISSING) for values in (ours, applied, current))
        value = _value(mine, last, theirs, enforced, (*at, key))
        if value is not _MISSING:
            merged[key] = value
    return merged


def _value(ours: Any, applied: Any, current: Any, enforced: tuple[KeyPath, ...], at: KeyPath) -> Any:
    """The merged value at the key path ``at``; _MISSING when the key goes."""
    if ours is not _MISSING and _is_enforced(at, enforced):
        both_groups = isinstance(ours, dict) and isinstance(current, dict)
        return _merge(ours, {}, current, enforced, at) if both_groups else ours
    if isinstance(current, dict) and (isinstance(ours, dict) or (ours is _MISSING and isinstance(applied, dict))):
        return _group(ours, applied, current, enforced, at)
    if _same(current, applied):
        return ours
    if isinstance(ours, dict):
        # The user removed or replaced the whole group. Only its enforced keys come back.
        return _only_enforced(ours, enforced, at) or current
    return current


def _group(ours: Any, applied: Any, current: Json, enforced: tuple[KeyPath, ...], at: KeyPath) -> Any:
    """The merged group ``current``. A group that only we filled goes with its last key."""
    applied_group = applied if isinstance(applied, dict) else {}
    if ours is not _MISSING:
        return _merge(ours, applied_group, current, enforced, at)
    merged = _merge({}, applied_group, current, enforced, at)
    return _MISSING if current and not merged else merged


def _only_enforced(ours: Json, enforced: tuple[KeyPath, ...], at: KeyPath) -> Json:
    """The part of the group ``ours`` that is enforced."""
    kept: Json = {}
    for key, value in ours.items():
        if _is_enforced((*at, key), enforced):
            kept[key] = value
        elif isinstance(value, dict) and (inner := _only_enforced(value, enforced, (*at, key))):
            kept[key] = inner
    return kept


def _is_enforced(at: KeyPath, enforced: tuple[KeyPath, ...]) -> bool:
    return any(at[: len(path)] == path for path in enforced)


def _same(one: Any, other: Any) -> bool:
    """Equality as in JSON: 1 and true differ. _MISSING equals only itself."""
    if one is _MISSING or other is _MISSING:
        return one is other
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
