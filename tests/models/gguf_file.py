"""Small GGUF files made for tests."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

F32, Q4_K = 0, 12


def text(value: str | bytes) -> bytes:
    """A string as GGUF writes it."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def value(content: object) -> bytes:
    """A metadata value with its type. Raises TypeError for a type that no test needs."""
    if isinstance(content, bool):
        return struct.pack("<I?", 7, content)
    if isinstance(content, int):
        return struct.pack("<II", 4, content)
    if isinstance(content, float):
        return struct.pack("<If", 6, content)
    if isinstance(content, str):
        return struct.pack("<I", 8) + text(content)
    if isinstance(content, list) and content and isinstance(content[0], bool):
        return struct.pack("<IIQ", 9, 7, len(content)) + bytes(content)
    if isinstance(content, list) and content and isinstance(content[0], str):
        return struct.pack("<IIQ", 9, 8, len(content)) + b"".join(text(item) for item in content)
    if isinstance(content, list) and content and isinstance(content[0], float):
        return struct.pack("<IIQ", 9, 6, len(content)) + struct.pack(f"<{len(content)}f", *content)
    if isinstance(content, list):
        return struct.pack("<IIQ", 9, 5, len(content)) + struct.pack(f"<{len(content)}i", *content)
    raise TypeError(content)


def gguf(
    metadata: Mapping[str, object] | None = None,
    tensors: Sequence[tuple[str, Sequence[int], int, int]] = (("token_embd.weight", (256, 8), F32, 0),),
    data: int | None = None,
    version: int = 3,
    filler: bytes = b"\x5a",
) -> bytes:
    """A GGUF with the metadata (plus an architecture) and the tensors (name, shape, type, offset).

    ``data`` bytes follow the header, by default just enough for the default tensor.
    """
    keys: dict[str, object] = {"general.architecture": "test", **(metadata or {})}
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    for key, content in keys.items():
        out += text(key) + value(content)
    for name, shape, kind, offset in tensors:
        out += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        out += struct.pack("<IQ", kind, offset)
    out += b"\0" * (-len(out) % 32)
    return out + filler * (256 * 8 * 4 if data is None else data)


def model(size: int, filler: bytes = b"\x5a") -> bytes:
    """A sound GGUF of about ``size`` bytes: one f32 tensor."""
    rows = max(size // 1024, 1)
    return gguf(tensors=[("token_embd.weight", (256, rows), F32, 0)], data=256 * 4 * rows, filler=filler)
