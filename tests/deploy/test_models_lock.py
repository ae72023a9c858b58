"""models.lock through pyinfra, and the look at which model files are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from claude_local.deploy.facts.models import ModelFiles
from claude_local.deploy.operations import models
from claude_local.models import profiles
from tests import sparse_models
from tests.deploy.strict_host import StrictHost, fact_on_this_machine, run
from tests.deploy.this_machine import runtime_python
from tests.models.gguf_file import model

HUB = f"hub o/r@{'0' * 40}"
UNPINNED = profiles.parse(f"[x]\nMODEL = m.gguf\nSOURCES = {HUB}")["x"]
PINNED = profiles.parse(f"[x]\nMODEL = m.gguf\nSHA256 = {'ab' * 32}\nSIZE = 5\nSOURCES = {HUB}")["x"]
PLACED = {
    "files": {"/m/m.gguf": {"sha256": "ab" * 32, "source": HUB, "size": 5}},
    "profiles": {"x": {"model": "/m/m.gguf", "mmproj": None, "files": ["/m/m.gguf"]}},
}


def test_nothing_is_done_when_every_hash_is_known(monkeypatch: Any, tmp_path: Path) -> None:
    host = StrictHost({"Placements": PLACED})
    arguments = {"path": tmp_path / "models.lock", "profiles": [PINNED], "placements": "/p"}
    assert run(monkeypatch, models.lock, host, **arguments) == []
    assert host.noop_reason and not list(tmp_path.iterdir())


def test_what_the_machine_hashed_is_kept_and_another_file_later_is_an_error(monkeypatch: Any, tmp_path: Path) -> None:
    path = tmp_path / "models.lock"
    host = StrictHost({"Placements": PLACED})
    run(monkeypatch, models.lock, host, path=path, profiles=[UNPINNED], placements="/p")
    entry = {"source": HUB, "name": "m.gguf", "sha256": "ab" * 32, "size": 5}
    assert json.loads(path.read_text())["files"] == [entry]
    again = StrictHost({"Placements": PLACED})
    assert run(monkeypatch, models.lock, again, path=path, profiles=[UNPINNED], placements="/p") == []
    assert again.noop_reason, "the second time nothing changes"
    other = StrictHost({"Placements": json.loads(json.dumps(PLACED).replace("ab" * 32, "cd" * 32))})
    run(monkeypatch, models.lock, other, path=path, profiles=[UNPINNED], placements="/p")
    assert "two machines different files" in other.logged[0]
    assert json.loads(path.read_text())["files"] == [entry]


def test_existing_files_have_their_sizes_and_shapes(tmp_path: Path) -> None:
    root, disk = tmp_path / "mo dels", tmp_path / "disk"
    (disk / "sub").mkdir(parents=True)
    root.mkdir()
    (root / "a.gguf").write_bytes(model(4096))
    (disk / "sub" / "b.gguf.part").write_bytes(b"123")
    keys = {
        "block_count": 2, "embedding_length": 64, "feed_forward_length": 128, "attention.head_count": 2,
        "context_length": 99,
    }  # fmt: skip
    sparse_models.write(disk / "c.gguf", "qwen2", {**keys, "attention.head_count_kv": 1}, 50)
    names = ["a.gguf", "sub/b.gguf", "deep/c.gguf", "absent.gguf"]
    look = {"roots": [str(root), str(disk)], "names": names, "unknown": ["a.gguf", "deep/c.gguf"]}
    found = fact_on_this_machine(ModelFiles(), python=runtime_python(tmp_path), **look)
    assert found["sizes"] == {
        "a.gguf": (root / "a.gguf").stat().st_size, "sub/b.gguf": 3, "deep/c.gguf": (disk / "c.gguf").stat().st_size,
    }  # fmt: skip
    assert set(found["shapes"]) == {"deep/c.gguf"}  # a.gguf tells nothing of its shape
    assert found["shapes"]["deep/c.gguf"]["keys"]["block_count"] == 2
    assert fact_on_this_machine(ModelFiles(), python="/nowhere", **look)["shapes"] == {}
