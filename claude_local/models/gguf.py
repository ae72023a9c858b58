"""Read the header of a GGUF file: what the model is, and how long the file must be. Standard library only.

The file is untrusted input: every length is bounded before anything is read or allocated, and whatever is wrong comes
out as a :class:`GgufError`. Format: docs/gguf.md of the ggml project; sizes of the tensor types: ``ggml_blck_size`` and
``ggml_type_size`` of llama.cpp b11434, printed by a small program linked with it.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

MAGIC = b"GGUF"

# Bounds, all far above what real models hold (the largest seen: 1,100 tensors, 60 keys, 260,000 tokens, a 20 kB
# template).
MAX_TENSORS = 1 << 20
MAX_KEYS = 1 << 16
MAX_ELEMENTS = 1 << 24
MAX_KEY_BYTES = 1 << 16
MAX_STRING_BYTES = 1 << 24
MAX_HEADER_BYTES = 1 << 27
MAX_DIMENSIONS = 4
# Arrays up to this length are kept: one value a layer fits, a vocabulary does not.
MAX_KEPT_ELEMENTS = 1024
MAX_FILE_BYTES = 1 << 60

# Scalar value types of metadata: type number -> struct format.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9

# Tensor types: number -> (elements a block, bytes a block).
TENSOR_TYPES = {
    0: (1, 4),  # f32
    1: (1, 2),  # f16
    2: (32, 18),  # q4_0
    3: (32, 20),  # q4_1
    6: (32, 22),  # q5_0
    7: (32, 24),  # q5_1
    8: (32, 34),  # q8_0
    9: (32, 36),  # q8_1
    10: (256, 84),  # q2_K
    11: (256, 110),  # q3_K
    12: (256, 144),  # q4_K
    13: (256, 176),  # q5_K
    14: (256, 210),  # q6_K
    15: (256, 292),  # q8_K
    16: (256, 66),  # iq2_xxs
    17: (256, 74),  # iq2_xs
    18: (256, 98),  # iq3_xxs
    19: (256, 50),  # iq1_s
    20: (32, 18),  # iq4_nl
    21: (256, 110),  # iq3_s
    22: (256, 82),  # iq2_s
    23: (256, 136),  # iq4_xs
    24: (1, 1),  # i8
    25: (1, 2),  # i16
    26: (1, 4),  # i32
    27: (1, 8),  # i64
    28: (1, 8),  # f64
    29: (256, 56),  # iq1_m
    30: (1, 2),  # bf16
    34: (256, 54),  # tq1_0
    35: (256, 66),  # tq2_0
    39: (32, 17),  # mxfp4
    40: (64, 36),  # nvfp4
    41: (128, 18),  # q1_0
    42: (64, 18),  # q2_0
}

Scalar = int | float | bool | str


class GgufError(ValueError):
    """A file that is no usable GGUF. ``kind``: "not-gguf", "truncated" or "nonsense". The message has the details."""

    def __init__(self, kind: Literal["not-gguf", "truncated", "nonsense"], message: str) -> None:
        self.kind = kind
        super().__init__(message)


@dataclass(frozen=True)
class Header:
    """The header of a GGUF file. ``file_bytes`` and ``expected_bytes`` count bytes, lengths count tokens.

    ``expected_bytes`` is where the last tensor ends; a file may be a little longer (padding), never shorter.
    ``metadata`` holds every scalar and string key, ``arrays`` the short arrays of numbers (one entry a layer, say) and
    ``lengths`` how many elements each array has. ``embedding_bytes``: the tensor token_embd.weight, 0 when it is not in
    this file; ``output``: whether output.weight is (else the embedding serves twice).
    """

    version: int
    tensor_count: int
    file_bytes: int
    expected_bytes: int
    metadata: dict[str, Scalar]
    arrays: dict[str, list[Scalar]] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    embedding_bytes: int = 0
    output: bool = False

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the model's architecture, like ``qwen2``."""
        return str(self.metadata["general.architecture"])

    @property
    def chat_template(self) -> str | None:
        """The Jinja template of a conversation; None without one."""
        value = self.metadata.get("tokenizer.chat_template")
        return value if isinstance(value, str) else None


class _Reader:
    """Sequential little-endian reads that never pass the end of the file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.size = size
        self.position = 0

    def need(self, count: int, what: str) -> None:
        if count > self.size - self.position:
            raise GgufError(
                "truncated",
                f"truncated: {what} needs {self.position + count} bytes, the file has {self.size}",
            )
        if self.position + count > MAX_HEADER_BYTES:
            raise GgufError("nonsense", f"nonsense in the header: it is longer than {MAX_HEADER_BYTES} bytes")

    def bytes(self, count: int, what: str) -> bytes:
        self.need(count, what)
        data = self.file.read(count)
        if len(data) != count:
            raise GgufError("truncated", f"truncated: {what} ends after {self.position + len(data)} bytes")
        self.position += count
        return data

    def skip(self, count: int, what: str) -> None:
        self.need(count, what)
        self.position += count
        self.file.seek(self.position)

    def unpack(self, form: str, what: str) -> Scalar:
        value: Scalar = struct.unpack("<" + form, self.bytes(struct.calcsize("<" + form), what))[0]
        return value

    def integer(self, form: str, what: str) -> int:
        return int(self.unpack(form, what))

    def count(self, form: str, limit: int, what: str) -> int:
        value = self.integer(form, what)
        if value > limit:
            raise GgufError("nonsense", f"nonsense in the header: {what} is {value}, at most {limit} makes sense")
        return value


def _string(reader: _Reader, limit: int, what: str) -> str:
    length = reader.count("Q", limit, f"length of {what}")
    return reader.bytes(length, what).decode("utf-8", errors="replace")


def _array(reader: _Reader, key: str) -> tuple[int, list[Scalar] | None]:
    """How long an array is, and its values when they are few and numbers."""
    kind = reader.integer("I", f"element type of {key}")
    count = reader.count("Q", MAX_ELEMENTS, f"number of elements of {key}")
    if kind in SCALARS:
        size = count * struct.calcsize("<" + SCALARS[kind])
        if count <= MAX_KEPT_ELEMENTS:
            return count, list(struct.unpack(f"<{count}{SCALARS[kind]}", reader.bytes(size, key)))
        reader.skip(size, key)
    elif kind == STRING:
        reader.need(count * 8, key)
        for _ in range(count):
            reader.skip(reader.count("Q", MAX_STRING_BYTES, f"length of a string of {key}"), key)
    else:
        raise GgufError("nonsense", f"nonsense in the header: {key} is an array of type {kind}")
    return count, None


def _extents(reader: _Reader, count: int) -> tuple[int, dict[str, int]]:
    """The bytes from the start of the data section to the end of the last tensor, and those of the vocabulary's."""
    end = 0
    vocabulary = {}
    for _ in range(count):
        name = _string(reader, MAX_KEY_BYTES, "a tensor's name")
        dimensions = reader.count("I", MAX_DIMENSIONS, f"number of dimensions of tensor {name[:64]!r}")
        elements = 1
        row = 1
        for index in range(dimensions):
            length = reader.integer("Q", f"shape of tensor {name[:64]!r}")
            row = length if index == 0 else row
            elements *= length
        kind = reader.integer("I", f"type of tensor {name[:64]!r}")
        offset = reader.integer("Q", f"offset of tensor {name[:64]!r}")
        # A type that this table does not know (a newer llama.cpp): its offset still bounds the file from below.
        block, size = TENSOR_TYPES.get(kind, (1, 0))
        if kind in TENSOR_TYPES and row % block:
            raise GgufError(
                "nonsense", f"nonsense in the header: tensor {name[:64]!r} has rows of {row}, no multiple of {block}"
            )
        last = offset + elements // block * size
        if last > MAX_FILE_BYTES:
            raise GgufError("nonsense", f"nonsense in the header: tensor {name[:64]!r} ends at byte {last}")
        end = max(end, last)
        if name in ("token_embd.weight", "output.weight"):
            vocabulary[name] = last - offset
    return end, vocabulary


def read(file: BinaryIO) -> Header:
    """Parse the header of a GGUF file (version 2 or 3, little-endian) from a seekable binary file.

    Raises GgufError when it is no GGUF, when it ends before its last tensor, or when a number in it makes no sense.
    Takes about 0.3 s for a vocabulary of 150,000 tokens. Never reads the tensors.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    reader = _Reader(file, size)
    version = _version(reader)
    tensors = reader.count("Q", MAX_TENSORS, "the number of tensors")
    metadata, arrays, lengths = _keys(reader)
    split = metadata.get("split.count", 0)
    if tensors == 0 and not (isinstance(split, int) and split > 1):
        raise GgufError("nonsense", "the file holds no tensors (a vocabulary only?)")
    end, vocabulary = _extents(reader, tensors)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or isinstance(alignment, bool) or not 1 <= alignment <= 1 << 20:
        raise GgufError("nonsense", f"nonsense in the header: general.alignment is {alignment!r}")
    data_start = -(-reader.position // alignment) * alignment
    expected = data_start + end if tensors else reader.position
    if size < expected:
        raise GgufError("truncated", f"truncated: {size} bytes, the tensors end at {expected}")
    return Header(
        version,
        tensors,
        size,
        expected,
        metadata,
        arrays,
        lengths,
        embedding_bytes=vocabulary.get("token_embd.weight", 0),
        output="output.weight" in vocabulary,
    )


def _version(reader: _Reader) -> int:
    """The version after the magic bytes. Raises GgufError for any other file and for versions that cannot be read."""
    magic = reader.file.read(4)
    if magic != MAGIC:
        start = magic.decode("ascii", errors="replace")
        message = f"not a GGUF file: it starts with {start!r} instead of 'GGUF' ({reader.size} bytes)"
        raise GgufError("not-gguf", message)
    reader.position = 4
    version = reader.integer("I", "the version")
    if version not in (2, 3):
        swapped = version & 0xFFFF == 0 and version != 0
        hint = "big-endian" if swapped else f"version {version}"
        raise GgufError("nonsense", f"a GGUF of {hint}; versions 2 and 3, little-endian, can be read")
    return version


def _keys(reader: _Reader) -> tuple[dict[str, Scalar], dict[str, list[Scalar]], dict[str, int]]:
    """The metadata: scalars and strings, short arrays, and the length of each array."""
    metadata: dict[str, Scalar] = {}
    arrays: dict[str, list[Scalar]] = {}
    lengths: dict[str, int] = {}
    for _ in range(reader.count("Q", MAX_KEYS, "the number of metadata keys")):
        key = _string(reader, MAX_KEY_BYTES, "a metadata key")
        kind = reader.integer("I", f"type of {key[:64]!r}")
        if kind in SCALARS:
            metadata[key] = reader.unpack(SCALARS[kind], repr(key[:64]))
        elif kind == STRING:
            metadata[key] = _string(reader, MAX_STRING_BYTES, repr(key[:64]))
        elif kind == ARRAY:
            lengths[key], values = _array(reader, repr(key[:64]))
            if values is not None:
                arrays[key] = values
        else:
            raise GgufError("nonsense", f"nonsense in the header: {key[:64]!r} has the unknown type {kind}")
    if not isinstance(metadata.get("general.architecture"), str):
        raise GgufError("nonsense", "nonsense in the header: general.architecture is missing")
    return metadata, arrays, lengths


def problem(path: str) -> str | None:
    """Why the file at ``path`` is no sound GGUF; None when it is sound. Raises OSError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            read(file)
    except GgufError as error:
        return str(error)
    return None
