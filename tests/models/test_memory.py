"""The estimate of a model's memory: the numbers that llama-server b11434 reported, and how they move."""

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.models import gguf
from claude_local.models.architecture import Architecture, ArchitectureError, from_header, shipped
from claude_local.models.memory import GPU_CONTEXT_MIB, MIB, Serving, cache_bytes, compute_bytes, estimate, shares
from tests import sparse_models
from tests.models.gguf_file import gguf as gguf_file

GIB = 1 << 30

# What llama-server (b11434, no GPU) wrote for files of these shapes: KV cache and compute buffer, MiB. Reported by
# benchmarks/memory_estimate.py; test_memory_estimate in tests/integration asks it again.
REPORTED = [
    ("Qwen2.5-Coder-1.5B", Serving(32768), 896, 99.52),
    ("Qwen2.5-Coder-0.5B", Serving(131072, ubatch=2048), 1536, 661.07),
    ("GLM-4.7-Flash", Serving(131072), 6768, 208.01),
    ("GLM-4.7-Flash", Serving(131072, key_type="q8_0", value_type="q8_0"), 3595, 208.01),
    ("Qwen3-Coder-30B-A3B", Serving(65536, slots=4, unified=True), 6144, 152.02),
    ("Qwen3-Coder-30B-A3B", Serving(32768, flash_attention=False), 3072, 2150.01),
    ("Qwen3-Coder-Next", Serving(32768, ubatch=128), 843, 30.5),
    ("Qwen3-Coder-Next", Serving(65536, slots=4, unified=True), 1837, 154.02),
    ("Qwen3.6-35B-A3B", Serving(65536, slots=2), 1405, 108.02),
    ("Qwen3.8-27B", Serving(131072, ubatch=2048), 8341, 1120.09),
    ("Qwen3.5-9B", Serving(32768), 1074, 144.02),
    ("gemma-4-26B-A4B", Serving(32768, ubatch=2048), 1240, 558.11),
    ("gemma-4-26B-A4B", Serving(32768, flash_attention=False), 1260, 1172.02),
    ("gpt-oss-20b", Serving(131072, key_type="q8_0", value_type="q8_0"), 1641, 224.46),
    ("gpt-oss-20b", Serving(65536, slots=4, unified=True), 1560, 160.65),
]


@pytest.mark.parametrize(("name", "serving", "cache", "compute"), REPORTED)
def test_cache_and_compute_buffer_are_what_llama_server_reported(
    name: str, serving: Serving, cache: int, compute: float
) -> None:
    shape = shipped()[name]
    assert cache_bytes(shape, serving) / MIB == pytest.approx(cache, abs=1)
    assert compute_bytes(shape, serving) / MIB == pytest.approx(compute, rel=0.005 if serving.flash_attention else 0.04)


@pytest.mark.parametrize("name", shipped())
def test_a_file_of_that_shape_reads_as_the_record_does(name: str, tmp_path: Path) -> None:
    record = shipped()[name]
    path = tmp_path / "m.gguf"
    size = sparse_models.write(path, record.name, record.keys, record.vocabulary, tied=record.tied)
    with open(path, "rb") as file:
        header = gguf.read(file)
    read_back = from_header(header)
    assert (read_back.name, read_back.vocabulary, read_back.tied) == (record.name, record.vocabulary, record.tied)
    for serving in (Serving(32768), Serving(65536, slots=2, key_type="q8_0")):
        assert cache_bytes(read_back, serving) == cache_bytes(record, serving)
        assert compute_bytes(read_back, serving) == compute_bytes(record, serving)
    # The tensors are q8_0 (8.5 bits) but for small ones: counting parameters by the shape must come out at their size.
    # (Qwen3.8's file carries a draft head besides.)
    assert record.parameters[0] * 8.5 / 8 == pytest.approx(size, rel=0.03)


def test_active_parameters_are_those_that_the_models_name() -> None:
    billions = {name: round(shape.parameters[1] / 1e9, 1) for name, shape in shipped().items()}
    assert billions["Qwen3-Coder-Next"] < 4 and billions["GLM-4.7-Flash"] < 4 and billions["gemma-4-26B-A4B"] < 4
    assert 25 < billions["Qwen3.8-27B"] < 27


shapes = st.sampled_from(list(shipped().values()))
servings = st.builds(
    Serving,
    context=st.integers(1, 256).map(lambda n: n * 1024),
    slots=st.integers(1, 8),
    unified=st.booleans(),
    key_type=st.sampled_from(["f16", "q8_0", "q4_0"]),
    value_type=st.sampled_from(["f16", "q8_0"]),
    ubatch=st.sampled_from([1, 128, 512, 2048]),
    flash_attention=st.booleans(),
    full_window=st.booleans(),
)


@given(shapes, servings)
def test_more_context_never_needs_less(shape: Architecture, serving: Serving) -> None:
    from dataclasses import replace

    more = replace(serving, context=serving.context * 2)
    assert cache_bytes(shape, more) >= cache_bytes(shape, serving) > 0
    assert compute_bytes(shape, more) >= compute_bytes(shape, serving) > 0


@given(shapes, servings)
def test_a_whole_window_never_needs_less_and_a_smaller_type_never_more(shape: Architecture, serving: Serving) -> None:
    from dataclasses import replace

    assert cache_bytes(shape, replace(serving, full_window=True)) >= cache_bytes(shape, serving)
    small = replace(serving, key_type="q4_0", value_type="q4_0")
    assert cache_bytes(shape, small) <= cache_bytes(shape, serving)


def test_serving_reads_preset_options() -> None:
    options = {
        "parallel": "2",
        "kv-unified": "true",
        "cache-type-k": "q8_0",
        "ubatch-size": "4096",
        "batch-size": "1024",
        "flash-attn": "off",
        "swa-full": "true",
    }
    assert Serving.of(options, 9000) == Serving(9000, 2, True, "q8_0", "f16", 1024, False, True)
    assert Serving.of({}, 4096) == Serving(4096)


def test_a_shape_without_its_numbers_says_which_is_missing() -> None:
    with pytest.raises(ArchitectureError, match=r"odd.embedding_length"):
        estimate(Architecture("odd", 5, {"block_count": 2}), 1, Serving(512))


def test_a_header_has_layers_windows_and_heads() -> None:
    file = gguf_file(
        {
            "general.architecture": "gemma3",
            "gemma3.block_count": 8,
            "gemma3.embedding_length": 64,
            "gemma3.attention.head_count": 4,
            "gemma3.attention.head_count_kv": [1, 2, 1, 1, 1, 1, 1, 1],
            "gemma3.attention.key_length": 32,
            "gemma3.attention.value_length": 16,
            "gemma3.attention.sliding_window": 512,
            "tokenizer.ggml.tokens": ["a", "b", "c"],
        }
    )
    shape = from_header(gguf.read(io.BytesIO(file)))
    assert shape.vocabulary == 3
    kinds = [layer.kind for layer in shape.layers]
    assert kinds == ["sliding"] * 5 + ["full"] + ["sliding"] * 2  # gemma3: every sixth layer sees everything
    assert (shape.layers[1].key, shape.layers[1].value, shape.layers[5].key) == (64, 32, 32)


def test_long_arrays_of_a_header_are_counted_but_not_kept() -> None:
    many = list(range(gguf.MAX_KEPT_ELEMENTS + 1))
    header = gguf.read(io.BytesIO(gguf_file({"x.long": many, "x.short": [1, 2]})))
    assert header.arrays["x.short"] == [1, 2] and "x.long" not in header.arrays
    assert header.lengths == {"x.long": len(many), "x.short": 2}
    assert struct.calcsize("<i") * len(many) < header.file_bytes


def test_layers_go_to_gpus_by_their_room_and_the_missing_bytes_are_returned() -> None:
    needed = estimate(shipped()["gpt-oss-20b"], 12 * GIB, Serving(131072), embedding=0)
    one, missing = shares(needed, [("a", 17 * GIB, 128 * MIB)])
    assert missing < 0 and one[0].needed <= 17 * GIB
    assert one[0].needed == needed.total + 128 * MIB + GPU_CONTEXT_MIB * MIB
    two, missing = shares(needed, [("a", 12 * GIB, 128 * MIB), ("b", 7 * GIB, 1024 * MIB)])
    assert missing < 0 and all(share.needed <= share.memory for share in two)
    assert two[0].needed > two[1].needed
    _, missing = shares(needed, [("a", 8 * GIB, 0)])
    assert missing == needed.on_gpu + needed.compute + GPU_CONTEXT_MIB * MIB - 8 * GIB
