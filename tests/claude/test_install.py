"""Installing Claude Code: resumed downloads, verified files, unreachable sources."""

from __future__ import annotations

import fcntl
import hashlib
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from claude_local.claude.install import main
from claude_local.claude.versions import UNREACHABLE

CONTENT = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Release(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; the connection breaks after ``cut`` bytes."""

    ranges: ClassVar[list[str | None]] = []
    cut: int | None = None
    content = CONTENT

    def do_GET(self) -> None:
        requested = self.headers.get("Range")
        Release.ranges.append(requested)
        if self.path != "/claude":
            self.send_error(404)
            return
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested else 0
        body = Release.content[start:]
        self.send_response(206 if requested else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if Release.cut is None else body[: Release.cut])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Release.ranges, Release.cut, Release.content = [], None, CONTENT
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Release) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/claude"
        server.shutdown()


def install(dest: Path, *source: str, size: int = len(CONTENT)) -> int:
    return main([*source, "--sha256", SHA256, "--size", str(size), "--dest", str(dest)])


def native(dest: Path, url: str) -> int:
    return install(dest, "--source", "native", "--url", url)


def test_the_binary_is_installed_and_executable(url: str, tmp_path: Path) -> None:
    dest = tmp_path / "versions" / "2.1.330"
    assert native(dest, url) == 0
    assert dest.read_bytes() == CONTENT and dest.stat().st_mode & 0o111
    assert list(dest.parent.iterdir()) == [dest], "no part file stays"
    assert native(dest, url) == 0 and len(Release.ranges) == 1, "a second run fetches nothing"


def test_a_cut_transfer_is_resumed_by_the_next_run(url: str, tmp_path: Path) -> None:
    dest = tmp_path / "claude"
    Release.cut = 1_000_000
    assert native(dest, url) == UNREACHABLE
    assert not dest.exists()
    Release.cut = None
    assert native(dest, url) == 0
    resumed = Release.ranges[-1]
    assert resumed is not None and int(resumed.removeprefix("bytes=").rstrip("-")) > 0
    assert dest.read_bytes() == CONTENT


def test_a_file_with_another_hash_is_deleted(url: str, tmp_path: Path, capsys: Any) -> None:
    Release.content = b"x" * len(CONTENT)
    dest = tmp_path / "claude"
    assert native(dest, url) == 1
    assert not dest.exists() and list(tmp_path.iterdir()) == []
    assert "not the pinned Claude Code" in capsys.readouterr().out


def test_a_closed_port_or_a_missing_file_is_unreachable(url: str, tmp_path: Path, capsys: Any) -> None:
    assert native(tmp_path / "a", "http://127.0.0.1:9/claude") == UNREACHABLE
    assert native(tmp_path / "b", url + "-missing") == UNREACHABLE
    assert "HTTP 404" in capsys.readouterr().out


def test_a_corrupt_binary_is_replaced(url: str, tmp_path: Path) -> None:
    dest = tmp_path / "claude"
    dest.write_bytes(b"x" * len(CONTENT))
    assert native(dest, url) == 0
    assert dest.read_bytes() == CONTENT


def test_too_little_space_stops_before_the_download(url: str, tmp_path: Path, capsys: Any) -> None:
    assert install(tmp_path / "claude", "--source", "native", "--url", url, size=10**18) == 1
    assert Release.ranges == [] and "MiB free" in capsys.readouterr().out


def fake_npm(folder: Path, script: str) -> None:
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)


def test_npm_is_the_second_source(monkeypatch: Any, tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        entry = tarfile.TarInfo("package/claude")
        entry.size = len(CONTENT)
        packed.addfile(entry, io.BytesIO(CONTENT))
    fake_npm(tmp_path, f"echo \"$@\" > '{tmp_path}/npm.log'; cp '{archive}' claude.tgz")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    dest = tmp_path / "versions" / "claude"
    assert install(dest, "--source", "npm", "--package", "@a/b@1") == 0
    assert dest.read_bytes() == CONTENT and list(dest.parent.iterdir()) == [dest]
    command, *options, package = (tmp_path / "npm.log").read_text().split()
    assert (command, package) == ("pack", "@a/b@1")
    # Whatever the caller's npm settings say: no code of the package runs, and the archive is written here.
    assert {"--ignore-scripts", "--dry-run=false", "--pack-destination=."} <= set(options)


def test_a_failing_or_missing_npm_says_why(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    fake_npm(tmp_path, "echo 'npm error 404 Not Found' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert install(tmp_path / "claude", "--source", "npm", "--package", "@a/b@1") == UNREACHABLE
    assert "404 Not Found" in capsys.readouterr().out
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert install(tmp_path / "claude", "--source", "npm", "--package", "@a/b@1") == UNREACHABLE
    assert "npm is not installed" in capsys.readouterr().out


def test_leftovers_of_killed_runs_are_removed(url: str, tmp_path: Path) -> None:
    dest = tmp_path / "claude"
    (tmp_path / ".npm-killed").mkdir()
    (tmp_path / ".npm-killed/claude.tgz").touch()
    (tmp_path / ".claude.npm.part").touch()
    assert native(dest, url) == 0
    assert list(tmp_path.iterdir()) == [dest]


def test_two_runs_do_not_write_to_one_file(url: str, tmp_path: Path) -> None:
    dest = tmp_path / "claude"
    words = ["--source", "native", "--url", url, "--sha256", SHA256, "--size", str(len(CONTENT)), "--dest", str(dest)]
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [sys.executable, "-m", "claude_local.claude.install", *words], text=True, stdout=subprocess.PIPE
        )
        assert second.stdout is not None
        assert second.stdout.readline().startswith("Another run is downloading into ")
        dest.write_bytes(CONTENT)  # the first one has ended
    finally:
        os.close(folder)
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 0 and "already in" in output and Release.ranges == []
