"""A firewall that drops packets: each download gives up by its own limit, not by the kernel's two minutes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from claude_local.claude import install as claude_install
from claude_local.image import source
from claude_local.image.builds import BUILDS, LlamaBuild
from claude_local.models import download
from claude_local.models.part import SourceFailed


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a port that answers nothing: its queue of connections is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(3):
            each = socket.socket()
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
            waiting.append(each)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for each in waiting:
            each.close()


def reason(call: Callable[[], object]) -> str:
    """What ``call`` raises; it has to end within half of the kernel's time."""
    said: list[str] = []

    def run() -> None:
        try:
            call()
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "it waits for the kernel"
    return said[0]


def test_the_git_host(silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(LlamaBuild, "archive", property(lambda build: f"{silent}/x.tar.gz"))
    build = BUILDS[max(BUILDS)]
    said = reason(lambda: source.from_git_host(build, tmp_path, source.session()))
    assert said.startswith("SourceError: ") and "timed out" in said


def test_the_release_server_of_claude_code(silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claude_install, "CONNECT_TIMEOUT", 0.2)
    said = reason(lambda: claude_install.download(f"{silent}/claude", tmp_path / "part", 10))
    assert said.startswith("Unreachable: ") and "timed out" in said


def test_the_hub_and_it_is_asked_once_a_run(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    downloader = download.Downloader(silent)
    host = silent.removeprefix("http://")
    assert reason(lambda: downloader.identify(f"{silent}/a", "a")) == f"SourceFailed: {host}: it does not answer"
    with pytest.raises(SourceFailed, match="was tried before: it does not answer"):
        downloader.identify(f"{silent}/b", "b")
