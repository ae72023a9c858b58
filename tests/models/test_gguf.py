"""GGUF headers: what a file says of itself, and every way in which it may be broken."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_local.models import gguf
from tests.models.gguf_file import F32, Q4_K, text
from tests.models.gguf_file import gguf as made

QWEN = {
    "general.architecture": "qwen2",
    "general.file_type": 15,
    "qwen2.context_length": 32768,
    "qwen2.block_count": 28,
    "qwen2.embedding_length": 1536,
    "qwen2.attention.head_count": 12,
    "qwen2.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": ["a", "b", "ccc"],
    "tokenizer.ggml.token_type": [1, 1, 1],
    "tokenizer.chat_template": "{{ messages }}",
    "general.sampling.temp": 0.5,
    "tokenizer.ggml.add_bos_token": False,
}


def read(content: bytes) -> gguf.Header:
    return gguf.read(io.BytesIO(content))


def refusal(content: bytes) -> gguf.GgufError:
    with pytest.raises(gguf.GgufError) as caught:
        read(content)
    return caught.value


@pytest.mark.parametrize("version", [2, 3])
def test_a_model_says_what_it_is(version: int) -> None:
    header = read(made(QWEN, version=version))
    assert (header.architecture, header.metadata["qwen2.context_length"]) == ("qwen2", 32768)
    assert header.chat_template == "{{ messages }}"
    assert header.expected_bytes == header.file_bytes


def test_a_part_of_a_split_model_says_which_it_is() -> None:
    header = read(made({"split.count": 3, "split.no": 1}))
    assert header.metadata["split.count"] == 3


def test_the_first_part_of_a_split_model_may_hold_no_tensors() -> None:
    assert read(made({"split.count": 3, "split.no": 0}, tensors=[], data=0)).tensor_count == 0
    assert refusal(made(tensors=[], data=0)).kind == "nonsense"


def test_a_quantised_tensor_counts_whole_blocks() -> None:
    # 256 x 2 elements of q4_K: 2 blocks of 144 bytes.
    header = read(made(tensors=[("a", (256, 2), Q4_K, 0)], data=288))
    assert header.expected_bytes == header.file_bytes


def test_a_file_one_byte_short_is_truncated_and_the_message_has_both_sizes() -> None:
    whole = made(QWEN)
    error = refusal(whole[:-1])
    assert error.kind == "truncated"
    assert str(len(whole)) in str(error) and str(len(whole) - 1) in str(error)


def test_padding_after_the_last_tensor_is_fine() -> None:
    assert read(made(QWEN) + b"\0" * 31).expected_bytes


@pytest.mark.parametrize("content", [b"", b"GG", b"<!DOCTYPE html><html>", b"\x7fELF" + bytes(100), bytes(64)])
def test_what_is_no_gguf_is_called_so(content: bytes) -> None:
    assert refusal(content).kind == "not-gguf"


def test_a_cut_inside_the_header_is_truncated() -> None:
    whole = made(QWEN)
    header = len(whole) - 256 * 8 * 4
    for length in range(4, header, 7):
        assert refusal(whole[:length]).kind == "truncated", length


def test_huge_lengths_are_refused_before_anything_is_read() -> None:
    start = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    for broken in (
        b"GGUF" + struct.pack("<IQQ", 3, 1 << 63, 1),
        b"GGUF" + struct.pack("<IQQ", 3, 1, 1 << 40),
        start + struct.pack("<Q", 1 << 62),
        start + text("general.architecture") + struct.pack("<IQ", 8, 1 << 62),
        start + text("k") + struct.pack("<IIQ", 9, 8, 1 << 62),
        start + text("k") + struct.pack("<IIQ", 9, 10, 1 << 62),
        start + text("k") + struct.pack("<IIQ", 9, 9, 1),
        start + text("k") + struct.pack("<I", 99),
        made(tensors=[("a", (1 << 40, 1 << 40), F32, 0)], data=0),
        made(tensors=[("a", (1, 1, 1, 1, 1), F32, 0)]),
        made(tensors=[("a", (255,), Q4_K, 0)]),
        made({"general.alignment": 0}),
        made(version=1),
        made(version=1 << 24),
    ):
        assert refusal(broken + bytes(64)).kind in ("nonsense", "truncated")


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for candidate in (content, b"GGUF" + content, b"GGUF" + struct.pack("<IQQ", 3, 1, 2) + content):
        try:
            read(candidate)
        except gguf.GgufError as error:
            assert str(error)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_a_sound_file_with_flipped_bytes_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(made(QWEN, data=8192)[:900] + bytes(8192))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(4, 899))] = data.draw(st.integers(0, 255))
    try:
        header = read(bytes(content))
    except gguf.GgufError:
        return
    # Whatever was read can be asked for.
    assert isinstance(header.architecture, str)
