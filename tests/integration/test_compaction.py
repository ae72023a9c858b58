"""What a compaction costs a small model, as the real llama-server counts it: its order, and the prompt after it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response, StreamingResponse

from claude_local.verify.scripted_backend import ScriptedBackend, stream, text, tool_use
from tests.integration.test_tool_sets import WRAPPER, tokens

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

PROFILE = "qwen2.5-coder-1.5b"
SUMMARY = "<summary>\nThe user asked what is in long.txt. It holds 300 lines.\n</summary>"


class Summing(ScriptedBackend):
    """Answers an order to sum up with SUMMARY."""

    def _messages(self, body: Any) -> Response:
        if "<summary>" not in str(body["messages"][-1]):
            return super()._messages(body)
        return StreamingResponse(stream(self._message(body, [text(SUMMARY)])), media_type="text/event-stream")


@pytest.fixture
def work() -> Iterator[Path]:
    folder = Path.home() / f"w{os.getpid()}"
    folder.mkdir()
    (folder / "long.txt").write_text("".join(f"the line with number {number}\n" for number in range(300)))
    yield folder
    shutil.rmtree(folder)


def test_a_small_model_reads_little_for_a_compaction_and_little_after_it(work: Path, server_url: str) -> None:
    """A machine without a GPU reads about 50 tokens a second of a long prompt. Claude Code's own order took 1,450
    tokens, and asked for more than a thousand. Afterwards all files came again."""
    turns = [tool_use("Read", {"file_path": str(work / "long.txt")}), text("300 lines."), text("Numbers.")]
    with Summing(turns) as backend:
        for words in ("What is in long.txt?", "/compact", "What is in the lines?"):
            more = ["--continue"] if backend.requests else []
            done = subprocess.run(
                [WRAPPER, "--model", PROFILE, "-p", *more, words], cwd=work, stdin=subprocess.DEVNULL,
                env={**os.environ, "CLAUDE_LOCAL_SERVER": backend.url}, capture_output=True, text=True, timeout=180,
                check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr + done.stdout
    first, before, order, after = (request["body"] for request in backend.main_requests)
    assert all(order[part] == before[part] for part in ("system", "tools")), "the cache holds"
    assert order["messages"][0] == before["messages"][0]
    counted = [tokens(body, server_url) for body in (first, before, order, after)]
    print(f"first {counted[0]}, before {counted[1]}, order {counted[2]}, after {counted[3]}")
    assert counted[1] > counted[0] + 3000
    assert counted[2] < counted[1] + 500
    assert counted[3] < counted[0] + 600
    # The bound on an answer holds for a summary too.
    assert order["max_tokens"] == 2048 and "at most 120 words" in str(order["messages"][-1])
