"""models.lock: what the hub said once is what every later machine must get."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.deploy.operations.models import write_lock
from claude_local.models import lock as models_lock
from claude_local.models import profiles
from claude_local.models.lock import LockEntry, LockError

HUB = f"hub a/b@{'0' * 40}/d"
CONF = f"[x]\nMODEL = d/M-00001-of-00002.gguf\nSOURCES = {HUB}\n[y]\nMODEL = y.gguf\n"
ONE = LockEntry(HUB, "M-00001-of-00002.gguf", "ab" * 32, 5)
TWO = LockEntry(HUB, "M-00002-of-00002.gguf", "cd" * 32, 6)

entries = st.lists(
    st.builds(
        LockEntry,
        source=st.sampled_from([HUB, "hub c/d@" + "1" * 40]),
        name=st.sampled_from(["a.gguf", "b.gguf", "c.gguf"]),
        sha256=st.sampled_from(["ab" * 32, "cd" * 32]),
        size=st.integers(1, 10**12),
    ),
    unique_by=lambda entry: (entry.source, entry.name),
)


@given(entries)
def test_what_is_written_is_what_is_read(entries: list[LockEntry]) -> None:
    lock = models_lock.merge({}, entries)
    assert models_lock.read(models_lock.dump(lock)) == lock
    assert models_lock.merge(lock, entries) == lock


@given(
    st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_anything_else_is_refused(content: Any) -> None:
    with pytest.raises(LockError):
        models_lock.read(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sha256": "AB" * 32}, "entry 1"),
        ({"size": 0}, "entry 1"),
        ({"size": True}, "entry 1"),
        ({"source": "url http://x"}, "entry 1"),
        ({"name": None}, "entry 1"),
    ],
)
def test_a_wrong_entry_is_named(change: dict[str, Any], says: str) -> None:
    entry = {"source": ONE.source, "name": ONE.name, "sha256": ONE.sha256, "size": ONE.size, **change}
    with pytest.raises(LockError, match=says):
        models_lock.read(json.dumps({"version": 1, "files": [entry]}))


def test_another_file_under_the_same_name_is_a_conflict_that_says_what_to_do() -> None:
    lock = models_lock.merge({}, [ONE])
    with pytest.raises(LockError, match="two machines different files.*take the entry out"):
        models_lock.merge(lock, [LockEntry(ONE.source, ONE.name, "ef" * 32, 5)])


def test_the_lock_gives_parts_their_identity_and_leaves_what_is_pinned() -> None:
    known = profiles.parse(CONF)
    lock = models_lock.merge({}, [ONE, TWO])
    filled = models_lock.fill_in(known, lock)
    assert [(file.sha256, file.size) for file in filled["x"].files] == [(ONE.sha256, 5), (TWO.sha256, 6)]
    assert filled["y"] == known["y"]
    assert models_lock.fill_in(filled, models_lock.merge({}, [LockEntry(HUB, ONE.name, "99" * 32, 1)])) == filled


def test_what_a_machine_hashed_becomes_entries() -> None:
    known = profiles.parse(CONF)
    paths = ["/m/d/M-00001-of-00002.gguf", "/m/d/M-00002-of-00002.gguf"]
    stamps = {
        path: {"sha256": e.sha256, "source": HUB, "size": e.size, "inode": 3}
        for path, e in zip(paths, (ONE, TWO), strict=True)
    }
    placements = {"files": stamps, "profiles": {"x": {"files": paths}, "y": {"files": ["/m/y.gguf"]}}}
    assert models_lock.placed_entries(known.values(), placements) == [ONE, TWO]
    pinned = models_lock.fill_in(known, models_lock.merge({}, [ONE, TWO]))
    assert models_lock.placed_entries(pinned.values(), placements) == []
    assert models_lock.placed_entries(known.values(), {}) == []
    # Stamps of another revision, or of a version that did not note from where, are no word of this line's.
    for source in ("hub a/b@" + "1" * 40 + "/d", None):
        other = {path: {**stamp, "source": source} for path, stamp in stamps.items()}
        assert models_lock.placed_entries(known.values(), {**placements, "files": other}) == []


def test_several_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "models.lock"
    many = [LockEntry(HUB, f"{n}.gguf", "ab" * 32, n + 1) for n in range(8)]
    threads = [threading.Thread(target=write_lock, args=(path, [entry])) for entry in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(models_lock.read(path.read_text()).values()) == set(many)
    assert write_lock(path, many) == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["models.lock"]
