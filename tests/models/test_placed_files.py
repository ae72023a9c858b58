"""Placing models: whose file is used where it is, replaced, or never touched."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_local.models import index, placement, progress
from claude_local.models.part import PartFile
from claude_local.models.placement_plan import PlacementError
from claude_local.models.stored import inventory
from tests.models.gguf_file import gguf
from tests.models.model_server import Handler, ModelServer, whole
from tests.models.placement_desk import GOOD, MIB, OTHER, Desk, prepared


def test_a_model_on_another_disk_is_used_where_it_is(desk: Desk, server: ModelServer) -> None:
    path = desk.disk / "publisher" / "repo" / "m.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(GOOD)
    before = path.stat()
    desk.want(f"url {server.url}/m")
    assert "nothing downloaded" in desk.place()
    assert desk.check()["ok"]
    assert desk.index["profiles"]["p0"]["model"] == str(path)
    assert desk.index["files"][str(path)]["placed"] is False
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert server.requests == []
    assert [name for name in os.listdir(desk.models) if not name.startswith(".")] == []


def test_a_link_inside_a_search_directory_is_used_by_its_target(desk: Desk) -> None:
    blob = desk.disk / "blobs" / "abc"
    blob.parent.mkdir()
    blob.write_bytes(GOOD)
    (desk.disk / "m.gguf").symlink_to(blob)
    desk.want()
    desk.place()
    assert desk.index["profiles"]["p0"]["model"] == str(blob)
    assert desk.check()["ok"]


def test_a_link_that_leaves_the_directories_is_not_used(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "m.gguf").write_bytes(GOOD)
    (desk.disk / "m.gguf").symlink_to(tmp_path / "far" / "m.gguf")
    desk.want()
    with pytest.raises(PlacementError, match="model_search_dirs"):
        desk.place()


def test_a_wrong_file_on_another_disk_is_skipped_and_left_alone(
    desk: Desk, server: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk.disk / "m.gguf").write_bytes(OTHER)
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.place()
    assert (desk.disk / "m.gguf").read_bytes() == OTHER
    assert (desk.models / "m.gguf").read_bytes() == GOOD
    assert str(desk.disk / "m.gguf") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damaged", "why"),
    [(GOOD[:MIB], "truncated"), (b"", "truncated"), (OTHER, "sha256"), (b"x" * len(GOOD), "not a GGUF")],
)
def test_a_damaged_file_of_ours_is_named_and_replaced(
    desk: Desk, server: ModelServer, capsys: pytest.CaptureFixture[str], damaged: bytes, why: str
) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.place()
    (desk.models / "m.gguf").write_bytes(damaged)
    assert desk.states() != ["ok"]
    capsys.readouterr()
    desk.place()
    assert why in capsys.readouterr().out
    assert (desk.models / "m.gguf").read_bytes() == GOOD
    assert desk.check()["ok"]


@pytest.mark.parametrize(
    ("damaged", "why"), [(GOOD[:MIB], "truncated"), (OTHER, "sha256"), (b"x" * len(GOOD), "not a GGUF")]
)
def test_a_wrong_file_of_the_users_is_never_replaced(desk: Desk, server: ModelServer, damaged: bytes, why: str) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.models.mkdir()
    (desk.models / "m.gguf").write_bytes(damaged)
    with pytest.raises(PlacementError, match=f"(?s){why}.*move it away"):
        desk.place()
    assert (desk.models / "m.gguf").read_bytes() == damaged
    assert server.requests == []


@pytest.mark.parametrize("content", [OTHER, GOOD[:MIB], GOOD + GOOD])
@pytest.mark.parametrize("same_inode", [False, True])
def test_the_users_file_in_the_place_of_ours_is_never_replaced(
    desk: Desk, server: ModelServer, content: bytes, same_inode: bool
) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.place()
    if same_inode:
        # ext4 gives the new file the number of the deleted one.
        (desk.models / "m.gguf").unlink()
        (desk.models / "m.gguf").write_bytes(content)
    else:
        (desk.models / "mine").write_bytes(content)
        (desk.models / "mine").rename(desk.models / "m.gguf")
    assert desk.check()["files"][0]["placed"] is False
    with pytest.raises(PlacementError, match="did not put it there"):
        desk.place()
    assert (desk.models / "m.gguf").read_bytes() == content
    assert len(server.requests) == 1


@pytest.mark.parametrize("visible", [False, True])
def test_a_link_in_the_place_of_our_file_is_left_alone(desk: Desk, server: ModelServer, visible: bool) -> None:
    """The user moved the file to a bigger disk."""
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.place()
    other = desk.disk if visible else desk.folder / "other"
    other.mkdir(exist_ok=True)
    (desk.models / "m.gguf").rename(other / "moved.gguf")
    (desk.models / "m.gguf").symlink_to(other / "moved.gguf")
    if visible:
        desk.place()
        assert desk.check()["ok"] and desk.check()["files"][0]["placed"] is False
        (other / "moved.gguf").write_bytes(OTHER)
    with pytest.raises(PlacementError, match="sha256 is" if visible else f"name {other} in model_search_dirs"):
        desk.place()
    assert (desk.models / "m.gguf").is_symlink()
    assert len(server.requests) == 1


def test_a_file_that_appears_during_the_download_stays(desk: Desk, server: ModelServer) -> None:
    def behave(handler: Handler) -> None:
        (desk.models / "m.gguf").write_bytes(OTHER)
        whole(GOOD)(handler)

    server.behaviours["/m"] = behave
    desk.want(f"url {server.url}/m")
    with pytest.raises(PlacementError, match="somebody else during the download"):
        desk.place()
    assert (desk.models / "m.gguf").read_bytes() == OTHER
    (desk.models / "m.gguf").unlink()
    desk.place()
    assert len(server.requests) == 1


def test_a_placed_file_is_ours_even_if_models_json_cannot_be_written(
    desk: Desk, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    real = json.dump

    def full(content: Any, *arguments: Any, **options: Any) -> None:
        if content["files"]:
            raise OSError(28, "No space left on device")
        real(content, *arguments, **options)

    def killed(part: PartFile) -> None:
        raise progress.Stopped("SIGKILL")

    monkeypatch.setattr(index.json, "dump", full)
    with pytest.raises(OSError, match="No space left on device") as failed:
        desk.place()
    assert failed.value.filename == str(desk.placements)
    assert os.listdir(desk.placements.parent) == [".placing.lock", "models.json"]
    # Nothing has the name that is not noted; what was fetched is kept.
    assert not (desk.models / "m.gguf").exists()
    monkeypatch.setattr(index.json, "dump", real)
    # The power fails right after the file has its name.
    monkeypatch.setattr(PartFile, "forget", killed)
    with pytest.raises(progress.Stopped):
        desk.place()
    monkeypatch.undo()
    assert len(server.requests) == 1
    assert index.Index.load(str(desk.placements)).ours(str(desk.models / "m.gguf"))
    assert "nothing downloaded" in desk.place()


def test_a_failed_rename_leaves_models_json_unchanged(
    desk: Desk, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.place()
    (desk.models / "m.gguf").write_bytes(OTHER)
    real = os.replace

    def refused(source: str, target: str) -> None:
        if source.endswith(".part"):
            raise OSError(5, "Input/output error", target)
        real(source, target)

    monkeypatch.setattr(placement.os, "replace", refused)
    with pytest.raises(OSError, match="Input/output"):
        desk.place()
    monkeypatch.undo()
    desk.place()
    assert (desk.models / "m.gguf").read_bytes() == GOOD


def test_a_link_to_a_disk_that_is_not_mounted_is_left_alone(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.models.mkdir()
    (desk.models / "m.gguf").symlink_to("/nowhere/m.gguf")
    with pytest.raises(PlacementError, match="not mounted"):
        desk.place()
    assert (desk.models / "m.gguf").is_symlink()


def test_parts_of_a_split_model_lie_together(desk: Desk, server: ModelServer) -> None:
    parts = {f"m-{n:05}-of-00002.gguf": gguf({"split.count": 2, "split.no": n - 1}) for n in (1, 2)}
    files = []
    for name, content in parts.items():
        server.behaviours[f"/{name}"] = whole(content)
        files.append(
            {
                "name": name,
                "sha256": hashlib.sha256(content).hexdigest(),
                "size": len(content),
                "sources": [f"url {server.url}/{{name}}"],
            }
        )
    first = next(iter(parts))
    desk.profiles.append({"id": "split", "model": first, "mmproj": None, "files": files})
    # One part elsewhere does not help: llama-server looks for the others beside the first.
    (desk.disk / first).write_bytes(parts[first])
    desk.place()
    assert desk.check()["ok"]
    assert desk.index["profiles"]["split"]["files"] == [str(desk.models / name) for name in parts]
    for name, content in parts.items():
        (desk.disk / name).write_bytes(content)
        (desk.models / name).unlink()
    requests = len(server.requests)
    desk.place()
    assert desk.index["profiles"]["split"]["model"] == str(desk.disk / first)
    assert len(server.requests) == requests


def want_split(desk: Desk, *sources: str, count: int = 2) -> dict[str, bytes]:
    """Want a model of several parts; their names and contents."""
    parts = {f"m-{n + 1:05}-of-{count:05}.gguf": gguf({"split.count": count, "split.no": n}) for n in range(count)}
    files = []
    for name, content in parts.items():
        desk.want(*sources, name=name, content=content)
        files += desk.profiles.pop()["files"]
    desk.profiles.append({"id": "split", "model": next(iter(parts)), "mmproj": None, "files": files})
    return parts


def test_parts_may_arrive_one_by_one(desk: Desk) -> None:
    parts = want_split(desk, count=3)
    folder = desk.disk / "sub"
    folder.mkdir()
    for count, (name, content) in enumerate(parts.items(), 1):
        (folder / name).write_bytes(content)
        if count < len(parts):
            with pytest.raises(PlacementError, match="is not there"):
                desk.place()
    assert "nothing downloaded" in desk.place()


@pytest.mark.parametrize("kind", ["relative", "absolute", "around", "through"])
def test_parts_in_the_hubs_own_cache_are_used_where_they_are(desk: Desk, server: ModelServer, kind: str) -> None:
    """Links whose way leaves the directory lead nowhere in the server's container."""
    parts = want_split(desk, f"url {server.url}/{{name}}")
    cache = desk.disk / "models--o--r"
    snapshot, blobs = cache / "snapshots" / "abc", cache / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (desk.folder / "way").symlink_to(blobs)
    to = {
        "relative": "../../blobs",
        "absolute": str(blobs),
        "around": f"../../../../{desk.disk.name}/{cache.name}/blobs",
    }
    to["through"] = "../../../../way"
    for name, content in parts.items():
        (blobs / hashlib.sha256(content).hexdigest()).write_bytes(content)
        (snapshot / name).symlink_to(f"{to[kind]}/{hashlib.sha256(content).hexdigest()}")
        server.behaviours[f"/{name}"] = whole(content)
        assert (snapshot / name).read_bytes() == content
    desk.place()
    assert desk.check()["ok"]
    used = snapshot if kind == "relative" else desk.models
    assert desk.index["profiles"]["split"]["files"] == [str(used / name) for name in parts]
    if kind == "relative":
        assert server.requests == [] and "nothing downloaded" in desk.place()
        stored = inventory(str(desk.placements), str(desk.folder / "none"))
        assert {(file.state, file.placed, file.orphaned) for file in stored.files} == {("verified", False, False)}


def test_a_part_under_another_name_gets_advice_that_helps(
    desk: Desk, server: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in want_split(desk, f"url {server.url}/{{name}}").items():
        (desk.disk / f"{name}.blob").write_bytes(content)
        (desk.disk / name).symlink_to(desk.disk / f"{name}.blob")
        server.behaviours[f"/{name}"] = whole(content)
    desk.place()
    output = capsys.readouterr().out
    assert "needs each part of a model under its own name" in output and "model_search_dirs" not in output


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_that_links_out_of_model_dir_is_reported_before_a_download(
    desk: Desk, server: ModelServer, exists: bool
) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m", name="sub/m.gguf")
    big = desk.folder / "big"
    big.mkdir()
    desk.models.mkdir()
    (desk.models / "sub").symlink_to(big)
    if exists:
        (big / "m.gguf").write_bytes(GOOD)
    with pytest.raises(PlacementError, match=f"(?i)name {big} in model_search_dirs"):
        desk.place()
    assert server.requests == []
    # What the message says helps.
    desk.disk = big
    desk.place()
    assert desk.check()["ok"] and len(server.requests) == (0 if exists else 1)
    assert (big / "m.gguf").read_bytes() == GOOD


@pytest.fixture
def somebody() -> Iterator[Path]:
    """A folder that an ordinary user can reach, and this process with no more rights than such a user has."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        ours = os.geteuid()
        if ours == 0:
            os.chown(folder, 65534, -1)
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(ours)


@pytest.mark.parametrize("others_lock", [False, True])
def test_somebody_elses_model_dir_is_used_but_not_written_to(
    somebody: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch, others_lock: bool
) -> None:
    desk = prepared(somebody, server.url, monkeypatch)
    desk.models.mkdir()
    (desk.models / "m.gguf").write_bytes(GOOD)
    if others_lock:
        (desk.models / ".placing.lock").touch(mode=0o444)
    desk.models.chmod(0o555)
    desk.want(f"url {server.url}/m")
    assert "nothing downloaded" in desk.place()
    desk.want(f"url {server.url}/b", name="b.gguf", content=OTHER)
    with pytest.raises(PlacementError, match=r"b\.gguf must be downloaded.*cannot be written to.*model_dir"):
        desk.place()
    assert server.requests == []
    desk.models.chmod(0o755)
