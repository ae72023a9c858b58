"""Downloads from the hub's Xet storage: the real hf_xet against a storage that is a folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import hf_xet
import pytest

from claude_local.models import download
from tests.models.gguf_file import model
from tests.models.model_server import Handler, ModelServer, linked, whole
from tests.models.placement_desk import MIB, Desk, prepared

COMMIT = "0" * 40
HUB = f"hub o/r@{COMMIT}"
PATH = f"/o/r/resolve/{COMMIT}/m.gguf"
CONTENT = model(3 * MIB)[: -2 * MIB] + os.urandom(2 * MIB)


@pytest.fixture
def hub() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.fixture
def plain() -> Iterator[ModelServer]:
    """Where the hub keeps its files for clients without Xet."""
    with ModelServer() as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path, hub: ModelServer, plain: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A hub that keeps m.gguf in a Xet storage, and as a plain file for clients without Xet."""
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    with hf_xet.XetSession().new_upload_commit(endpoint=f"local://{tmp_path / 'cas'}") as commit:
        upload = commit.start_upload_bytes(CONTENT, name="m.gguf")
    desk = prepared(tmp_path, hub.url, monkeypatch)
    desk.want(HUB, content=CONTENT)
    sha256 = str(desk.profiles[0]["files"][0]["sha256"])
    plain.behaviours["/blob"] = whole(CONTENT)
    xet = {"X-Xet-Hash": upload.result().xet_info.hash, "X-Xet-Refresh-Route": f"{hub.url}/token"}
    hub.metadata[PATH] = linked(sha256, len(CONTENT), f"{plain.url}/blob", **xet)
    hub.behaviours["/token"] = access(f"local://{tmp_path / 'cas'}")
    return desk


def access(endpoint: str) -> Callable[[Handler], None]:
    """The hub's answer that says where the Xet storage is."""
    answer = json.dumps({"casUrl": endpoint, "accessToken": "t", "exp": 2**33}).encode()

    def behave(handler: Handler) -> None:
        handler.answer(200, answer, {"Content-Type": "application/json"})

    return behave


def test_a_file_in_the_xet_storage_comes_from_there(desk: Desk, plain: ModelServer) -> None:
    desk.place()
    assert (desk.models / "m.gguf").read_bytes() == CONTENT
    assert plain.requests == []


def test_a_begun_download_continues_in_the_xet_storage(desk: Desk, plain: ModelServer) -> None:
    desk.models.mkdir()
    (desk.models / "m.gguf.part").write_bytes(CONTENT[: 2 * MIB])
    assert "1 MiB downloaded" in desk.place()
    assert (desk.models / "m.gguf").read_bytes() == CONTENT
    assert plain.requests == []


def test_where_the_xet_storage_fails_plain_http_carries_on(
    desk: Desk, hub: ModelServer, plain: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.behaviours["/token"] = lambda handler: handler.answer(404, b"")
    desk.models.mkdir()
    (desk.models / "m.gguf.part").write_bytes(CONTENT[: 2 * MIB])
    desk.place()
    assert (desk.models / "m.gguf").read_bytes() == CONTENT
    assert plain.ranges == [f"bytes={2 * MIB}-"]
    assert "carrying on over plain HTTP" in capsys.readouterr().out


def test_a_silent_xet_storage_gives_way_to_plain_http(
    desk: Desk, hub: ModelServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "XET_STALL", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub.behaviours["/token"] = access(f"http://127.0.0.1:{silent.getsockname()[1]}")
        desk.place()
    assert (desk.models / "m.gguf").read_bytes() == CONTENT
    assert "nothing came" in capsys.readouterr().out
