"""The shape of a model, which decides how much memory its context takes. Pure.

The numbers have the names that GGUF files use, without the architecture in front (``attention.head_count_kv``), so a
file's header and a record of architectures.json read the same. The records exist because a profile is judged before its
file is on the machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from claude_local.models.gguf import Header

DATA = Path(__file__).parent / "architectures.json"

# Architectures whose sliding layers follow a fixed pattern when the file names none: every n-th layer sees everything
# (load_swa_pattern in src/models/*.cpp of llama.cpp b11434).
SLIDING_PATTERNS = {"gpt-oss": 2, "gemma2": 2, "gemma3": 6, "cohere2": 4, "exaone4": 4, "olmo2": 4}
# Architectures with linear attention in most layers; one in full_attention_interval (4 by default) is full.
HYBRID = frozenset({"qwen3next", "qwen35", "qwen35moe"})


class ArchitectureError(ValueError):
    """A record or header lacks a number that the estimate needs. The message names the first."""


@dataclass(frozen=True)
class Layer:
    """One layer's memory.

    ``kind``: ``full`` keeps every token, ``sliding`` a window, ``linear`` one state for each sequence, ``none`` uses
    another layer's. ``key`` and ``value``: numbers kept for a token.
    """

    kind: Literal["full", "sliding", "linear", "none"]
    key: int = 0
    value: int = 0


@dataclass(frozen=True)
class Architecture:
    """A model's shape. ``keys`` are the header's, without the architecture's name; ``vocabulary`` counts tokens.

    ``tied``: the embedding serves as output too.
    """

    name: str
    vocabulary: int
    keys: Mapping[str, Any] = field(default_factory=dict)
    tied: bool = False

    def number(self, key: str, default: int | None = None, layer: int = 0) -> int:
        """A number of the header; where each layer has one, that of ``layer``. Raises ArchitectureError."""
        value = self.keys.get(key, default)
        if isinstance(value, list):
            value = value[layer] if layer < len(value) else None
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ArchitectureError(f"the model's header says nothing of {self.name}.{key}")
        return value

    @property
    def width(self) -> int:
        """Numbers in one token's vector (embedding_length)."""
        return self.number("embedding_length")

    @property
    def layers_count(self) -> int:
        """Layers of the model itself, without draft heads."""
        return self.number("block_count") - self.number("nextn_predict_layers", 0)

    @property
    def context_length(self) -> int | None:
        """The context that the model was trained with, in tokens; None when it is not said."""
        value = self.keys.get("context_length")
        return value if isinstance(value, int) and value > 0 else None

    @property
    def latent(self) -> bool:
        """Whether attention keeps one compressed vector a token (MLA): keys only."""
        return self.number("attention.key_length_mla", 0) > 0

    def _sliding(self, layer: int) -> bool:
        if self.number("attention.sliding_window", 0) == 0:
            return False
        pattern = self.keys.get("attention.sliding_window_pattern", SLIDING_PATTERNS.get(self.name))
        if isinstance(pattern, list):
            return layer < len(pattern) and bool(pattern[layer])
        if isinstance(pattern, int) and not isinstance(pattern, bool) and pattern > 0:
            return layer % pattern < pattern - 1
        return False

    def layer(self, index: int) -> Layer:
        """What one layer keeps. Raises ArchitectureError."""
        if self.name in HYBRID and (index + 1) % self.number("full_attention_interval", 4):
            return Layer("linear")
        if index >= self.layers_count - self.number("attention.shared_kv_layers", 0):
            return Layer("none")
        heads = self.number("attention.head_count", layer=index)
        heads_kv = self.number("attention.head_count_kv", heads, layer=index)
        usual = self.width // heads if heads else 0
        key, value = self.number("attention.key_length", usual), self.number("attention.value_length", usual)
        sliding = self._sliding(index)
        if sliding:
            key = self.number("attention.key_length_swa", key)
            value = self.number("attention.value_length_swa", value)
        return Layer("sliding" if sliding else "full", key * heads_kv, 0 if self.latent else value * heads_kv)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """What each layer keeps. Raises ArchitectureError."""
        return tuple(self.layer(index) for index in range(self.layers_count))

    @property
    def output_parameters(self) -> int:
        """Parameters of the output, which a prompt's last token alone goes through."""
        return self.width * self.vocabulary

    def attention(self, tokens: int) -> int:
        """Multiplications with which one token's attention looks at the ``tokens`` before it. Raises
        ArchitectureError."""
        window = self.number("attention.sliding_window", 0)
        total = 0
        for index, layer in enumerate(self.layers):
            if layer.key:
                heads = self.number("attention.head_count", layer=index)
                shared = heads // max(self.number("attention.head_count_kv", heads, layer=index), 1)
                seen = min(tokens, window) if layer.kind == "sliding" else tokens
                # MLA takes the values from the keys.
                total += seen * shared * (layer.key + (layer.value or layer.key))
        return total

    @property
    def state_numbers(self) -> int:
        """Numbers of one linear layer's state for one sequence: the convolution's and the recurrence's (n_embd_r and
        n_embd_s of src/llama-hparams.cpp)."""
        inner, state = self.number("ssm.inner_size", 0), self.number("ssm.state_size", 0)
        kernel, groups = self.number("ssm.conv_kernel", 0), self.number("ssm.group_count", 0)
        return max(kernel - 1, 0) * (inner + 2 * groups * state) + state * inner

    @property
    def experts_used(self) -> int:
        """Experts that one token goes through; 0 for a dense model."""
        return self.number("expert_used_count", 0)

    def _expert_parameters(self) -> tuple[int, int]:
        """Parameters of all routed experts, and of those that one token uses."""
        inner = self.number("expert_feed_forward_length", 0)
        count = self.layers_count - self.number("leading_dense_block_count", 0)
        one = 3 * self.width * inner * max(count, 0)
        return one * self.number("expert_count", 0), one * self.experts_used

    @property
    def expert_share(self) -> float:
        """The routed experts' share of the parameters, 0 to 1. They cost least in main memory."""
        total, _ = self.parameters
        return self._expert_parameters()[0] / total if total else 0.0

    @cached_property
    def parameters(self) -> tuple[int, int]:
        """All parameters, and those that one token goes through; counted from the shape, without norms and biases."""
        experts, used = self._expert_parameters()
        dense_layers = self.number("leading_dense_block_count", 0) if experts else self.layers_count
        rest = 3 * self.width * self.number("feed_forward_length", 0) * dense_layers
        if experts and self.name == "gemma4":  # each layer has a dense network beside its experts
            rest = 3 * self.width * self.number("feed_forward_length", 0) * self.layers_count
        shared = self.number("expert_shared_feed_forward_length", 0)
        shared = shared or self.number("expert_feed_forward_length", 0) * self.number("expert_shared_count", 0)
        rest += 3 * self.width * shared * self.layers_count
        for index in range(self.layers_count):
            rest += self._attention_parameters(index)
        output = self.output_parameters
        embedding = 0 if self.tied else output
        return experts + rest + output + embedding, used + rest + output

    def _attention_parameters(self, index: int) -> int:
        layer, heads = self.layer(index), self.number("attention.head_count", layer=index)
        if layer.kind == "linear":
            inner = self.number("ssm.inner_size")
            keys = 2 * self.number("ssm.group_count") * self.number("ssm.state_size")
            return self.width * (3 * inner + keys)
        if self.latent:
            rank, q_rank = self.number("attention.kv_lora_rank"), self.number("attention.q_lora_rank", 0)
            key, value = self.number("attention.key_length_mla"), self.number("attention.value_length_mla")
            queries = q_rank * (self.width + heads * key) if q_rank else self.width * heads * key
            return queries + self.width * layer.key + heads * (rank * (key + value) + value * self.width)
        head = layer.key // max(self.number("attention.head_count_kv", heads, layer=index), 1)
        gate = 2 if self.name in HYBRID else 1
        return self.width * (heads * head * (1 + gate) + layer.key + layer.value)


def from_header(header: Header) -> Architecture:
    """The shape in a GGUF file's header."""
    name = header.architecture
    prefix = f"{name}."
    keys: dict[str, Any] = {
        key[len(prefix) :]: value
        for key, value in {**header.metadata, **header.arrays}.items()
        if key.startswith(prefix)
    }
    vocabulary = keys.get("vocab_size")
    if not isinstance(vocabulary, int):
        vocabulary = header.lengths.get("tokenizer.ggml.tokens", 0)
    tied = header.embedding_bytes > 0 and not header.output
    return Architecture(name, vocabulary, keys, tied)


@cache
def shipped() -> dict[str, Architecture]:
    """The records of architectures.json; each names where its numbers come from."""
    raw = json.loads(DATA.read_text(encoding="utf-8"))
    return {
        name: Architecture(record["architecture"], record["vocabulary"], record["keys"], record.get("tied", False))
        for name, record in raw.items()
    }
