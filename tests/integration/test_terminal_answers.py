"""What a terminal session makes of llama-server's harder answers: it says why, and the next prompt works."""

from __future__ import annotations

import asyncio
import json
import re
import struct
import time
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from claude_local.verify.scripted_backend import ScriptedBackend, Turn, estimate_tokens, stream, text, tool_use
from tests.integration.fenced_home import ROOT, TOKEN, Person, person

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("claude_code")]

PATCHES = ROOT / "files" / "image" / "patches"
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n%%EOF\n"


@pytest.fixture(scope="module")
def who() -> Iterator[Person]:
    with person("root") as somebody:
        yield somebody


def png(side: int = 64) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(bytes([0, *[row % 256] * 3 * side]) for row in range(side)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def words_of_patch(name: str, begin: str) -> str:
    """The message of llama-server that a patch of ours holds; tests/conformance shows that the server sends it."""
    (found,) = re.findall(rf'^\+.*invalid_argument\("({begin}[^"]*)"', (PATCHES / name).read_text(), re.M)
    return str(found)


REFUSED = {
    "image": words_of_patch("0004-no-projector.patch", "could not process image"),
    "document": words_of_patch("0001-messages-requests.patch", "could not process PDF"),
}


class WithoutProjector(ScriptedBackend):
    """Refuses pictures and PDFs as llama-server does for a model without a projector."""

    def __init__(self, *turns: Turn) -> None:
        super().__init__(turns, 200_000, token=TOKEN)
        self.refused = 0

    def _messages(self, body: Any) -> Response:
        for kind, message in REFUSED.items():
            if any(block["type"] == kind for block in blocks_of(body)):
                self.refused += 1
                error = {"code": 400, "message": message, "type": "invalid_request_error"}
                return JSONResponse({"type": "error", "error": error}, status_code=400)
        return super()._messages(body)


def blocks_of(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every block in the messages of a request, also those in tool results."""
    for message in body["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else []:
            yield block
            yield from block["content"] if isinstance(block.get("content"), list) else []


def test_a_picture_or_pdf_that_the_model_cannot_read_is_taken_out_and_the_session_goes_on(who: Person) -> None:
    work = who.workspace("pictures")
    for name, content in {"a.png": png(), "b.png": png(), "c.pdf": PDF}.items():
        (work / name).write_bytes(content)
    turns = [
        text("The first answer."),
        *(part for name in ("b.png", "c.pdf")
          for part in (tool_use("Read", {"file_path": str(work / name)}), text(f"After {name}."))),
        text("The last answer."),
    ]  # fmt: skip
    with WithoutProjector(*turns) as backend, who.at_terminal(backend, cwd=work) as tty:
        tty.wait_for_prompt()
        tty.send("what is in @a.png ")
        tty.wait_for("what is in @a.png")
        tty.read_for(1)
        tty.send("\r")
        tty.wait_for("The first answer.")
        assert "an image in the conversation could not be processed and was removed" in re.sub(r"\s+", " ", tty.text)
        for name in ("b.png", "c.pdf"):
            tty.type(f"read the other one, {name[0]}")
            tty.wait_for(f"After {name}.")
        assert "a document in the conversation could not be processed and was removed" in re.sub(r"\s+", " ", tty.text)
        refused = backend.refused
        tty.type("and now without")
        tty.wait_for("The last answer.")
    assert refused == backend.refused == 3, "one refusal each, none for the prompts after them"


class Stalling(ScriptedBackend):
    """Answers its first request in the ``manner``: ``dead`` sends one of the comments that llama-server sends while it
    reads, and then nothing more; ``dead in its answer`` sends the answer's beginning; ``reads`` sends comments, and the
    answer after ``seconds``; ``waits`` sends nothing at all until then."""

    def __init__(self, manner: str, seconds: float) -> None:
        super().__init__([text("The answer.")] * 2, 200_000, token=TOKEN)
        self.manner, self.seconds = manner, seconds

    async def _answer(self, request: Request) -> Response:
        if self.manner == "waits" and request.url.path == "/v1/messages" and not self.played:
            await asyncio.sleep(self.seconds)
        return await super()._answer(request)

    def _messages(self, body: Any) -> Response:
        if self.played:
            return super()._messages(body)
        return StreamingResponse(self._slowly(self._message(body, self._next_turn())), media_type="text/event-stream")

    async def _slowly(self, message: dict[str, Any]) -> AsyncIterator[bytes]:
        events = stream(message)
        if self.manner.startswith("dead"):
            yield b":\n\n" if self.manner == "dead" else await events.__anext__()
            await asyncio.sleep(600)
        for _ in range(int(self.seconds / 2) if self.manner == "reads" else 0):
            yield b":\n\n"
            await asyncio.sleep(2)
        async for event in events:
            yield event


def test_a_dead_connection_is_told_from_a_server_that_reads(who: Person) -> None:
    """The shortest time-out that Claude Code takes, 10 s, instead of three minutes; all four wait at the same time."""

    requests = {"dead": 2, "dead in its answer": 2, "reads": 1, "waits": 1}
    works = {manner: who.workspace(manner.replace(" ", "-")) for manner in requests}

    def ask(manner: str) -> tuple[str, int]:
        began = time.monotonic()
        with Stalling(manner, 18) as backend:
            done = who.session(backend, "-p", "hello", cwd=works[manner], CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS="10000")
        assert (done.returncode, done.stdout) == (0, "The answer.\n"), manner + done.stdout + done.stderr
        assert time.monotonic() - began < 150, manner
        return manner, len(backend.main_requests)

    with ThreadPoolExecutor(len(requests)) as pool:
        assert dict(pool.map(ask, requests)) == requests


class Full(ScriptedBackend):
    """Refuses a prompt that is longer than its window, in llama-server's words; answers a request for a summary."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        super().__init__(turns, 32768, token=TOKEN)
        self.taken: list[int] = []
        self.summaries = 0

    def _messages(self, body: Any) -> Response:
        tokens = estimate_tokens(body)
        if tokens > self.n_ctx:
            message = f"request ({tokens} tokens) exceeds the available context size ({self.n_ctx} tokens), try ..."
            error = {"code": 400, "message": message, "type": "exceed_context_size_error"}
            return JSONResponse({"type": "error", "error": error}, status_code=400)
        self.taken.append(tokens)
        if "<analysis>" in str(body["messages"][-1]):
            self.summaries += 1
            summary = self._message(body, [text("<summary>The files were read.</summary>")])
            return StreamingResponse(stream(summary), media_type="text/event-stream")
        return super()._messages(body)


def test_a_small_window_is_used_to_its_end_and_then_compacted(who: Person) -> None:
    """tests/conformance shows that llama-server refuses a longer prompt with these words."""
    work = who.workspace("long")
    turns: list[Turn] = []
    for name in "abcdefghijklmn":
        (work / name).write_text("a line of text that stands here\n" * 280)
        turns.append(tool_use("Read", {"file_path": str(work / name)}))
    with Full([*turns, text("All files are read.")]) as backend:
        done = who.session(backend, "-p", "read them", "--tools", "Read", cwd=work)
    assert (done.returncode, done.stdout) == (0, "All files are read.\n"), done.stdout + done.stderr
    assert backend.summaries and max(backend.taken) > 0.85 * backend.n_ctx


def test_a_command_of_the_users_own_costs_no_answer(who: Person) -> None:
    work = who.workspace("own-commands")
    (work / "seen.txt").write_text("")
    with (
        ScriptedBackend([text("The answer.")], 200_000, token=TOKEN) as backend,
        who.at_terminal(backend, cwd=work) as tty,
    ):
        tty.wait_for_prompt()
        tty.send("!")
        tty.read_for(0.5)
        tty.send("ls")
        tty.read_for(0.5)
        tty.send("\r")
        tty.wait_for("seen.txt")
        tty.read_for(2)
        assert backend.main_requests == []
        tty.type("and now")
        tty.wait_for("The answer.")


def test_the_model_list_of_a_session_has_the_profiles_and_choosing_one_asks_it(who: Person) -> None:
    work = who.workspace("picking")
    profiles = Path(who.paths.profiles)
    before = profiles.read_text()
    listed = {
        "large": {"name": "Large Coder", "description": "the big one", "tools": "full"},
        "small": {"name": "Small Coder", "description": "the quick one", "tools": "full"},
    }
    profiles.write_text(json.dumps({"default": "large", "profiles": listed}))
    try:
        with (
            ScriptedBackend([text("From the first."), text("From the other.")], 200_000, token=TOKEN) as backend,
            who.at_terminal(backend, cwd=work) as tty,
        ):
            tty.wait_for_prompt()
            tty.type("who are you")
            tty.wait_for("From the first.")
            tty.type("/model")
            tty.wait_for("Small Coder")
            assert "currently Large Coder" in tty.text and "until llama-local switch" in tty.text
            assert "Opus" not in tty.text
            tty.send("4")
            tty.read(2)
            tty.send("\r")
            tty.read(2)
            tty.type("and you")
            tty.wait_for("From the other.")
        asked = [request["body"]["model"] for request in backend.main_requests]
        assert asked == ["claude-local", "small"]
    finally:
        profiles.write_text(before)
