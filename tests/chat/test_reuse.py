"""A first answer reads only what is new: the real llama-server of the image, with small models of random weights."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chat import reuse
from tests.chat.reuse import Counts, Session
from tests.chat.router import MODEL, Router

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# One architecture whose state can be cut anywhere, and whose template shows examples before the user's first words; one
# that keeps a state instead of a cache in most layers. The others are in benchmarks/prompt_reuse.py.
ATTENTION, HYBRID = "Qwen2.5-Coder-1.5B", "Qwen3.5-9B"
# Tokens of system and tools that a template may add to or take from the text's, and of a turn beyond its words.
NEARLY, BESIDE = 800, 100
# Tokens that a conversation reads again after a switch there and back, with its new question.
SWITCH = 500


@pytest.fixture(params=[ATTENTION, HYBRID])
def router(request: pytest.FixtureRequest, llama_server: Path, tmp_path: Path) -> Iterator[Router]:
    with reuse.serve(llama_server, tmp_path, request.param) as running:
        yield running


def files(router: Router) -> list[Path]:
    return sorted((router.folder / "prompts").iterdir())


def is_warm(counts: Counts) -> bool:
    return counts.cached > reuse.SHARED - NEARLY and counts.computed <= counts.fresh + BESIDE


def test_a_restart_and_a_switch_keep_the_shared_part_and_the_conversations(router: Router) -> None:
    counts = reuse.matrix(router)
    assert counts[reuse.FIRST].cached == 0
    assert {name: each for name, each in counts.items() if not is_warm(each)} == {reuse.FIRST: counts[reuse.FIRST]}
    assert {path.stat().st_mode & 0o777 for path in files(router)} == {0o600}
    # A switch there and back costs two loads, and the conversation 500 tokens at most.
    assert counts[reuse.SWITCHED].computed <= SWITCH
    first, restart, switches = 1, 1, 2
    assert router.log.read_text().count("spawning server instance with name=") == first + restart + 2 * switches


def test_a_killed_server_keeps_the_shared_part_and_a_damaged_file_is_not_used(router: Router) -> None:
    first = Session("first")
    first.ask(router.client)
    cold = first.answer
    router.restart(signal.SIGKILL)
    assert is_warm(Session("second").ask(router.client))
    router.restart()
    for path in files(router):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    again = Session("first")
    assert again.ask(router.client).cached == 0 and again.answer == cold
    router.restart()
    for path in files(router):
        path.write_bytes(path.read_bytes()[:-100])
    again = Session("first")
    assert again.ask(router.client).cached == 0 and again.answer == cold


def test_a_restored_state_gives_the_answer_of_a_cold_one(router: Router) -> None:
    cold = Session("other")
    cold.ask(router.client)
    router.restart()
    shutil.rmtree(router.folder / "prompts")
    (router.folder / "prompts").mkdir()
    router.restart()
    Session("first").ask(router.client)
    router.restart(signal.SIGKILL)
    warm = Session("other")
    assert is_warm(warm.ask(router.client)) and warm.answer == cold.answer


def test_a_request_cannot_have_cached_parts_of_another_text_moved(llama_server: Path, tmp_path: Path) -> None:
    with reuse.serve(llama_server, tmp_path, ATTENTION) as router:
        begin, moved = reuse.words(400, "begin"), reuse.words(1200, "moved")

        def ask(text: str) -> int:
            body = {"model": MODEL, "prompt": text, "n_predict": 1, "n_cache_reuse": 16}
            answer = router.client.json("POST", "/completion", body, timeout=reuse.ANSWER_SECONDS)
            return int(answer["timings"]["cache_n"])

        ask(begin + reuse.words(400, "left out") + moved)
        assert ask(begin + moved) <= len(begin) + 1
