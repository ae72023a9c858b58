"""A small GGUF of a shipped architecture with random weights: what a real llama-server does with its state is real.

The layers are those of tests/sparse_models.py, fewer and narrower. One token is one byte of text, or one of the marks
that chat templates use.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from tests import sparse_models
from tests.chat.tiny_model import CONTEXT, CONTROL, NORMAL, USER_DEFINED, byte_letters
from tests.models.gguf_file import F32, gguf

# The marks of the templates in files/chat-templates that begin and end turns.
MARKS = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|observation|>",
    "[gMASK]", "<sop>", "<|turn>", "<turn|>", "<bos>", "<eos>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>",
    "<|return|>", "<|call|>", "<|constrain|>",
)  # fmt: skip
# What begins each of the model's turns, as one token, and the token that the model then writes. Without it llama-server
# refuses the answer.
TURN, ANSWERS = "<|start|>assistant", "<|channel|>final<|message|>"
# What replaces a real model's numbers. Ratios that a kernel needs (groups of heads, state sizes) are kept.
SMALL: Mapping[str, Any] = {
    "block_count": 4, "nextn_predict_layers": 0, "context_length": CONTEXT, "embedding_length": 64,
    "feed_forward_length": 64, "attention.head_count": 2, "attention.head_count_kv": 1, "attention.key_length": 32,
    "attention.value_length": 32, "expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 32,
    "expert_shared_feed_forward_length": 32, "ssm.state_size": 32, "ssm.group_count": 2, "ssm.time_step_rank": 2,
    "ssm.inner_size": 64, "attention.key_length_swa": 32, "attention.value_length_swa": 32,
}  # fmt: skip
ROPE = {"rope.dimension_count": 32}
MLA: Mapping[str, Any] = {
    "attention.key_length": 48, "attention.value_length": 32, "attention.key_length_mla": 48,
    "attention.value_length_mla": 32, "attention.kv_lora_rank": 32, "attention.q_lora_rank": 32,
    "rope.dimension_count": 16, "attention.head_count": 2,
}  # fmt: skip


def small(architecture: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """The record of an architecture (claude_local/models/architectures.json) with small numbers."""
    numbers = {**SMALL, **ROPE, **(MLA if architecture == "deepseek2" else {})}
    result = {key: numbers.get(key, value) for key, value in keys.items()}
    if "attention.sliding_window_pattern" in keys:
        # One full layer after five that slide, in fewer layers.
        result |= {"block_count": 6, "attention.sliding_window_pattern": keys["attention.sliding_window_pattern"][:6]}
    if architecture == "gemma4":
        result["rope.dimension_count_swa"] = 32
    return result


def random_model(path: Path, architecture: str, keys: Mapping[str, Any]) -> None:
    """Write the model. ``keys``: the real model's."""
    letters = list(byte_letters().values())
    marks = (*MARKS, TURN, ANSWERS) if architecture == "gpt-oss" else MARKS
    tokens = [*letters, *marks]
    letters_only = {place for place, byte in enumerate(byte_letters()) if ord("a") <= byte <= ord("z")}
    record = small(architecture, keys)
    filler = {**sparse_models.FILLER, "attention.layer_norm_rms_epsilon": 1e-5}
    sections = {"rope.dimension_sections": [4, 4, 4, 0]} if architecture in ("qwen35", "qwen35moe") else {}
    metadata: dict[str, object] = {
        "general.architecture": architecture,
        "general.name": architecture,
        **{f"{architecture}.{key}": value for key, value in {**filler, **sections, **record}.items()},
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [NORMAL] * len(letters)
        + [USER_DEFINED if mark == ANSWERS else CONTROL for mark in marks],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": len(letters) + MARKS.index("<bos>"),
        "tokenizer.ggml.eos_token_id": len(letters) + MARKS.index("<|im_end|>"),
        "tokenizer.ggml.add_bos_token": False,
    }
    listed, data = [], bytearray()
    dice = random.Random(architecture)
    numbers = [dice.gauss(0, 0.08) for _ in range(8191)]
    for name, shape in sparse_models.tensors(architecture, record, len(tokens)):
        count = prod(shape)
        values = (numbers * (count // len(numbers) + 1))[:count]
        if len(shape) == 1:
            values = [-0.5] * count if name.endswith("ssm_a") else [1.0] * count
        if name == ("token_embd.weight" if architecture == "gemma4" else "output.weight"):
            # Only letters are generated: everything else has a logit of 0.
            width = shape[0]
            values = [each if place // width in letters_only else 0.0 for place, each in enumerate(values)]
        if architecture == "gpt-oss" and name in ("token_embd.weight", "output.weight"):
            _answers(values, shape[0], tokens, name == "output.weight")
        listed.append((name, shape, F32, len(data)))
        data += struct.pack(f"<{count}f", *values)
        data += b"\0" * (-len(data) % 32)
    path.write_bytes(gguf(metadata, listed, data=0) + bytes(data))


def _answers(values: list[float], width: int, tokens: list[str], output: bool) -> None:
    """Let ANSWERS follow TURN: they share a dimension that no other token has."""
    values[::width] = [0.0] * len(tokens)
    values[tokens.index(ANSWERS if output else TURN) * width] = 0.5 if output else 50.0
