"""Files that models.conf has no sha256 for: the hub says what they are, once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_local.runtime import fetching, placement, unpinned
from tests.unit.gguf_file import model
from tests.unit.model_server import Handler, ModelServer, whole

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
    for name in ("HF_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
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


def test_a_renamed_repository_is_followed_within_the_hub_and_the_token_stays_there(hub: Hub) -> None:
    hub.headers["/old"] = (307, {"Location": "/new"})
    hub.headers["/new"] = (302, linked())
    assert unpinned.ask(address(hub) + "/old", "secret") == unpinned.Identity(SHA, len(GOOD))
    assert [token for _, token in hub.heads] == ["Bearer secret"] * 2
    hub.headers["/away"] = (302, {"Location": "http://127.0.0.2:9/x"})
    with pytest.raises(unpinned.UnknownIdentity, match="names no sha256"):
        unpinned.ask(address(hub) + "/away", "secret")
    hub.headers["/round"] = (307, {"Location": "/round"})
    with pytest.raises(unpinned.UnknownIdentity):
        unpinned.ask(address(hub) + "/round")
    assert len(hub.heads) <= 2 + 1 + unpinned.REDIRECTS + 1
