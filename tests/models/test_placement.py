"""Placing models: what is downloaded, verified and recorded."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from claude_local.models import placement, placement_check, run_lock
from claude_local.models.part import DownloadError, PartFile
from claude_local.models.placement_plan import PlacementError
from claude_local.models.stored import inventory
from tests.models.model_server import Handler, ModelServer, linked, whole
from tests.models.placement_desk import GOOD, MIB, OTHER, Desk


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
        (whole(OTHER, cut=[MIB] + [0] * 99), "broke"),
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


def test_models_json_of_an_earlier_version_is_read(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.place()
    index = desk.index
    stamps = {path: {k: v for k, v in stamp.items() if k != "source"} for path, stamp in index["files"].items()}
    desk.placements.write_text(json.dumps({"files": stamps, "profiles": index["profiles"], "roots": index["roots"]}))
    assert desk.check()["ok"]
    assert "nothing downloaded" in desk.place()


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


def test_a_run_with_another_model_dir_leaves_no_entry_of_a_file_that_is_gone(desk: Desk, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    usual = desk.models
    desk.models = desk.folder / "once"
    desk.place()
    once = desk.models / "m.gguf"
    desk.models = usual
    desk.place()
    once.unlink(missing_ok=True)
    (desk.models / "user.gguf").write_bytes(OTHER)
    # Not even before the next run.
    stored = inventory(str(desk.placements), str(desk.folder / "no-presets"))
    assert [(Path(file.path).name, file.state) for file in stored.files] == [
        ("m.gguf", "verified"), ("user.gguf", "unknown"),
    ]  # fmt: skip
    assert not desk.check()["ok"]
    desk.place()
    assert desk.check()["ok"]
    assert list(desk.index["files"]) == [str(usual / "m.gguf")]
    # A file that a profile uses is missing, not forgotten.
    (usual / "m.gguf").unlink()
    stored = inventory(str(desk.placements), str(desk.folder / "no-presets"))
    assert [file.state for file in stored.files] == ["missing", "unknown"]


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
