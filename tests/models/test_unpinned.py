"""Files that models.conf has no sha256 for: the hub says what they are, once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from claude_local.models import fetching, placement, profiles, unpinned
from claude_local.models import lock as models_lock
from tests.models.gguf_file import model
from tests.models.model_server import Handler, ModelServer, whole

GOOD = model(1 << 20)
SHA = hashlib.sha256(GOOD).hexdigest()
COMMIT = "0" * 40
LINE = f"hub o/r@{COMMIT}"
PATH = f"/o/r/resolve/{COMMIT}/m.gguf"


class Hub(ModelServer):
    """Answers HEAD with what ``headers`` hold, and GET as its behaviours say."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: dict[str, tuple[int, dict[str, str]]] = {}
        self.heads: list[tuple[str, str | None]] = []


class HubHandler(Handler):
    server: Hub

    def do_HEAD(self) -> None:
        self.server.heads.append((self.path, self.headers.get("Authorization")))
        status, headers = self.server.headers.get(self.path, (404, {}))
        self.answer(status, b"", headers)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setattr(fetching, "FIRST_WAIT", 0.0)
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-token"))
    server = Hub()
    server.RequestHandlerClass = HubHandler
    with server:
        yield server


def address(hub: Hub) -> str:
    return f"http://127.0.0.1:{hub.server_address[1]}"


def plan(hub: Hub, folder: Path) -> placement.Plan:
    file = {"name": "m.gguf", "sha256": None, "size": None, "sources": [LINE]}
    profile = {"id": "p", "model": "m.gguf", "mmproj": None, "files": [file]}
    return placement.Plan.read(
        json.dumps(
            {
                "model_dir": str(folder / "models"),
                "search_dirs": [],
                "hub": address(hub),
                "placements_path": str(folder / "state" / "models.json"),
                "profiles": [profile],
            }
        )
    )


def linked(sha256: str = SHA, size: int = len(GOOD)) -> dict[str, str]:
    return {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(size), "Location": "https://elsewhere.invalid/x"}


def test_the_hubs_word_is_what_the_bytes_must_match(hub: Hub, tmp_path: Path) -> None:
    hub.headers[PATH] = (302, linked())
    hub.behaviours[PATH] = whole(GOOD)
    assert placement.check(plan(hub, tmp_path))["ok"] is False and hub.heads == []
    placement.place(plan(hub, tmp_path))
    index = json.loads((tmp_path / "state" / "models.json").read_text())
    (stamp,) = index["files"].values()
    assert (stamp["sha256"], stamp["size"]) == (SHA, len(GOOD))
    # From now on the stamp says it: no further question, also without a lock file.
    assert placement.check(plan(hub, tmp_path))["ok"] is True
    placement.place(plan(hub, tmp_path))
    assert len(hub.heads) == 1


def test_other_bytes_than_the_hub_said_are_refused(hub: Hub, tmp_path: Path) -> None:
    hub.headers[PATH] = (302, linked(sha256="ab" * 32))
    hub.behaviours[PATH] = whole(GOOD)
    with pytest.raises(placement.PlacementError, match="no source gives it"):
        placement.place(plan(hub, tmp_path))


@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        (404, {}, "HTTP 404"),
        (200, {"ETag": '"abc"'}, "no X-Linked-Etag"),
        (302, linked("not-a-hash"), "names no sha256"),
    ],
)
def test_a_hub_that_does_not_say_is_named_and_nothing_is_fetched(
    hub: Hub, tmp_path: Path, status: int, headers: dict[str, str], says: str
) -> None:
    hub.headers[PATH] = (status, headers)
    hub.behaviours[PATH] = whole(GOOD)
    with pytest.raises(placement.PlacementError, match=says):
        placement.place(plan(hub, tmp_path))
    assert hub.requests == []


def test_the_users_own_file_is_used_when_the_hub_cannot_be_asked(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.gguf").write_bytes(GOOD)
    placement.place(plan(hub, tmp_path))
    assert placement.check(plan(hub, tmp_path))["ok"] is True


def test_a_renamed_repository_is_followed_within_the_hub_and_the_token_stays_there(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    head = partial(fetching.Fetcher(address(hub)).head, label="m")
    hub.headers["/old"] = (307, {"Location": "/new"})
    hub.headers["/new"] = (302, linked())
    assert unpinned.ask(address(hub) + "/old", head) == unpinned.Identity(SHA, len(GOOD))
    assert [token for _, token in hub.heads] == ["Bearer secret"] * 2
    hub.headers["/away"] = (302, {"Location": "http://127.0.0.2:9/x"})
    with pytest.raises(unpinned.UnknownIdentity, match="names no sha256"):
        unpinned.ask(address(hub) + "/away", head)
    hub.headers["/round"] = (307, {"Location": "/round"})
    with pytest.raises(unpinned.UnknownIdentity):
        unpinned.ask(address(hub) + "/round", head)
    assert len(hub.heads) <= 2 + 1 + unpinned.REDIRECTS + 1


@pytest.mark.parametrize(
    ("hub_address", "location", "sent"),
    [
        ("http://hub.example", None, [None]),
        ("https://hub.example", None, ["Bearer secret"]),
        ("https://hub.example", "http://hub.example/o/new", ["Bearer secret"]),
        ("https://hub.example", "https://hub.example/o/new", ["Bearer secret"] * 2),
    ],
)
def test_the_token_goes_over_https_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_address: str, location: str | None, sent: list[str | None]
) -> None:
    """As with the transfers: docs/decisions/0011."""
    seen: list[str | None] = []

    def send(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        seen.append(request.headers.get("Authorization"))
        answer = requests.Response()
        answer.status_code = 302
        answer.headers.update({"Location": location} if location and len(seen) == 1 else linked())
        return answer

    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(requests.Session, "send", send)
    head = partial(fetching.Fetcher(hub_address).head, label="m")
    if location and location.startswith("http:"):
        with pytest.raises(unpinned.UnknownIdentity):
            unpinned.from_hub("m.gguf", (LINE,), hub_address, head)
    else:
        unpinned.from_hub("m.gguf", (LINE,), hub_address, head)
    assert seen == sent


def test_a_netrc_does_not_take_the_tokens_place(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.headers[PATH] = (302, linked())
    hub.behaviours[PATH] = whole(GOOD)
    placement.place(plan(hub, tmp_path))
    assert [token for _, token in hub.heads] == ["Bearer secret"]


# --- another revision ---------------------------------------------------------------------------------------------


NEWER = f"hub o/r@{'b' * 40}"
NEWER_PATH = f"/o/r/resolve/{'b' * 40}/m.gguf"
NEW = model(1 << 20, filler=b"\x22")
NEW_SHA = hashlib.sha256(NEW).hexdigest()


def newer(hub: Hub, folder: Path) -> placement.Plan:
    """The plan with another revision in SOURCES, and the same file name."""
    (group,) = plan(hub, folder).groups
    (file,) = group.files
    return replace(plan(hub, folder), groups=(replace(group, files=(replace(file, sources=(NEWER,)),)),))


def lock(folder: Path, line: str) -> list[tuple[str, str]]:
    """What would be written to models.lock for a profile with this line."""
    conf = profiles.parse(f"[p]\nMODEL = m.gguf\nSOURCES = {line}\n")
    index = json.loads((folder / "state" / "models.json").read_text())
    return [(entry.source, entry.sha256) for entry in models_lock.found(conf.values(), index)]


def test_a_new_revision_is_another_file(hub: Hub, tmp_path: Path) -> None:
    hub.headers[PATH], hub.headers[NEWER_PATH] = (302, linked()), (302, linked(NEW_SHA, len(NEW)))
    hub.behaviours[PATH], hub.behaviours[NEWER_PATH] = whole(GOOD), whole(NEW)
    placement.place(plan(hub, tmp_path))
    assert lock(tmp_path, LINE) == [(LINE, SHA)]
    assert lock(tmp_path, NEWER) == []
    assert not placement.check(newer(hub, tmp_path))["ok"]
    placement.place(newer(hub, tmp_path))
    assert (tmp_path / "models" / "m.gguf").read_bytes() == NEW
    assert lock(tmp_path, NEWER) == [(NEWER, NEW_SHA)] and lock(tmp_path, LINE) == []
    assert placement.check(newer(hub, tmp_path))["ok"]


def test_a_new_revision_with_the_same_content_is_noted_without_a_transfer(hub: Hub, tmp_path: Path) -> None:
    hub.headers[PATH], hub.headers[NEWER_PATH] = (302, linked()), (302, linked())
    hub.behaviours[PATH] = whole(GOOD)
    placement.place(plan(hub, tmp_path))
    placement.place(newer(hub, tmp_path))
    assert len(hub.requests) == 1
    assert lock(tmp_path, NEWER) == [(NEWER, SHA)]
    assert placement.check(newer(hub, tmp_path))["ok"]


def test_a_new_revision_that_cannot_be_asked_for_is_not_the_old_file(hub: Hub, tmp_path: Path) -> None:
    hub.headers[PATH] = (302, linked())
    hub.behaviours[PATH] = whole(GOOD)
    placement.place(plan(hub, tmp_path))
    with pytest.raises(placement.PlacementError, match="HTTP 404"):
        placement.place(newer(hub, tmp_path))
    assert lock(tmp_path, NEWER) == []
    assert (tmp_path / "models" / "m.gguf").read_bytes() == GOOD
    # Back to the old one: it is still there, and known.
    placement.place(plan(hub, tmp_path))
    assert (len(hub.requests), len(hub.heads)) == (1, 2)


def test_a_stamp_of_an_earlier_version_does_not_say_from_where_and_the_hub_is_asked(hub: Hub, tmp_path: Path) -> None:
    hub.headers[PATH] = (302, linked())
    hub.behaviours[PATH] = whole(GOOD)
    placement.place(plan(hub, tmp_path))
    notes = tmp_path / "state" / "models.json"
    index = json.loads(notes.read_text())
    for stamp in index["files"].values():
        del stamp["source"]
    notes.write_text(json.dumps(index))
    assert not placement.check(plan(hub, tmp_path))["ok"] and lock(tmp_path, LINE) == []
    placement.place(plan(hub, tmp_path))
    assert placement.check(plan(hub, tmp_path))["ok"] and lock(tmp_path, LINE) == [(LINE, SHA)]
    assert (len(hub.requests), len(hub.heads)) == (1, 2)


def test_a_file_that_is_gone_is_asked_for_anew_and_a_touched_one_is_known_without_the_hub(
    hub: Hub, tmp_path: Path
) -> None:
    """The first is the cure for a wrong entry in models.lock."""
    hub.headers[PATH] = (302, linked())
    hub.behaviours[PATH] = whole(GOOD)
    placement.place(plan(hub, tmp_path))
    path = tmp_path / "models" / "m.gguf"
    os.utime(path)
    hub.headers[PATH] = (404, {})
    placement.place(plan(hub, tmp_path))
    assert placement.check(plan(hub, tmp_path))["ok"]
    path.unlink()
    hub.headers[PATH] = (302, linked(NEW_SHA, len(NEW)))
    hub.behaviours[PATH] = whole(NEW)
    placement.place(plan(hub, tmp_path))
    assert lock(tmp_path, LINE) == [(LINE, NEW_SHA)] and path.read_bytes() == NEW


# --- faults of the hub --------------------------------------------------------------------------------------------


class Sequence(dict[str, tuple[int, dict[str, str]]]):
    """Answers to HEAD that come one after another; the last one stays."""

    def __init__(self, *answers: tuple[int, dict[str, str]]) -> None:
        self.answers = list(answers)

    def get(self, path: str, default: Any = None) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    ("busy", "waited"), [((503, {"Retry-After": "7"}), [7.0]), ((429, {}), [0.0]), ((500, {}), [0.0])]
)
def test_a_busy_hub_is_asked_again_when_it_says(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: tuple[int, dict[str, str]], waited: list[float]
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(fetching, "sleep", waits.append)
    hub.headers = Sequence(busy, (302, linked()))
    hub.behaviours[PATH] = whole(GOOD)
    placement.place(plan(hub, tmp_path))
    assert waits == waited and len(hub.heads) == 2


@pytest.mark.parametrize(
    ("answer", "says", "asked"),
    [
        ((401, {"X-Error-Code": "GatedRepo"}), r"set HF_TOKEN.*HTTP 401, GatedRepo", 1),
        ((403, {"X-Error-Code": "GatedRepo"}), r"accept the model's licence.*HTTP 403, GatedRepo", 1),
        ((503, {"Retry-After": "1"}), r"cannot serve the file now \(HTTP 503\)", fetching.BUSY_TRIES + 1),
        ((503, {"Retry-After": "900"}), r"asks to come back in 15 min", 1),
    ],
)
def test_a_hub_that_refuses_says_why_and_the_other_models_are_placed_all_the_same(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: tuple[int, dict[str, str]],
    says: str,
    asked: int,
) -> None:
    monkeypatch.setattr(fetching, "sleep", lambda seconds: None)
    hub.headers[PATH] = answer
    hub.behaviours["/pinned"] = whole(NEW)
    (group,) = plan(hub, tmp_path).groups
    pinned = placement.Wanted("pinned.gguf", NEW_SHA, len(NEW), (f"url {address(hub)}/pinned",))
    two = replace(plan(hub, tmp_path), groups=(group, placement.Group("q", (pinned,))))
    with pytest.raises(placement.PlacementError, match=f"m.gguf of profile p: .*{says}"):
        placement.place(two)
    assert (tmp_path / "models" / "pinned.gguf").read_bytes() == NEW
    assert len(hub.heads) == asked


def test_a_hub_out_of_reach_leaves_the_users_own_file_deep_in_a_search_directory(hub: Hub, tmp_path: Path) -> None:
    disk = tmp_path / "disk" / "deep" / "er"
    disk.mkdir(parents=True)
    (disk / "m.gguf").write_bytes(GOOD)
    offline = replace(plan(hub, tmp_path), search_dirs=(str(tmp_path / "disk"),), hub="http://127.0.0.1:9")
    assert "nothing fetched" in placement.place(offline)
    assert placement.check(offline)["ok"]
    (disk / "m.gguf").write_bytes(GOOD[:-1])
    with pytest.raises(placement.PlacementError, match="m.gguf of profile p.*refuses connections"):
        placement.place(offline)
