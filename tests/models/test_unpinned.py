"""Files that models.conf has no sha256 for: the hub says what they are, once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from claude_local.models import download, placement, placement_check, profiles
from claude_local.models import lock as models_lock
from claude_local.models.hub import token_for
from claude_local.models.part import SourceFailed
from claude_local.models.placement_plan import FileGroup, PlacementError, PlacementPlan, PlannedFile
from tests.models.gguf_file import model
from tests.models.model_server import Metadata, ModelServer, linked, whole
from tests.models.placement_desk import without_waits

GOOD = model(1 << 20)
SHA = hashlib.sha256(GOOD).hexdigest()
COMMIT = "0" * 40
LINE = f"hub o/r@{COMMIT}"
PATH = f"/o/r/resolve/{COMMIT}/m.gguf"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModelServer]:
    without_waits(monkeypatch)
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token" / "token"))
    with ModelServer() as server:
        yield server


def plan(hub: ModelServer, folder: Path) -> PlacementPlan:
    file = {"name": "m.gguf", "sha256": None, "size": None, "sources": [LINE]}
    profile = {"id": "p", "model": "m.gguf", "mmproj": None, "files": [file]}
    return PlacementPlan.read(
        json.dumps(
            {
                "model_dir": str(folder / "models"),
                "search_dirs": [],
                "hub": hub.url,
                "placements_path": str(folder / "state" / "models.json"),
                "profiles": [profile],
            }
        )
    )


def elsewhere(hub: ModelServer, sha256: str = SHA, size: int = len(GOOD)) -> Metadata:
    """The hub's answer for a file whose bytes are at another address of it."""
    return linked(sha256, size, f"{hub.url.replace('127.0.0.1', 'localhost')}/{sha256}")


def test_the_bytes_must_have_the_sha256_that_the_hub_gave(hub: ModelServer, tmp_path: Path) -> None:
    hub.metadata[PATH] = elsewhere(hub)
    hub.behaviours[f"/{SHA}"] = whole(GOOD)
    assert placement_check.check(plan(hub, tmp_path))["ok"] is False and hub.heads == []
    placement.place(plan(hub, tmp_path))
    index = json.loads((tmp_path / "state" / "models.json").read_text())
    (stamp,) = index["files"].values()
    assert (stamp["sha256"], stamp["size"]) == (SHA, len(GOOD))
    # From now on the stamp says it: no further question, also without a lock file.
    assert placement_check.check(plan(hub, tmp_path))["ok"] is True
    asked = len(hub.heads)
    placement.place(plan(hub, tmp_path))
    assert len(hub.heads) == asked


def test_bytes_with_another_sha256_are_refused(hub: ModelServer, tmp_path: Path) -> None:
    hub.metadata[PATH] = elsewhere(hub, "ab" * 32)
    hub.behaviours[f"/{SHA}"] = whole(GOOD)
    with pytest.raises(PlacementError, match="no source gives it"):
        placement.place(plan(hub, tmp_path))


@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        (404, {}, "HTTP 404"),
        (200, {"ETag": '"abc"'}, "no X-Linked-Etag"),
        (*linked("not-a-hash", 5), "names no sha256"),
    ],
)
def test_without_a_sha256_from_the_hub_nothing_is_downloaded(
    hub: ModelServer, tmp_path: Path, status: int, headers: dict[str, str], says: str
) -> None:
    hub.metadata[PATH] = (status, headers)
    hub.behaviours[f"/{SHA}"] = whole(GOOD)
    with pytest.raises(PlacementError, match=says):
        placement.place(plan(hub, tmp_path))
    assert hub.requests == []


def test_the_users_own_file_is_used_when_the_hub_cannot_be_asked(hub: ModelServer, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.gguf").write_bytes(GOOD)
    placement.place(plan(hub, tmp_path))
    assert placement_check.check(plan(hub, tmp_path))["ok"] is True


def test_a_renamed_repository_is_followed_within_the_hub_and_the_token_stays_there(
    hub: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    downloader = download.Downloader(hub.url)
    hub.metadata["/old"] = (307, {"Location": "/new"})
    hub.metadata["/new"] = elsewhere(hub)
    assert downloader.identify(hub.url + "/old", "m") == (SHA, len(GOOD))
    assert [token for _, token in hub.heads] == ["Bearer secret"] * 2
    with ModelServer() as other:
        hub.metadata["/away"] = (302, {"Location": f"{other.url}/x"})
        with pytest.raises(SourceFailed, match="names no sha256"):
            downloader.identify(hub.url + "/away", "m")
        assert other.heads == []
    hub.metadata["/round"] = (307, {"Location": "/round"})
    with pytest.raises(SourceFailed, match="circle"):
        downloader.identify(hub.url + "/round", "m")


@pytest.mark.parametrize(
    ("url", "hub_address", "token"),
    [
        ("http://hub.example/f", "http://hub.example", None),
        ("https://hub.example/f", "https://hub.example", "secret"),
        ("http://127.0.0.1:9/f", "http://127.0.0.1:9", "secret"),
        ("https://mirror.example/f", "https://hub.example", None),
        ("http://hub.example/f", "https://hub.example", None),
    ],
)
def test_the_token_goes_to_the_hub_only_and_over_https(
    monkeypatch: pytest.MonkeyPatch, url: str, hub_address: str, token: str | None
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert token_for(url, hub_address) == token


def test_a_netrc_does_not_take_the_tokens_place(
    hub: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.metadata[PATH] = elsewhere(hub)
    hub.behaviours[f"/{SHA}"] = whole(GOOD)
    placement.place(plan(hub, tmp_path))
    assert [token for _, token in hub.heads] == ["Bearer secret"] * 2
    assert [token for _, _, token in hub.requests] == [None]


# --- another revision ---------------------------------------------------------------------------------------------


NEWER = f"hub o/r@{'b' * 40}"
NEWER_PATH = f"/o/r/resolve/{'b' * 40}/m.gguf"
NEW = model(1 << 20, filler=b"\x22")
NEW_SHA = hashlib.sha256(NEW).hexdigest()


def newer(hub: ModelServer, folder: Path) -> PlacementPlan:
    """The plan with another revision in SOURCES, and the same file name."""
    (group,) = plan(hub, folder).groups
    (file,) = group.files
    return replace(plan(hub, folder), groups=(replace(group, files=(replace(file, sources=(NEWER,)),)),))


def lock(folder: Path, line: str) -> list[tuple[str, str]]:
    """What would be written to models.lock for a profile with this line."""
    conf = profiles.parse(f"[p]\nMODEL = m.gguf\nSOURCES = {line}\n")
    index = json.loads((folder / "state" / "models.json").read_text())
    return [(entry.source, entry.sha256) for entry in models_lock.placed_entries(conf.values(), index)]


def test_a_new_revision_is_another_file(hub: ModelServer, tmp_path: Path) -> None:
    hub.metadata[PATH], hub.metadata[NEWER_PATH] = elsewhere(hub), elsewhere(hub, NEW_SHA, len(NEW))
    hub.behaviours[f"/{SHA}"], hub.behaviours[f"/{NEW_SHA}"] = whole(GOOD), whole(NEW)
    placement.place(plan(hub, tmp_path))
    assert lock(tmp_path, LINE) == [(LINE, SHA)]
    assert lock(tmp_path, NEWER) == []
    assert not placement_check.check(newer(hub, tmp_path))["ok"]
    placement.place(newer(hub, tmp_path))
    assert (tmp_path / "models" / "m.gguf").read_bytes() == NEW
    assert lock(tmp_path, NEWER) == [(NEWER, NEW_SHA)] and lock(tmp_path, LINE) == []
    assert placement_check.check(newer(hub, tmp_path))["ok"]


def test_a_new_revision_with_the_same_content_is_not_downloaded(hub: ModelServer, tmp_path: Path) -> None:
    hub.metadata[PATH], hub.metadata[NEWER_PATH] = elsewhere(hub), elsewhere(hub)
    hub.behaviours[f"/{SHA}"] = whole(GOOD)
    placement.place(plan(hub, tmp_path))
    placement.place(newer(hub, tmp_path))
    assert len(hub.requests) == 1
    assert lock(tmp_path, NEWER) == [(NEWER, SHA)]
    assert placement_check.check(newer(hub, tmp_path))["ok"]


def test_a_new_revision_that_cannot_be_asked_for_is_not_the_old_file(hub: ModelServer, tmp_path: Path) -> None:
    hub.metadata[PATH] = elsewhere(hub)
    hub.behaviours[f"/{SHA}"] = whole(GOOD)
    placement.place(plan(hub, tmp_path))
    with pytest.raises(PlacementError, match="HTTP 404"):
        placement.place(newer(hub, tmp_path))
    assert lock(tmp_path, NEWER) == []
    assert (tmp_path / "models" / "m.gguf").read_bytes() == GOOD
    # Back to the old one: it is still there, and known.
    placement.place(plan(hub, tmp_path))
    assert len(hub.requests) == 1


def test_a_stamp_without_a_source_makes_the_run_ask_the_hub(hub: ModelServer, tmp_path: Path) -> None:
    hub.metadata[PATH] = elsewhere(hub)
    hub.behaviours[f"/{SHA}"] = whole(GOOD)
    placement.place(plan(hub, tmp_path))
    notes = tmp_path / "state" / "models.json"
    index = json.loads(notes.read_text())
    for stamp in index["files"].values():
        del stamp["source"]
    notes.write_text(json.dumps(index))
    assert not placement_check.check(plan(hub, tmp_path))["ok"] and lock(tmp_path, LINE) == []
    placement.place(plan(hub, tmp_path))
    assert placement_check.check(plan(hub, tmp_path))["ok"] and lock(tmp_path, LINE) == [(LINE, SHA)]
    assert len(hub.requests) == 1


def test_the_hub_is_asked_about_a_missing_file_but_not_about_a_touched_one(hub: ModelServer, tmp_path: Path) -> None:
    """The first is the cure for a wrong entry in models.lock."""
    hub.metadata[PATH] = elsewhere(hub)
    hub.behaviours[f"/{SHA}"] = whole(GOOD)
    placement.place(plan(hub, tmp_path))
    path = tmp_path / "models" / "m.gguf"
    os.utime(path)
    hub.metadata[PATH] = (404, {})
    placement.place(plan(hub, tmp_path))
    assert placement_check.check(plan(hub, tmp_path))["ok"]
    path.unlink()
    hub.metadata[PATH] = elsewhere(hub, NEW_SHA, len(NEW))
    hub.behaviours[f"/{NEW_SHA}"] = whole(NEW)
    placement.place(plan(hub, tmp_path))
    assert lock(tmp_path, LINE) == [(LINE, NEW_SHA)] and path.read_bytes() == NEW


# --- faults of the hub --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("busy", "waited"), [((503, {"Retry-After": "7"}), [7.0]), ((429, {}), [0.0]), ((500, {}), [0.0])]
)
def test_a_busy_hub_is_asked_again_when_it_asks_for_it(
    hub: ModelServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    busy: tuple[int, dict[str, str]],
    waited: list[float],
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(download, "sleep", waits.append)
    answers = [busy]
    hub.metadata[PATH] = lambda: answers.pop() if answers else elsewhere(hub)
    hub.behaviours[f"/{SHA}"] = whole(GOOD)
    placement.place(plan(hub, tmp_path))
    assert waits == waited and len(hub.heads) == 3


@pytest.mark.parametrize(
    ("answer", "says", "asked"),
    [
        ((401, {"X-Error-Code": "GatedRepo"}), r"set HF_TOKEN.*HTTP 401, GatedRepo", 1),
        ((403, {"X-Error-Code": "GatedRepo"}), r"accept the model's licence.*HTTP 403, GatedRepo", 1),
        ((503, {"Retry-After": "1"}), r"cannot serve the file now \(HTTP 503\)", download.BUSY_TRIES + 1),
        ((503, {"Retry-After": "900"}), r"asks to come back in 15 min", 1),
    ],
)
def test_a_refusal_of_the_hub_does_not_stop_the_other_models(
    hub: ModelServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: tuple[int, dict[str, str]],
    says: str,
    asked: int,
) -> None:
    monkeypatch.setattr(download, "sleep", lambda seconds: None)
    hub.metadata[PATH] = answer
    hub.behaviours["/pinned"] = whole(NEW)
    (group,) = plan(hub, tmp_path).groups
    pinned = PlannedFile("pinned.gguf", NEW_SHA, len(NEW), (f"url {hub.url}/pinned",))
    two = replace(plan(hub, tmp_path), groups=(group, FileGroup("q", (pinned,))))
    with pytest.raises(PlacementError, match=f"m.gguf of profile p: .*{says}"):
        placement.place(two)
    assert (tmp_path / "models" / "pinned.gguf").read_bytes() == NEW
    assert [path for path, _ in hub.heads].count(PATH) == asked


def test_without_the_hub_the_users_own_file_is_used(hub: ModelServer, tmp_path: Path) -> None:
    disk = tmp_path / "disk" / "deep" / "er"
    disk.mkdir(parents=True)
    (disk / "m.gguf").write_bytes(GOOD)
    offline = replace(plan(hub, tmp_path), search_dirs=(str(tmp_path / "disk"),), hub="http://127.0.0.1:9")
    assert "nothing downloaded" in placement.place(offline)
    assert placement_check.check(offline)["ok"]
    (disk / "m.gguf").write_bytes(GOOD[:-1])
    with pytest.raises(PlacementError, match="m.gguf of profile p.*refuses connections"):
        placement.place(offline)
