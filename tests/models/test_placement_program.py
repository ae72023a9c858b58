"""``python -m claude_local.models.placement`` as a program."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable

import pytest

from claude_local.models import progress
from tests.models.gguf_file import model
from tests.models.model_server import Handler, ModelServer, whole
from tests.models.placement_desk import GOOD, MIB, Desk, program


def holding(content: bytes, first: int, go_on: threading.Event) -> Callable[[Handler], None]:
    """Serve ``content``, but nothing after ``first`` bytes until ``go_on`` is set."""

    def behave(handler: Handler) -> None:
        start = handler.start()
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(content[start:first])
            handler.wfile.flush()
            go_on.wait(90)
            handler.wfile.write(content[max(start, first) :])

    return behave


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130), (signal.SIGINT, 130)])
def test_the_next_run_continues_a_killed_one(desk: Desk, server: ModelServer, number: int, status: int) -> None:
    content, go_on = model(8 * MIB), threading.Event()
    server.behaviours["/m"] = holding(content, 3 * MIB, go_on)
    desk.want(f"url {server.url}/m", content=content)
    (desk.folder / "plan.json").write_text(desk.text)
    process = program("place", str(desk.folder / "plan.json"))
    part = desk.models / "m.gguf.part"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size >= 2 * MIB):
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    assert not (desk.models / "m.gguf").exists()
    go_on.set()
    desk.place()
    assert server.ranges[0] is None and server.ranges[-1] is not None
    assert int(server.ranges[-1].removeprefix("bytes=").rstrip("-")) >= 2 * MIB
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
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = program("place", str(desk.folder / "plan.json"), env=buffered)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 130
    assert not (desk.models / "m.gguf").exists()
