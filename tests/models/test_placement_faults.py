"""The fault table of downloads: each fault once, against the real code. After each the model is in place and verified.

``pytest -s tests/models/test_placement_faults.py`` prints the table. The rows that mount a file system are integration
tests and need root. The row with three parts uses sparse files; PLACEMENT_PARTS_MIB=28672,28672,4096 makes it 60 GB
(8 GB of them are written).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from huggingface_hub import constants

from claude_local.models import download, placement
from claude_local.models import part as part_module
from claude_local.models.part import DownloadError, PartFile
from claude_local.models.placement_plan import PlacementError
from tests.models.gguf_file import gguf
from tests.models.model_server import Handler, Metadata, ModelServer, linked, sparse, whole
from tests.models.placement_desk import GOOD, MIB, OTHER, Desk, prepared, program

COMMIT = "0" * 40
HUB_PATH = f"/o/r/resolve/{COMMIT}/m.gguf"
HUB = f"hub o/r@{COMMIT}"
GOOD_SHA = hashlib.sha256(GOOD).hexdigest()
SECRET = "hf_aVerySecretToken"

Row = tuple[str, str, str, str]


@pytest.fixture(scope="module")
def table() -> Iterator[list[Row]]:
    """Rows of fault, message, outcome and the bytes that a server sent beyond the missing ones. Printed at the end."""
    rows: list[Row] = []
    yield rows
    heads = ("fault", "message", "outcome", "extra bytes")
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    print("\n\nThe fault table")
    for row in (heads, tuple("-" * width for width in widths), *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits, in seconds, that were skipped."""
    seconds: list[float] = []
    monkeypatch.setattr(download, "sleep", seconds.append)
    return seconds


class Bench(Desk):
    """A desk that records rows of the table."""

    server: ModelServer
    table: list[Row]
    capture: pytest.CaptureFixture[str]

    @property
    def part(self) -> Path:
        return self.models / "m.gguf.part"

    def begun(self, size: int, content: bytes = GOOD) -> None:
        """Download the first bytes with a run whose hub breaks off there."""
        address = f"url {self.server.url}/m"
        self.server.behaviours["/m"] = whole(content, cut=[size] + [0] * 99, headers={"ETag": '"one"'})
        self.want(address)
        with pytest.raises(PlacementError, match="broke"):
            self.place()
        assert self.part.stat().st_size == size
        self.server.sent = 0
        self.server.requests.clear()
        self.capture.readouterr()

    def again(self, *sources: str) -> None:
        """The same file from these sources."""
        self.profiles.clear()
        self.want(*sources)

    def line(self, text: str) -> str:
        """The line with ``text`` among those that were printed since; fails without one."""
        lines = [line.strip() for line in self.capture.readouterr().out.splitlines()]
        return next(line for line in lines if text in line)

    def row(self, fault: str, message: str, beyond: int) -> None:
        """Record a row. The model must be in place and verified."""
        state = "in place, sha256 right" if self.check(deep=True)["ok"] else "LOST"
        assert state != "LOST" and self.rest() == [], self.rest()
        self.table.append((fault, self.plain(message), state, f"{beyond / MIB:.3g} MiB" if beyond else "nothing"))

    def plain(self, message: str) -> str:
        """A line without what differs between runs, cut to fit."""
        text = " ".join(re.sub(r"127\.0\.0\.1:\d+", "HOST", message.replace(str(self.folder), "")).split())
        return text if len(text) <= 110 else text[:109] + "…"

    def rest(self) -> list[str]:
        """The files in model_dir that are no models."""
        return [
            str(path) for path in self.models.rglob("*") if path.suffix not in (".gguf", ".lock") and path.is_file()
        ]


@pytest.fixture
def desk(
    tmp_path: Path,
    server: ModelServer,
    table: list[Row],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Bench:
    prepared(tmp_path, server.url, monkeypatch)
    (tmp_path / "disk").rmdir()
    bench = Bench(tmp_path, server.url)
    bench.server, bench.table, bench.capture = server, table, capsys
    return bench


# --- the connection ---------------------------------------------------------------------------------------------------


def test_a_hub_that_closes_the_connection_in_the_middle(desk: Bench, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(GOOD, cut=[MIB, MIB // 2])
    desk.want(f"url {server.url}/m")
    desk.place()
    assert server.ranges == [None, f"bytes={MIB}-", f"bytes={MIB + MIB // 2}-"]
    desk.row("the hub closes the connection, twice", desk.line("ended early"), server.sent - len(GOOD))


def test_a_hub_that_stays_broken_and_works_tomorrow(desk: Bench, server: ModelServer) -> None:
    desk.begun(MIB)
    with pytest.raises(PlacementError) as raised:
        desk.place()
    assert desk.part.stat().st_size == MIB
    server.behaviours["/m"] = whole(GOOD)
    desk.place()
    assert server.ranges[-1] == f"bytes={MIB}-"
    message = str(raised.value).splitlines()[-1].strip()
    desk.row("the hub stays broken; the next run", message, server.sent - (len(GOOD) - MIB))


def test_a_hub_that_resets_the_connection(desk: Bench, server: ModelServer) -> None:
    resets = [1]

    def reset(handler: Handler) -> None:
        if not resets:
            whole(GOOD)(handler)
            return
        resets.pop()
        handler.answer(200, GOOD[:MIB], promised=len(GOOD))
        handler.wfile.flush()
        # Closed without a farewell and with SO_LINGER 0: the kernel sends RST.
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(handler.connection.detach())

    server.behaviours["/m"] = reset
    desk.want(f"url {server.url}/m")
    desk.place()
    desk.row("the hub resets the connection", desk.line("reset the connection"), server.sent - len(GOOD))


def test_a_hub_that_closes_connections_without_an_answer(desk: Bench, server: ModelServer) -> None:
    closed = [1, 2]

    def close(handler: Handler) -> None:
        if closed:
            closed.pop()
            handler.close_connection = True
        else:
            whole(GOOD)(handler)

    server.behaviours["/m"] = close
    desk.want(f"url {server.url}/m")
    desk.place()
    assert len(server.requests) == 3
    desk.row("no answer but a closed connection, twice", desk.line("without an answer"), server.sent - len(GOOD))


def test_a_hub_that_does_not_answer_in_time(desk: Bench, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    over = threading.Event()

    def late(handler: Handler) -> None:
        if len(server.requests) > 1:
            whole(GOOD)(handler)
        else:
            monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 30)
            over.wait(60)

    server.behaviours["/m"] = late
    desk.want(f"url {server.url}/m")
    desk.place()
    over.set()
    desk.row("no answer for long, once", desk.line("does not answer"), server.sent - len(GOOD))


def test_a_hub_that_goes_silent(desk: Bench, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1.0)

    def silent(handler: Handler) -> None:
        if handler.start():
            whole(GOOD)(handler)
            return
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 30)
        handler.answer(200, GOOD[:MIB], promised=len(GOOD))
        over.wait(60)

    server.behaviours["/m"] = silent
    desk.want(f"url {server.url}/m")
    desk.place()
    over.set()
    assert server.ranges == [None, f"bytes={MIB}-"]
    desk.row("the hub sends nothing any more", desk.line("does not answer"), server.sent - len(GOOD))


def dripping(handler: Handler) -> None:
    """Serve slowly."""
    start = handler.start()
    handler.send_response(206 if start else 200)
    handler.send_header("Content-Range", f"bytes {start}-{len(GOOD) - 1}/{len(GOOD)}")
    handler.send_header("Content-Length", str(len(GOOD) - start))
    handler.end_headers()
    with contextlib.suppress(OSError):
        for position in range(start, len(GOOD), MIB // 4):
            block = GOOD[position : position + MIB // 4]
            handler.wfile.write(block)
            handler.wfile.flush()
            handler.server.sent += len(block)
            time.sleep(0.02)


def test_a_slow_source_gives_way_to_a_mirror_that_continues(
    desk: Bench, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_module, "SLOW_SPAN", 0.03)
    monkeypatch.setattr(part_module, "SLOW_RATE", 1 << 40)
    server.behaviours["/slow"] = dripping

    def fast(handler: Handler) -> None:
        # On a busy machine this one, too, would seem slow.
        monkeypatch.setattr(part_module, "SLOW_SPAN", 60.0)
        whole(GOOD)(handler)

    server.behaviours["/fast"] = fast
    desk.want(f"url {server.url}/slow", f"url {server.url}/fast")
    desk.place()
    path, range_asked, _ = server.requests[-1]
    assert path == "/fast" and range_asked is not None
    got = int(range_asked.removeprefix("bytes=").rstrip("-"))
    assert 0 < got < len(GOOD)
    desk.row("the hub is slow, there is a mirror", desk.line("KiB/s"), server.sent - len(GOOD))


def test_a_slow_source_is_used_when_it_is_the_only_one(
    desk: Bench, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_module, "SLOW_SPAN", 0.03)
    monkeypatch.setattr(part_module, "SLOW_RATE", 1 << 40)
    server.behaviours["/slow"] = dripping
    desk.want(f"url {server.url}/slow", f"url {server.url}/gone")
    desk.place()
    assert {path for path, _, _ in server.requests} == {"/slow", "/gone"}
    assert len(server.requests) == 3
    desk.row("the hub is slow, the mirror has no such file", desk.line("HTTP 404"), server.sent - len(GOOD))


# --- answers that are no file -----------------------------------------------------------------------------------------


def page(handler: Handler) -> None:
    handler.answer(200, b"<!DOCTYPE html><html>please log in</html>", {"Content-Type": "text/html; charset=utf-8"})


def page_in_disguise(handler: Handler) -> None:
    """A page without a type and of no known length."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(b"<html>please log in</html>")
    handler.close_connection = True


def status(number: int, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(
        number, b"no", {name.replace("_", "-"): text for name, text in headers.items()}
    )


@pytest.mark.parametrize(
    ("fault", "behaviour", "says"),
    [
        ("401", status(401, X_Error_Code="GatedRepo"), "asks for a token"),
        ("403", status(403, X_Error_Code="GatedRepo"), "accept the model's licence"),
        ("404", status(404, X_Error_Code="EntryNotFound"), "does not have the file"),
        ("500, again and again", status(500), "cannot serve the file now"),
        ("429 with an hour to wait", status(429, Retry_After="3600"), "asks to come back in 60 min"),
        ("a web page with status 200", page, "a web page"),
        ("a web page that does not say so", page_in_disguise, "no GGUF"),
    ],
)
def test_a_refusal_is_named_and_the_part_stays(
    desk: Bench, server: ModelServer, waits: list[float], fault: str, behaviour: Callable[[Handler], None], says: str
) -> None:
    desk.begun(MIB)
    waits.clear()
    server.behaviours["/m"] = behaviour
    with pytest.raises(PlacementError, match=says) as raised:
        desk.place()
    assert desk.part.stat().st_size == MIB
    assert max(waits, default=0) <= download.LONGEST_WAIT and len(waits) <= download.BUSY_TRIES
    server.sent = 0
    server.behaviours["/m"] = whole(GOOD)
    desk.place()
    message = str(raised.value).splitlines()[-1].strip()
    desk.row(f"{fault}; the next run", message, server.sent - (len(GOOD) - MIB))


@pytest.mark.parametrize(
    ("number", "asked", "least", "most"),
    [(429, "7", 7, 7), (503, "9", 9, 9), (429, "date", 20, 30), (500, "", 0, 2)],
)
def test_a_busy_hub_is_asked_again_when_it_asks_for_it(
    desk: Bench, server: ModelServer, waits: list[float], number: int, asked: str, least: float, most: float
) -> None:
    answers = [number, number]

    def busy(handler: Handler) -> None:
        if answers:
            after = formatdate(time.time() + 30, usegmt=True) if asked == "date" else asked
            handler.answer(answers.pop(), b"", {"Retry-After": after} if after else None)
        else:
            whole(GOOD)(handler)

    server.behaviours["/m"] = busy
    desk.want(f"url {server.url}/m")
    desk.place()
    assert len(waits) == 2 and all(least <= seconds <= most for seconds in waits), waits
    name = f"{number} twice" + (f", Retry-After: {'a date' if asked == 'date' else asked}" if asked else "")
    desk.row(name, desk.line(f"HTTP {number}"), server.sent - len(GOOD))


# --- resuming ---------------------------------------------------------------------------------------------------------


def test_a_range_request_that_is_ignored(desk: Bench, server: ModelServer) -> None:
    desk.begun(2 * MIB)
    server.behaviours["/m"] = whole(GOOD, cut=[MIB], resumable=False)
    desk.place()
    desk.row("200 instead of 206, and it breaks", desk.line("cannot continue"), server.sent - (len(GOOD) - 2 * MIB))


def test_another_version_between_two_runs_does_not_keep_the_mirror_out(desk: Bench, server: ModelServer) -> None:
    desk.begun(2 * MIB)
    server.behaviours["/m"] = whole(OTHER)
    server.behaviours["/mirror"] = whole(GOOD)
    desk.again(f"url {server.url}/m", f"url {server.url}/mirror")
    desk.place()
    desk.row("the first source has another version now", desk.line("wrong sha256"), server.sent - len(GOOD))


def test_old_bytes_of_another_version_are_downloaded_again(desk: Bench, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(OTHER, cut=[MIB] + [0] * 99)
    desk.want(f"url {server.url}/m")
    with pytest.raises(PlacementError):
        desk.place()
    server.sent = 0
    server.behaviours["/m"] = whole(GOOD)
    desk.place()
    assert server.ranges[-1] is None
    desk.row("the first bytes are of another version", desk.line("wrong sha256"), server.sent - (len(GOOD) - MIB))


def test_a_new_sha256_in_models_conf_drops_the_part(desk: Bench, server: ModelServer) -> None:
    desk.begun(2 * MIB, OTHER)
    server.behaviours["/m"] = whole(GOOD)
    # models.conf named the other version when the download was begun.
    origin = desk.part.with_name("m.gguf.part.origin")
    origin.write_text(origin.read_text().replace(hashlib.sha256(GOOD).hexdigest(), hashlib.sha256(OTHER).hexdigest()))
    desk.place()
    assert server.ranges == [None]
    desk.row("the sha256 in models.conf is another now", desk.line("another version"), server.sent - len(GOOD))


# --- hubs -------------------------------------------------------------------------------------------------------------


def test_a_hub_that_has_another_file_is_refused_before_a_byte_of_it(desk: Bench, server: ModelServer) -> None:
    wrong = hashlib.sha256(OTHER).hexdigest()
    server.metadata[HUB_PATH] = linked(wrong, len(OTHER))
    server.behaviours["/m"] = whole(GOOD)
    desk.want(HUB, f"url {server.url}/m")
    desk.place()
    assert [path for path, _, _ in server.requests] == ["/m"]
    desk.row("the hub has another file of this name", desk.line(wrong), server.sent - len(GOOD))


def test_an_address_that_has_another_size_is_refused_before_a_byte_of_it(desk: Bench, server: ModelServer) -> None:
    server.metadata["/long"] = (200, {"X-Linked-Size": str(len(GOOD) + 1)})
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/long", f"url {server.url}/m")
    desk.place()
    assert [path for path, _, _ in server.requests] == ["/m"]
    desk.row("a source has a file of another size", desk.line("offers"), server.sent - len(GOOD))


def test_a_signed_address_that_expires_is_made_anew(desk: Bench, server: ModelServer) -> None:
    with ModelServer() as cdn:
        made: list[str] = []

        def sign() -> Metadata:
            made.append(f"{len(made)}")
            return linked(GOOD_SHA, len(GOOD), f"{cdn.url}/blob?signature={made[-1]}")

        def blob(handler: Handler) -> None:
            if handler.path.endswith("=0") and len(cdn.requests) > 1:
                handler.answer(403, b"<Error>expired</Error>", {"Content-Type": "application/xml"})
            else:
                whole(GOOD, cut=[MIB] if len(cdn.requests) == 1 else None)(handler)

        server.metadata[HUB_PATH] = sign
        cdn.behaviours["/blob"] = blob
        desk.want(HUB)
        desk.place()
        assert made == ["0", "1"]
        assert cdn.ranges == [None, f"bytes={MIB}-", f"bytes={MIB}-"]
        output = desk.capture.readouterr()
        assert "signature" not in output.out + output.err
        message = next(line for line in output.out.splitlines() if "no longer good" in line)
        expired = len(b"<Error>expired</Error>")
        desk.row("the signed address expires in the middle", message, server.sent + cdn.sent - len(GOOD) - expired)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME"])
def test_the_token_goes_to_the_hub_and_nowhere_else(desk: Bench, server: ModelServer, way: str) -> None:
    environment = {**os.environ}
    environment.pop("HF_HOME")
    if way == "HF_TOKEN":
        environment[way] = SECRET
    else:
        secret = desk.folder.parent / f"secret-{desk.folder.name}"
        secret.mkdir(mode=0o700)
        (secret / "token").write_text(SECRET + "\n")
        environment[way] = str(secret / "token" if way == "HF_TOKEN_PATH" else secret)
    with ModelServer() as elsewhere:
        server.metadata[HUB_PATH] = linked(GOOD_SHA, len(GOOD), f"{elsewhere.url}/blob")
        elsewhere.behaviours["/blob"] = whole(GOOD, cut=[MIB])
        desk.want(f"url {elsewhere.url}/gone", HUB)
        (desk.folder / "plan.json").write_text(desk.text)
        process = program("place", str(desk.folder / "plan.json"), env=environment)
        words = Path(f"/proc/{process.pid}/cmdline").read_text()
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert [sent for _, sent in server.heads] == [f"Bearer {SECRET}"]
        assert [sent for _, _, sent in elsewhere.requests] == [None, None, None]
        assert [sent for _, sent in elsewhere.heads] == [None]
    assert SECRET not in output + errors + words
    written = [path for path in desk.folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert written == []
    line = next(line for line in output.splitlines() if "ended early" in line)
    sent = server.sent + elsewhere.sent - len(GOOD) - len(b"not here")
    desk.row(f"a gated repository, the token in {way}", line, sent)


def test_a_token_that_no_header_can_carry_is_named_but_not_shown(
    desk: Bench, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", f"{SECRET}\nX-Evil: 1")
    with ModelServer() as elsewhere:
        elsewhere.behaviours["/m"] = whole(GOOD)
        desk.want(HUB, f"url {elsewhere.url}/m")
        desk.place()
        assert server.requests == [] and server.heads == []
        output = desk.capture.readouterr().out
        assert SECRET not in output
        message = next(line for line in output.splitlines() if "HF_TOKEN" in line)
        desk.row("a token with a line break in it", message, elsewhere.sent - len(GOOD))


def test_a_mirror_by_environment_variable(desk: Bench, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer() as mirror:
        mirror.metadata[f"/hf{HUB_PATH}"] = linked(GOOD_SHA, len(GOOD), f"{mirror.url}/blob")
        mirror.metadata["/blob"] = (200, linked(GOOD_SHA, len(GOOD))[1])
        del mirror.metadata["/blob"][1]["Location"]
        mirror.behaviours["/blob"] = whole(GOOD)
        desk.want(HUB)
        monkeypatch.setenv("HF_ENDPOINT", "ftp://me:secret@mirror.example")
        with pytest.raises(PlacementError, match="HF_ENDPOINT is no hub's address") as raised:
            desk.place()
        assert "secret" not in str(raised.value)
        monkeypatch.setenv("HF_ENDPOINT", f"{mirror.url}/hf/")
        desk.place()
        assert server.requests == [] and mirror.sent == len(GOOD)
        desk.row("HF_ENDPOINT names no address, then a mirror", str(raised.value), mirror.sent - len(GOOD))


# --- this machine -----------------------------------------------------------------------------------------------------


def test_an_unmounted_search_directory_is_named(desk: Bench, server: ModelServer) -> None:
    (desk.disk / "m.gguf").write_bytes(GOOD)
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/m")
    desk.place()
    assert server.requests == [] and desk.index["profiles"]["p0"]["model"] == str(desk.disk / "m.gguf")
    away = desk.folder / "unmounted"
    desk.disk.rename(away)
    desk.capture.readouterr()
    desk.place()
    message = desk.line("is not there")
    away.rename(desk.disk)
    assert (desk.disk / "m.gguf").read_bytes() == GOOD
    desk.row("model_search_dirs is not mounted", message, server.sent - len(GOOD))


def test_two_deploys_at_once(desk: Bench, server: ModelServer) -> None:
    waiting = threading.Event()

    def held(handler: Handler) -> None:
        waiting.wait(60)
        whole(GOOD)(handler)

    server.behaviours["/m"] = held
    desk.want(f"url {server.url}/m")
    (desk.folder / "plan.json").write_text(desk.text)
    # Another directory, and the same notes about what was placed.
    desk.models = desk.folder / "other"
    (desk.folder / "other.json").write_text(desk.text)
    desk.models = desk.folder / "models"
    first = program("place", str(desk.folder / "plan.json"))
    until = time.monotonic() + 30
    while not server.requests and time.monotonic() < until:
        time.sleep(0.02)
    others = [program("place", str(desk.folder / name)) for name in ("plan.json", "other.json")]
    message = []
    for other in others:
        assert other.stdout is not None
        message.append(other.stdout.readline().strip())
    assert message[0] == message[1] and f"process {first.pid}" in message[0]
    assert len(server.requests) == 1
    waiting.set()
    for process in (first, *others):
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    placed = {path for path, stamp in desk.index["files"].items() if stamp["placed"]}
    assert placed == {str(desk.folder / "models" / "m.gguf"), str(desk.folder / "other" / "m.gguf")}
    # models.json tells of whichever run was the last.
    assert "nothing downloaded" in desk.place()
    desk.row("two more deploys at once", message[0], server.sent - 2 * len(GOOD))


def test_one_model_that_fails_does_not_stop_the_others(desk: Bench, server: ModelServer) -> None:
    server.behaviours["/m"] = whole(GOOD)
    desk.want(f"url {server.url}/gone", name="gated.gguf", content=OTHER)
    desk.want(f"url {server.url}/m")
    with pytest.raises(PlacementError, match="gated") as raised:
        desk.place()
    assert (desk.models / "m.gguf").read_bytes() == GOOD
    desk.again(f"url {server.url}/m")
    desk.place()
    assert [path for path, _, _ in server.requests].count("/m") == 1
    message = str(raised.value).splitlines()[-1].strip()
    desk.row("one of two models cannot be had", message, server.sent - len(GOOD) - len(b"not here"))


def parts(folder: Path, sizes: list[int]) -> dict[str, str]:
    """Sparse files of so many bytes, the parts of one model: name -> sha256."""
    hashes = {}
    folder.mkdir()
    for number, size in enumerate(sizes):
        name = f"m-{number + 1:05}-of-{len(sizes):05}.gguf"
        with (folder / name).open("wb") as file:
            file.write(gguf({"split.count": len(sizes), "split.no": number}))
            file.truncate(size)
        with (folder / name).open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(4 * MIB):
                digest.update(block)
        hashes[name] = digest.hexdigest()
    return hashes


def copy_sparse(source: Path, target: Path, size: int) -> None:
    """The first ``size`` bytes; after the header there are only holes."""
    with target.open("wb") as file:
        with source.open("rb") as original:
            file.write(original.read(1 << 16))
        file.truncate(size)


@pytest.mark.slow
def test_three_parts_resumed_in_the_middle_and_one_of_them_corrupt(desk: Bench, server: ModelServer) -> None:
    sizes = [int(text) * MIB for text in os.environ.get("PLACEMENT_PARTS_MIB", "96,96,64").split(",")]
    served = desk.folder / "served"
    hashes = parts(served, sizes)
    names = list(hashes)
    files = []
    for name, size in zip(names, sizes, strict=True):
        server.behaviours[f"/{name}"] = sparse(served / name)
        files.append({"name": name, "sha256": hashes[name], "size": size, "sources": [f"url {server.url}/{{name}}"]})
    desk.profiles.append({"id": "p0", "model": names[0], "mmproj": None, "files": files})
    # An earlier run had the first part whole and broke off near the end of the second.
    begun = sizes[1] - 32 * MIB
    desk.models.mkdir()
    copy_sparse(served / names[0], desk.models / names[0], sizes[0])
    copy_sparse(served / names[1], desk.models / f"{names[1]}.part", begun)
    desk.place()
    assert [(path, span) for path, span, _ in server.requests] == [
        (f"/{names[1]}", f"bytes={begun}-"),
        (f"/{names[2]}", None),
    ]
    needed = sizes[1] - begun + sizes[2]
    total = f"{sum(sizes) / 1e9:.3g} GB in three parts"
    desk.row(
        f"{total}, resumed in the middle",
        desk.line("from an earlier run"),
        server.sent - needed,
    )
    # One part rots; the deep check finds it, and only this one is fetched again.
    path = desk.models / names[2]
    status_before = path.stat()
    with path.open("r+b") as file:
        file.seek(sizes[2] // 2)
        file.write(b"rot")
    os.utime(path, ns=(status_before.st_atime_ns, status_before.st_mtime_ns))
    assert [row["state"] for row in desk.check(deep=True)["files"]] == ["ok", "ok", "corrupt"]
    server.sent = 0
    server.requests.clear()
    desk.capture.readouterr()
    desk.place()
    assert [path for path, _, _ in server.requests] == [f"/{names[2]}"]
    desk.row(f"{total}, the third corrupt", desk.line("sha256 is"), server.sent - sizes[2])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_the_guide_has_what_a_full_disk_says(tmp_path: Path, number: int) -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "guide.md").read_text()
    (row,) = [part for part in guide.split("\n\n") if "llama-local models prune`) or" in part]
    begun = PartFile(str(tmp_path / "m.gguf.part"), 5, "m.gguf", "ab" * 32)
    message = str(begun.explained(OSError(number, os.strerror(number))))
    begun.close()
    quoted = [text.split("...") for text in re.findall(r'"([^"]+)"', row)]
    assert [words for words in quoted if all(word in message for word in words)], message
    assert os.strerror(errno.ENOSPC) in row and "not enough room in " in row


# --- file systems that the test mounts --------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB in memory."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    folder = tmp_path / "models"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "claude-local-test", str(folder)],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.integration
def test_a_disk_that_fills_up_half_way(
    desk: Bench, server: ModelServer, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "SPARE", 0)
    ballast = small_disk / "ballast.gguf"

    def filling(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(GOOD)))
        handler.end_headers()
        handler.wfile.write(GOOD[:MIB])
        handler.server.sent += MIB
        until = time.monotonic() + 30
        while (not desk.part.exists() or desk.part.stat().st_size < MIB) and time.monotonic() < until:
            time.sleep(0.01)
        # Somebody else takes all the room that is left but half a MiB.
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        os.truncate(ballast, ballast.stat().st_size - MIB // 2)
        with contextlib.suppress(OSError):
            handler.wfile.write(GOOD[MIB:])

    server.behaviours["/m"] = filling
    desk.want(f"url {server.url}/m")
    with pytest.raises(DownloadError, match="full.*make room") as raised:
        desk.place()
    kept = desk.part.stat().st_size
    assert MIB < kept < 2 * MIB and f"{-(-(len(GOOD) - kept) // MIB)} MiB more" in str(raised.value)
    # Still full: message before anything is fetched, and with what is needed.
    with pytest.raises(PlacementError, match="not enough room"):
        desk.place()
    assert len(server.requests) == 1 and desk.part.stat().st_size == kept
    ballast.unlink()
    server.sent = 0
    server.behaviours["/m"] = whole(GOOD)
    desk.place()
    assert server.ranges[-1] == f"bytes={kept}-"
    message = str(raised.value)
    desk.row("the disk is full half way; the next run", message, server.sent - (len(GOOD) - kept))


@pytest.mark.integration
def test_a_models_directory_that_is_read_only(desk: Bench, server: ModelServer, small_disk: Path) -> None:
    server.behaviours["/m"] = whole(GOOD)
    (small_disk / "m.gguf").write_bytes(GOOD)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    desk.want(f"url {server.url}/m")
    # What it holds is enough: verified and used where it is.
    assert "nothing downloaded" in desk.place()
    desk.want(f"url {server.url}/m", name="b.gguf", content=OTHER)
    with pytest.raises(PlacementError, match="b.gguf must be downloaded.*cannot be written to") as raised:
        desk.place()
    assert server.requests == []
    desk.profiles.pop()
    desk.place()
    desk.row("model_dir is read-only", str(raised.value), server.sent)
