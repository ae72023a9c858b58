"""A GGUF of one or two megabytes that generates prepared texts, to test the real llama-server without real weights.

The model knows a list of scripts. When a prompt contains the marker of a script (:func:`marker`), the model generates
the script's text, whatever else the prompt says. So a test decides what "the model" writes, and llama-server does the
rest, from lazy grammars to tool_use blocks. It is one layer of the llama architecture with one head:

* Ordinary text consists of bytes and merges, which all have the same embedding and lead to nothing. A marker has a
  dimension of its own. The head has no queries, so it averages over the whole prompt, and its values keep only the
  markers' dimensions: they tell which marker the prompt contains.
* A script is a chain of tokens that occur nowhere else. The output layer maps a marker's dimension to the first token
  of its script, each token of a chain to the next one, and the last to the end of the turn. A link of the chain is a
  hundred times stronger than a marker.

At temperature 0 the result is exact, because every other token has a logit of 0.
"""

from __future__ import annotations

import random
import re
import struct
from array import array
from collections import Counter
from collections.abc import Sequence
from functools import cache
from math import prod

from tests.models.gguf_file import F32, gguf

# Numbers of dimensions: of the markers (also the head's), and of the space that distinguishes the tokens of the chains.
MARKERS, SPACE, FEED = 16, 384, 16
# The markers' dimensions start here. In dimension 0 every token has a 1, the others below are 0.
BEFORE = 16
WIDTH = BEFORE + MARKERS + SPACE
# A piece of a script has at least this many characters, more when it would not be unique.
PIECE = 5
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
END = "<|tiny-end|>"
CONTEXT = 1 << 17


def marker(number: int) -> str:
    """The text in a prompt that makes the model generate script ``number``."""
    return f"[[play:{number:02d}]]"


def byte_letters() -> dict[int, str]:
    """The letter for each byte in a vocabulary like GPT-2's: the byte itself when it is printable."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + place) for place, byte in enumerate(others)}


def in_letters(text: str) -> str:
    """The text's UTF-8 bytes as letters of the vocabulary."""
    letters = byte_letters()
    return "".join(letters[byte] for byte in text.encode())


@cache
def merges(text: str, words: int = 1500) -> list[tuple[str, str]]:
    """Merges of byte-pair encoding that make one token of each of a text's most frequent words, letter by letter.

    They turn a prompt of tens of thousands of characters into few tokens.
    """
    frequent = Counter(re.findall(r" ?[A-Za-z_]{2,}", text)).most_common(words)
    pairs: dict[tuple[str, str], None] = {}
    for word, _ in frequent:
        letters = in_letters(word)
        for end in range(1, len(letters)):
            pairs[letters[:end], letters[end]] = None
    return list(pairs)


def pieces(script: str, taken: set[str]) -> list[str]:
    """Cut ``script`` into pieces that are not in ``taken``, and add them to it. Raises ValueError if none fit."""
    cut: list[str] = []
    at = 0
    while at < len(script):
        end = at + PIECE
        while end < len(script) and (script[at:end] in taken or len(script) - end < PIECE):
            end += 1
        piece = script[at:end]
        while piece in taken and cut:
            taken.discard(cut[-1])
            piece = cut.pop() + piece
        if piece in taken:
            raise ValueError(f"{script!r} is a piece of another script")
        taken.add(piece)
        cut.append(piece)
        at = end
    return cut


def tiny_model(scripts: Sequence[str], corpus: str = "") -> bytes:
    """The GGUF. ``scripts`` are at most 16 texts that are not empty, ``corpus`` is text like the prompts'."""
    if len(scripts) > MARKERS:
        raise ValueError(f"{len(scripts)} scripts, {MARKERS} is the limit")
    joined = merges(corpus)
    tokens = list(dict.fromkeys([*byte_letters().values(), *("".join(pair) for pair in joined)]))
    plain = len(tokens)
    kinds = [NORMAL] * plain + [CONTROL] + [USER_DEFINED] * len(scripts)
    end = plain
    tokens += [END, *(marker(number) for number in range(len(scripts)))]
    taken = set(tokens)
    chains = []
    for script in scripts:
        cut = pieces(in_letters(script), taken)
        chains.append(range(len(tokens), len(tokens) + len(cut)))
        tokens += cut
        kinds += [NORMAL] * len(cut)
    dice = random.Random(1)
    embedding = array("f", bytes(4 * WIDTH * len(tokens)))
    output = array("f", bytes(4 * WIDTH * len(tokens)))
    for token in range(len(tokens)):
        embedding[token * WIDTH] = 1.0
    for number, chain in enumerate(chains):
        embedding[(end + 1 + number) * WIDTH + BEFORE + number] = 1.0
        output[chain[0] * WIDTH + BEFORE + number] = 1.0
        for token, following in zip(chain, [*chain[1:], end], strict=True):
            place, then = token * WIDTH + BEFORE + MARKERS, following * WIDTH + BEFORE + MARKERS
            for offset in range(SPACE):
                weight = dice.choice((-1.0, 1.0)) / SPACE**0.5
                embedding[place + offset] = weight
                output[then + offset] += 100.0 * weight
    head = array("f", bytes(4 * WIDTH * MARKERS))
    back = array("f", bytes(4 * WIDTH * MARKERS))
    for number in range(MARKERS):
        head[number * WIDTH + BEFORE + number] = 1.0
        back[(BEFORE + number) * MARKERS + number] = 1.0
    ones = array("f", [1.0] * WIDTH)
    nothing, feed = array("f", bytes(4 * WIDTH * MARKERS)), array("f", bytes(4 * WIDTH * FEED))
    tensors = {
        "token_embd.weight": ((WIDTH, len(tokens)), embedding),
        "output.weight": ((WIDTH, len(tokens)), output),
        "output_norm.weight": ((WIDTH,), ones),
        "blk.0.attn_norm.weight": ((WIDTH,), ones),
        "blk.0.ffn_norm.weight": ((WIDTH,), ones),
        "blk.0.attn_q.weight": ((WIDTH, MARKERS), nothing),
        "blk.0.attn_k.weight": ((WIDTH, MARKERS), nothing),
        "blk.0.attn_v.weight": ((WIDTH, MARKERS), head),
        "blk.0.attn_output.weight": ((MARKERS, WIDTH), back),
        "blk.0.ffn_gate.weight": ((WIDTH, FEED), feed),
        "blk.0.ffn_up.weight": ((WIDTH, FEED), feed),
        "blk.0.ffn_down.weight": ((FEED, WIDTH), feed),
    }
    metadata: dict[str, object] = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": 1,
        "llama.feed_forward_length": FEED,
        "llama.attention.head_count": 1,
        "llama.attention.head_count_kv": 1,
        "llama.attention.key_length": MARKERS,
        "llama.attention.value_length": MARKERS,
        "llama.rope.dimension_count": MARKERS,
        "llama.attention.layer_norm_rms_epsilon": 1e-6,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in joined] or ["a b"],
        "tokenizer.ggml.bos_token_id": end,
        "tokenizer.ggml.eos_token_id": end,
        "tokenizer.ggml.add_bos_token": False,
    }
    return assemble(metadata, tensors)


def assemble(metadata: dict[str, object], tensors: dict[str, tuple[tuple[int, ...], array[float]]]) -> bytes:
    """A GGUF file with these tensors: name -> (shape, numbers)."""
    offset, listed, data = 0, [], []
    for name, (shape, numbers) in tensors.items():
        raw = struct.pack(f"<{len(numbers)}f", *numbers)
        raw += b"\0" * (-len(raw) % 32)
        listed.append((name, shape, F32, offset))
        offset += len(raw)
        data.append(raw)
    return gguf(metadata, listed, data=0) + b"".join(data)


def tiny_projector(size: int = 32, patch: int = 16, width: int = 32) -> bytes:
    """A projector of llava's kind for the tiny model, for pictures of ``size`` pixels, with weights of 0."""

    def nothing(*shape: int) -> tuple[tuple[int, ...], array[float]]:
        return shape, array("f", bytes(4 * prod(shape)))

    tensors = {
        "v.patch_embd.weight": nothing(patch, patch, 3, width),
        "v.position_embd.weight": nothing(width, (size // patch) ** 2),
        "v.blk.0.ln1.weight": nothing(width),
        "v.blk.0.ln2.weight": nothing(width),
        "v.blk.0.ffn_up.weight": nothing(width, width),
        "v.blk.0.ffn_down.weight": nothing(width, width),
        "mm.0.weight": nothing(width, WIDTH),
        "mm.0.bias": nothing(WIDTH),
        "mm.2.weight": nothing(WIDTH, WIDTH),
        "mm.2.bias": nothing(WIDTH),
    }
    tensors |= {f"v.blk.0.attn_{part}.weight": nothing(width, width) for part in ("q", "k", "v", "out")}
    metadata: dict[str, object] = {
        "general.architecture": "clip",
        "clip.has_vision_encoder": True,
        "clip.projector_type": "mlp",
        "clip.vision.image_size": size,
        "clip.vision.patch_size": patch,
        "clip.vision.embedding_length": width,
        "clip.vision.feed_forward_length": width,
        "clip.vision.block_count": 1,
        "clip.vision.projection_dim": WIDTH,
        "clip.vision.attention.head_count": 1,
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
    }
    return assemble(metadata, tensors)
