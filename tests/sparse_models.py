"""GGUF files with a real model's shape and no data: the header and tensor list that llama.cpp b11434 expects, sparse.

llama-server measures such a model without reading it (--fit loads with no_alloc first), so a small machine can ask how
much memory a 60 GB model needs. The tensors follow load_arch_tensors of src/models/*.cpp. All matrices are q8_0 and all
vectors f32: a real file's size gives its weights, and these files only show what the shape decides.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.models.gguf_file import text, value

F32, F16, Q8_0 = 0, 1, 8
Tensor = tuple[str, tuple[int, ...]]


class _Shape:
    """The numbers of a record (claude_local/models/architectures.json), under their GGUF names."""

    def __init__(self, keys: Mapping[str, Any], vocabulary: int) -> None:
        self.keys = keys
        self.vocabulary = vocabulary
        self.width = int(keys["embedding_length"])
        self.layers = int(keys["block_count"]) - int(keys.get("nextn_predict_layers", 0))

    def number(self, key: str, layer: int = 0, default: int = 0) -> int:
        """A number of the record; where each layer has one, that of ``layer``."""
        value = self.keys.get(key, default)
        return int(value[layer] if isinstance(value, list) else value)

    def sliding(self, layer: int) -> bool:
        """Whether the layer keeps a window only."""
        pattern = self.keys.get("attention.sliding_window_pattern")
        return bool(pattern[layer]) if isinstance(pattern, list) else False

    def head(self, layer: int) -> int:
        """Numbers in one key of the layer."""
        if self.sliding(layer) and "attention.key_length_swa" in self.keys:
            return self.number("attention.key_length_swa")
        return self.number("attention.key_length", default=self.width // self.number("attention.head_count", layer))


def _attention(shape: _Shape, at: str, layer: int, *, gate: int = 1, norms: bool = True) -> Iterator[Tensor]:
    head, width = shape.head(layer), shape.width
    heads, heads_kv = shape.number("attention.head_count", layer), shape.number("attention.head_count_kv", layer)
    yield f"{at}.attn_q.weight", (width, head * heads * gate)
    yield f"{at}.attn_k.weight", (width, head * heads_kv)
    yield f"{at}.attn_v.weight", (width, head * heads_kv)
    yield f"{at}.attn_output.weight", (head * heads, width)
    if norms:
        yield f"{at}.attn_q_norm.weight", (head,)
        yield f"{at}.attn_k_norm.weight", (head,)


def _dense(shape: _Shape, at: str, layer: int = 0) -> Iterator[Tensor]:
    inner = shape.number("feed_forward_length", layer)
    yield f"{at}.ffn_gate.weight", (shape.width, inner)
    yield f"{at}.ffn_up.weight", (shape.width, inner)
    yield f"{at}.ffn_down.weight", (inner, shape.width)


def _experts(shape: _Shape, at: str) -> Iterator[Tensor]:
    inner, count = shape.number("expert_feed_forward_length"), shape.number("expert_count")
    yield f"{at}.ffn_gate_inp.weight", (shape.width, count)
    yield f"{at}.ffn_gate_exps.weight", (shape.width, inner, count)
    yield f"{at}.ffn_up_exps.weight", (shape.width, inner, count)
    yield f"{at}.ffn_down_exps.weight", (inner, shape.width, count)


def _shared_expert(shape: _Shape, at: str, inner: int) -> Iterator[Tensor]:
    yield f"{at}.ffn_gate_shexp.weight", (shape.width, inner)
    yield f"{at}.ffn_up_shexp.weight", (shape.width, inner)
    yield f"{at}.ffn_down_shexp.weight", (inner, shape.width)


def _qwen2(shape: _Shape) -> Iterator[Tensor]:
    for layer in range(shape.layers):
        at = f"blk.{layer}"
        yield f"{at}.attn_norm.weight", (shape.width,)
        yield f"{at}.ffn_norm.weight", (shape.width,)
        yield from _attention(shape, at, layer, norms=False)
        yield from _dense(shape, at)


def _qwen3moe(shape: _Shape) -> Iterator[Tensor]:
    for layer in range(shape.layers):
        at = f"blk.{layer}"
        yield f"{at}.attn_norm.weight", (shape.width,)
        yield f"{at}.ffn_norm.weight", (shape.width,)
        yield from _attention(shape, at, layer)
        yield from _experts(shape, at)


def _linear(shape: _Shape, at: str, *, split: bool) -> Iterator[Tensor]:
    state, groups, rank = (shape.number(f"ssm.{key}") for key in ("state_size", "group_count", "time_step_rank"))
    key, value = state * groups, state * rank
    yield f"{at}.attn_qkv.weight", (shape.width, 2 * key + value)
    yield f"{at}.attn_gate.weight", (shape.width, value)
    yield f"{at}.ssm_conv1d.weight", (shape.number("ssm.conv_kernel"), 2 * key + value)
    yield f"{at}.ssm_dt.bias", (rank,)
    yield f"{at}.ssm_a", (rank,)
    if split:
        yield f"{at}.ssm_beta.weight", (shape.width, rank)
        yield f"{at}.ssm_alpha.weight", (shape.width, rank)
    else:
        yield f"{at}.ssm_ba.weight", (shape.width, 2 * rank)
    yield f"{at}.ssm_norm.weight", (state,)
    yield f"{at}.ssm_out.weight", (value, shape.width)


def _hybrid(shape: _Shape, *, split: bool, moe: bool) -> Iterator[Tensor]:
    interval = shape.number("full_attention_interval", default=4)
    total = shape.number("block_count")
    for layer in range(total):
        at = f"blk.{layer}"
        yield f"{at}.attn_norm.weight", (shape.width,)
        yield f"{at}.post_attention_norm.weight", (shape.width,)
        if layer >= shape.layers or (layer + 1) % interval == 0:
            yield from _attention(shape, at, layer, gate=2)
        else:
            yield from _linear(shape, at, split=split)
        if moe:
            yield from _experts(shape, at)
            yield f"{at}.ffn_gate_inp_shexp.weight", (shape.width,)
            yield from _shared_expert(shape, at, shape.number("expert_shared_feed_forward_length"))
        else:
            yield from _dense(shape, at)
        if layer >= shape.layers:
            yield f"{at}.nextn.eh_proj.weight", (2 * shape.width, shape.width)
            for name in ("enorm", "hnorm", "shared_head_norm"):
                yield f"{at}.nextn.{name}.weight", (shape.width,)


def _deepseek2(shape: _Shape) -> Iterator[Tensor]:
    heads, rank, q_rank = (shape.number(f"attention.{key}") for key in ("head_count", "kv_lora_rank", "q_lora_rank"))
    rope, key, value = (
        shape.number(key) for key in ("rope.dimension_count", "attention.key_length_mla", "attention.value_length_mla")
    )
    for layer in range(shape.layers):
        at = f"blk.{layer}"
        yield f"{at}.attn_norm.weight", (shape.width,)
        yield f"{at}.ffn_norm.weight", (shape.width,)
        yield f"{at}.attn_q_a_norm.weight", (q_rank,)
        yield f"{at}.attn_kv_a_norm.weight", (rank,)
        yield f"{at}.attn_q_a.weight", (shape.width, q_rank)
        yield f"{at}.attn_q_b.weight", (q_rank, heads * key)
        yield f"{at}.attn_kv_a_mqa.weight", (shape.width, rank + rope)
        yield f"{at}.attn_k_b.weight", (key - rope, rank, heads)
        yield f"{at}.attn_v_b.weight", (rank, value, heads)
        yield f"{at}.attn_output.weight", (heads * value, shape.width)
        if layer < shape.number("leading_dense_block_count"):
            yield from _dense(shape, at)
        else:
            yield from _experts(shape, at)
            inner = shape.number("expert_feed_forward_length") * shape.number("expert_shared_count")
            yield from _shared_expert(shape, at, inner)


def _gpt_oss(shape: _Shape) -> Iterator[Tensor]:
    heads, inner, count = (
        shape.number(key) for key in ("attention.head_count", "expert_feed_forward_length", "expert_count")
    )
    for layer in range(shape.layers):
        at = f"blk.{layer}"
        yield f"{at}.attn_norm.weight", (shape.width,)
        yield f"{at}.post_attention_norm.weight", (shape.width,)
        yield from _attention(shape, at, layer, norms=False)
        yield f"{at}.attn_sinks.weight", (heads,)
        yield from _experts(shape, at)
        yield f"{at}.attn_output.bias", (shape.width,)
        yield f"{at}.ffn_gate_inp.bias", (count,)
        yield f"{at}.ffn_gate_exps.bias", (inner, count)
        yield f"{at}.ffn_up_exps.bias", (inner, count)
        yield f"{at}.ffn_down_exps.bias", (shape.width, count)


def _gemma4(shape: _Shape) -> Iterator[Tensor]:
    inner, count = shape.number("expert_feed_forward_length"), shape.number("expert_count")
    for layer in range(shape.layers):
        at = f"blk.{layer}"
        norms = ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"]
        norms += ["pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"] if count else []
        for norm in norms:
            yield f"{at}.{norm}.weight", (shape.width,)
        yield from (t for t in _attention(shape, at, layer) if shape.sliding(layer) or ".attn_v." not in t[0])
        yield from _dense(shape, at, layer)
        if count:
            yield f"{at}.ffn_gate_inp.weight", (shape.width, count)
            yield f"{at}.ffn_gate_inp.scale", (shape.width,)
            yield f"{at}.ffn_gate_up_exps.weight", (shape.width, 2 * inner, count)
            yield f"{at}.ffn_down_exps.weight", (inner, shape.width, count)
    yield "rope_freqs.weight", (shape.number("attention.key_length") // 2,)


def tensors(architecture: str, keys: Mapping[str, Any], vocabulary: int, *, tied: bool = False) -> list[Tensor]:
    """Every tensor of a model: name and shape, the innermost dimension first. ``tied``: the embedding is the output."""
    shape = _Shape(keys, vocabulary)
    blocks = {
        "qwen2": _qwen2,
        "qwen3moe": _qwen3moe,
        "qwen3next": lambda s: _hybrid(s, split=False, moe=True),
        "qwen35moe": lambda s: _hybrid(s, split=True, moe=True),
        "qwen35": lambda s: _hybrid(s, split=True, moe=False),
        "deepseek2": _deepseek2,
        "gpt-oss": _gpt_oss,
        "gemma4": _gemma4,
    }[architecture]
    found = [("token_embd.weight", (shape.width, vocabulary)), ("output_norm.weight", (shape.width,))]
    if architecture != "gemma4" and not tied:
        found.append(("output.weight", (shape.width, vocabulary)))
    return found + list(blocks(shape))


def _size(shape: Sequence[int]) -> tuple[int, int]:
    """The tensor's type and bytes: q8_0 where rows allow it."""
    elements = 1
    for length in shape:
        elements *= length
    if len(shape) == 1:
        return F32, elements * 4
    return (Q8_0, elements // 32 * 34) if shape[0] % 32 == 0 else (F32, elements * 4)


# Keys that llama.cpp asks for and that do not change memory.
FILLER = {
    "attention.layer_norm_rms_epsilon": 1e-6,
    "rope.freq_base": 1e6,
}
SECTIONS = {"rope.dimension_sections": [11, 11, 10, 0]}


def write(path: Path, architecture: str, keys: Mapping[str, Any], vocabulary: int, *, tied: bool = False) -> int:
    """Write the sparse model; bytes of its tensors."""
    metadata: dict[str, object] = {"general.architecture": architecture, "tokenizer.ggml.model": "no_vocab"}
    filler = {**FILLER, **(SECTIONS if architecture in ("qwen35", "qwen35moe") else {})}
    metadata |= {f"{architecture}.{key}": value for key, value in {**filler, **keys}.items()}
    metadata[f"{architecture}.vocab_size"] = vocabulary
    listed = tensors(architecture, keys, vocabulary, tied=tied)
    out = b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(metadata))
    for key, content in metadata.items():
        out += text(key) + value(content)
    offset = 0
    for name, shape in listed:
        kind, size = _size(shape)
        out += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        out += struct.pack("<IQ", kind, offset)
        offset += -(-size // 32) * 32
    out += b"\0" * (-len(out) % 32)
    with open(path, "wb") as file:
        file.write(out)
        file.truncate(len(out) + offset)
    return offset
