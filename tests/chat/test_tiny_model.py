"""The tiny model: its scripts are cut into unique tokens, and the real server generates them word for word."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.models import gguf
from tests.chat.cases import CASES, script
from tests.chat.formats import hermes
from tests.chat.server import LlamaServer
from tests.chat.tiny_model import in_letters, marker, merges, pieces, tiny_model, tiny_projector

TEMPLATE = Path(__file__).resolve().parents[2] / "files/chat-templates/qwen2.5-coder.jinja"


@pytest.mark.slow
@given(st.lists(st.text(min_size=12, max_size=60), min_size=1, max_size=5, unique=True))
def test_scripts_are_cut_into_pieces_that_occur_once(scripts: list[str]) -> None:
    taken: set[str] = set()
    for number, text in enumerate(scripts):
        # Numbers at both ends keep one script from being a piece of another.
        whole = in_letters(f"{number:05d}{text}{number:05d}")
        cut = pieces(whole, taken)
        assert "".join(cut) == whole
        assert set(cut) <= taken
    assert len(taken) == len(set(taken))


def test_a_script_that_is_a_piece_of_another_is_refused() -> None:
    with pytest.raises(ValueError, match="piece of another"):
        tiny_model(["Hello", "Hello"])


def test_frequent_words_become_one_token() -> None:
    pairs = merges("the tool the tool read the")
    assert ("Ġth", "e") in pairs and ("Ġtoo", "l") in pairs


def test_the_files_are_valid() -> None:
    header = gguf.read(io.BytesIO(tiny_model(["Hello there."], "some words")))
    assert header.metadata["general.architecture"] == "llama"
    assert gguf.read(io.BytesIO(tiny_projector())).metadata["clip.projector_type"] == "mlp"


@pytest.mark.integration
def test_the_answer_to_a_prompt_with_a_marker_is_its_script(llama_server: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    texts = ["One: é🙂 and a tab\t.", 'Two:\n\n  indented, "quoted" \\n.']
    model.write_bytes(tiny_model([*texts, script(CASES[4], hermes, True)]))
    with LlamaServer(llama_server, model, tmp_path / "log", TEMPLATE) as server:
        for number, text in enumerate(texts):
            body = {"messages": [{"role": "user", "content": f"Say it. {marker(number)}"}]}
            assert server.ask(body).words("text") == text
            assert marker(number) in server.prompt()
