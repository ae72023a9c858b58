"""A GGUF in a real model's shape with random quantised weights: as fast and as big as the real one, and no use.

The shape is a record of claude_local/models/architectures.json, the tokenizer that of another GGUF. Random bits in
every block, so that nothing is faster than with real weights; a random router, because zeros would send every token to
the same experts.
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Iterator
from pathlib import Path

from claude_local.models.architecture import DATA
from tests.models.gguf_file import text, value
from tests.sparse_models import FILLER, SECTIONS, tensors

F32, Q8_0, Q4_K, Q6_K, MXFP4 = 0, 8, 12, 14, 39
# Numbers and bytes of one block.
BLOCK = {Q8_0: (32, 34), Q4_K: (256, 144), Q6_K: (256, 210), MXFP4: (32, 17)}
TILE = 4096
# Bytes of the simple types of GGUF, by their number.
WIDTH = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING = 8


def _end(data: bytes, kind: int, at: int) -> int:
    """The offset behind a value of GGUF's type ``kind``."""
    if kind in WIDTH:
        return at + WIDTH[kind]
    if kind == STRING:
        return at + 8 + int.from_bytes(data[at : at + 8], "little")
    inner, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner in WIDTH:
        return at + WIDTH[inner] * int(count)
    for _ in range(count):
        at = _end(data, inner, at)
    return at


def _tokenizer(donor: Path, vocabulary: int) -> list[tuple[str, bytes]]:
    """The donor's tokenizer: key -> type and value as they stand in the file, filled up to ``vocabulary`` tokens."""
    with donor.open("rb") as file:
        data = file.read(16 << 20)
    at, found = 24, []
    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        length = int.from_bytes(data[at : at + 8], "little")
        key = data[at + 8 : at + 8 + length].decode()
        start = at + 8 + length
        at = _end(data, struct.unpack_from("<I", data, start)[0], start + 4)
        raw = data[start:at]
        if key in ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type"):
            kind, inner, count = struct.unpack_from("<IIQ", raw)
            more = range(max(0, vocabulary - count))
            fill = (
                b"".join(text(f"<|filler_{n}|>") for n in more) if inner == STRING else struct.pack("<i", 5) * len(more)
            )
            raw = struct.pack("<IIQ", kind, inner, count + len(more)) + raw[16:] + fill
        if key.startswith("tokenizer."):
            found.append((key, raw))
    return found


def _kind(architecture: str, name: str, shape: tuple[int, ...]) -> int:
    """The type that a Q4_K_M file (gpt-oss: MXFP4) has for this tensor, near enough."""
    if len(shape) == 1 or "ffn_gate_inp" in name or name.endswith(".bias") or shape[0] % 32:
        return F32
    if architecture == "gpt-oss" and "_exps.weight" in name:
        return MXFP4
    if shape[0] % 256:
        return Q8_0
    # A Q4_K_M file has Q6_K there in half of its layers. Here it is every second one, so a few layers are like all.
    more_bits = ("attn_v" in name or "ffn_down" in name) and int(name.split(".")[1]) % 2
    return Q6_K if more_bits or name == "output.weight" else Q4_K


def _tile(kind: int) -> bytes:
    """TILE blocks of random bits with a small scale, so that no number overflows."""
    _, size = BLOCK[kind]
    data = bytearray(random.randbytes(size * TILE))
    scale = struct.pack("<e", 0.0003)
    for at in range(0, len(data), size):
        if kind == Q4_K:
            data[at : at + 4] = scale * 2
        elif kind == Q6_K:
            data[at + size - 2 : at + size] = scale
        elif kind == Q8_0:
            data[at : at + 2] = scale
        else:
            data[at] = 120
    return bytes(data)


def _content(name: str, kind: int, size: int, tiles: dict[int, bytes]) -> Iterator[bytes]:
    if kind == F32:
        count = size // 4
        if "norm" in name:
            yield struct.pack("<f", 1.0) * count
        elif "ffn_gate_inp.weight" in name:
            yield struct.pack(f"<{count}f", *(random.uniform(-0.1, 0.1) for _ in range(count)))
        else:
            yield bytes(size)
        return
    if kind not in tiles:
        tiles[kind] = _tile(kind)
    tile = tiles[kind]
    for at in range(0, size, len(tile)):
        yield tile[: size - at]


def write(path: Path, record: str, donor: Path, layers: int | None = None) -> int:
    """Write the model with the first ``layers`` of its layers (None: all); the bytes of its tensors."""
    random.seed(1)
    known = json.loads(DATA.read_text())[record]
    architecture, vocabulary, keys = known["architecture"], known["vocabulary"], dict(known["keys"])
    if layers:
        # Some keys list all layers. The layers that predict further tokens (nextn) count, but are not loaded.
        whole, keys["block_count"] = keys["block_count"], layers + keys.get("nextn_predict_layers", 0)
        keys = {
            key: each[: keys["block_count"]] if isinstance(each, list) and len(each) == whole else each
            for key, each in keys.items()
        }
    filler = {**FILLER, **(SECTIONS if architecture in ("qwen35", "qwen35moe") else {})}
    if "attention.key_length_swa" in keys:
        filler["rope.dimension_count_swa"] = keys["attention.key_length_swa"]
    metadata = [("general.architecture", value(architecture)), (f"{architecture}.vocab_size", value(vocabulary))]
    metadata += [(f"{architecture}.{key}", value(content)) for key, content in {**filler, **keys}.items()]
    metadata += _tokenizer(donor, vocabulary)
    listed = tensors(architecture, keys, vocabulary, tied=bool(known.get("tied")))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(metadata))
    head += b"".join(text(key) + raw for key, raw in metadata)
    places, offset = [], 0
    for name, shape in listed:
        kind = _kind(architecture, name, shape)
        numbers = math.prod(shape)
        size = numbers * 4 if kind == F32 else numbers // BLOCK[kind][0] * BLOCK[kind][1]
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", kind, offset)
        places.append((name, kind, size, offset))
        offset += -(-size // 32) * 32
    head += bytes(-len(head) % 32)
    tiles: dict[int, bytes] = {}
    with path.open("wb") as file:
        file.write(head)
        for name, kind, size, at in places:
            file.seek(len(head) + at)
            for piece in _content(name, kind, size, tiles):
                file.write(piece)
        file.truncate(len(head) + offset)
    return offset
