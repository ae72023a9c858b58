"""How much memory llama-server needs for a model and a context, before the model is loaded or downloaded. Pure.

The parts are those of llama-server's own log: weights, KV cache (with the state of linear layers) and compute buffer.
Cache and state follow the constructors of src/llama-kv-cache*.cpp and src/llama-memory-recurrent.cpp of b11434 and come
out exactly; the compute buffer follows what was measured (docs/decisions/0009-choosing-a-profile.md has the table).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

from claude_local.models.architecture import Architecture

MIB = 1 << 20

# Bytes of 32 numbers in the types that -ctk and -ctv take (claude_local/models/gguf.py has their source).
CACHE_TYPES = {
    "f32": 128,
    "f16": 64,
    "bf16": 64,
    "q8_0": 34,
    "q5_1": 24,
    "q5_0": 22,
    "q4_1": 20,
    "q4_0": 18,
    "iq4_nl": 18,
}
# Sliding caches are padded to this many cells (llama-kv-cache-iswa.cpp); so is the whole context.
PADDING = 256
# Numbers a token that stay beside the feed-forward network's own, in widths of the model: measured (decision 0009).
RESIDUAL_WIDTHS = {"gpt-oss": 1}
USUAL_RESIDUAL_WIDTHS = 5
# MiB of a GPU's memory that the driver and the CUDA context take before the first tensor. Not measured here. Public
# logs, nvidia-smi's total less what llama.cpp finds free: 716 (RTX 3090), 642 (RTX 4070 Laptop), 561 (RTX 2000 Ada
# Laptop). Decision 0009 names them.
GPU_CONTEXT_MIB = 768
# A projector's graph, MiB: an allowance, not measured here.
PROJECTOR_COMPUTE_MIB = 512


@dataclass(frozen=True)
class Serving:
    """The options of llama-server that decide memory. ``context`` counts tokens over all slots."""

    context: int
    slots: int = 1
    unified: bool = False
    key_type: str = "f16"
    value_type: str = "f16"
    ubatch: int = 512
    flash_attention: bool = True
    full_window: bool = False

    @staticmethod
    def of(options: Mapping[str, str], context: int) -> Serving:
        """From preset options (canonical flag -> value), as ``presets.options`` makes them."""
        batch = int(options.get("batch-size", 2048))
        ubatch = min(int(options.get("ubatch-size", 512)), batch)
        return Serving(
            context=context,
            slots=max(int(options.get("parallel", 1)), 1),
            unified=options.get("kv-unified") == "true",
            key_type=options.get("cache-type-k", "f16"),
            value_type=options.get("cache-type-v", "f16"),
            ubatch=max(ubatch, 1),
            flash_attention=options.get("flash-attn", "auto") not in ("off", "false", "0", "disabled"),
            full_window=options.get("swa-full") == "true",
        )

    @property
    def tiled(self) -> bool:
        """Whether a processor reads the KV cache in tiles (ggml_compute_forward_flash_attn_ext_f16 of ggml-cpu). It
        reads other types a row at a time, which is slower."""
        return self.key_type == self.value_type and self.key_type in ("f16", "f32")

    @property
    def streams(self) -> int:
        """How many separate caches there are."""
        return 1 if self.unified else self.slots

    @property
    def cells(self) -> int:
        """Tokens that one cache holds."""
        per_slot = self.context if self.unified else self.context // self.slots
        return -(-per_slot // PADDING) * PADDING

    def window(self, tokens: int) -> int:
        """Tokens that one sliding layer's cache holds, for a window of ``tokens``."""
        if self.full_window:
            return self.cells
        kept = min(self.cells, tokens * (self.slots if self.unified else 1) + self.ubatch)
        return -(-kept // PADDING) * PADDING


@dataclass(frozen=True)
class Estimate:
    """Bytes. ``weights`` is everything in the model's files, ``embedding`` the part of it that stays in main memory
    whatever goes to a GPU, ``cache`` the KV cache and the linear layers' state, ``projector`` weights and graph of a
    vision projector."""

    weights: int
    embedding: int
    cache: int
    compute: int
    projector: int = 0

    @property
    def total(self) -> int:
        """Everything, bytes."""
        return self.weights + self.cache + self.compute + self.projector

    @property
    def on_gpu(self) -> int:
        """Bytes on the GPUs when all layers are there, without the compute buffer that each GPU has."""
        return self.weights - self.embedding + self.cache + self.projector

    @staticmethod
    def sum(several: Sequence[Estimate]) -> Estimate | None:
        """What several models need together; None for none."""
        return Estimate(*map(sum, zip(*map(astuple, several), strict=True))) if several else None

    def mib(self) -> dict[str, int]:
        """The parts in MiB, rounded up, for people."""
        parts = {"weights": self.weights, "KV cache": self.cache, "compute": self.compute}
        if self.projector:
            parts["projector"] = self.projector
        return {name: -(-size // MIB) for name, size in parts.items()}

    def line(self) -> str:
        """``22.4 GiB = weights 20.6 + KV cache 1.5 + compute 0.3``"""
        parts = " + ".join(f"{name} {size / 1024:.1f}" for name, size in self.mib().items())
        return f"{gib(self.total)} = {parts}"


def gib(size: float) -> str:
    """Bytes as ``22.4 GiB``."""
    return f"{size / (1 << 30):.1f} GiB"


def cache_bytes(architecture: Architecture, serving: Serving) -> int:
    """The KV cache and the state of linear layers, bytes."""
    key, value = (_type_bytes(kind) for kind in (serving.key_type, serving.value_type))
    window = serving.window(architecture.number("attention.sliding_window", 0))
    layers = architecture.layers
    # Without flash attention values lie transposed, padded to the widest layer's (llama-kv-cache.cpp).
    widest = 0 if serving.flash_attention else max((layer.value for layer in layers), default=0)
    total = 0
    for layer in layers:
        if layer.kind == "linear":
            total += architecture.state_numbers * 4 * serving.slots
        elif layer.kind in ("full", "sliding"):
            cells = (window if layer.kind == "sliding" else serving.cells) * serving.streams
            values = max(layer.value, widest if layer.value else 0)
            total += cells * (layer.key * key + values * value) // 32
    return total


def _type_bytes(kind: str) -> int:
    """Bytes of 32 numbers; a type that is not known counts as f16."""
    return CACHE_TYPES.get(kind, CACHE_TYPES["f16"])


def compute_bytes(architecture: Architecture, serving: Serving) -> int:
    """The compute buffer of a batch of ``serving.ubatch`` tokens, bytes: the feed-forward network or, without flash
    attention, the scores of all heads, whichever is more, and the attention mask."""
    width, used = architecture.width, architecture.experts_used
    inner = 3 * architecture.number("feed_forward_length", 0)
    has_dense = used == 0 or architecture.number("leading_dense_block_count", 0) > 0
    if used:
        routed = used * (3 * architecture.number("expert_feed_forward_length", 0) + width)
        inner = max(routed, inner if has_dense else 0)
    network = inner + RESIDUAL_WIDTHS.get(architecture.name, USUAL_RESIDUAL_WIDTHS) * width
    masks = serving.cells
    window = architecture.number("attention.sliding_window", 0)
    if window:
        masks += serving.window(window)
    if serving.flash_attention:
        return serving.ubatch * (4 * network + 2 * masks)
    heads = max(architecture.number("attention.head_count", layer=i) for i in range(architecture.layers_count))
    layer = next((layer for layer in architecture.layers if layer.key), None)
    head = (layer.key // max(architecture.number("attention.head_count_kv", heads), 1)) if layer else 0
    scores = heads * serving.cells + 3 * heads * head + 3 * width
    return serving.ubatch * (4 * max(network, scores) + 4 * masks)


def estimate(
    architecture: Architecture,
    weights: int,
    serving: Serving,
    *,
    embedding: int | None = None,
    projector: int = 0,
) -> Estimate:
    """What a model needs. ``weights``: bytes of its files, ``embedding``: of the tensor token_embd.weight where the
    header is there (else its share by parameters), ``projector``: bytes of the projector's file.

    Raises ArchitectureError when the shape lacks a number.
    """
    if embedding is None:
        parameters, _ = architecture.parameters
        share = architecture.width * architecture.vocabulary
        # Serving twice, it is on the GPU too.
        embedding = 0 if architecture.tied or not parameters else weights * share // parameters
    return Estimate(
        weights=weights,
        embedding=embedding,
        cache=cache_bytes(architecture, serving),
        compute=compute_bytes(architecture, serving),
        projector=projector + PROJECTOR_COMPUTE_MIB * MIB if projector else 0,
    )


@dataclass(frozen=True)
class Share:
    """What one GPU would hold, in bytes. ``memory``: what it has. ``needed``: the model's part, the compute buffer, the
    CUDA context and ``margin``, which is left to others."""

    name: str
    memory: int
    needed: int
    margin: int


def shares(needed: Estimate, gpus: Sequence[tuple[str, int, int]]) -> tuple[list[Share], int]:
    """How a model that lies wholly on ``gpus`` is divided, and the bytes that are missing (negative: that stay free).

    ``gpus``: name, memory and margin in bytes. Layers go to GPUs by their room, as llama-server's --fit does it; each
    GPU has a whole compute buffer and a context of its own.
    """
    fixed = needed.compute + GPU_CONTEXT_MIB * MIB
    rooms = [max(memory - margin - fixed, 0) for _, memory, margin in gpus]
    room = sum(rooms)
    result = []
    for (name, memory, margin), own in zip(gpus, rooms, strict=True):
        # A GPU without room for more than its own gets no layers.
        held = needed.on_gpu * own // room if room else needed.on_gpu
        result.append(Share(name, memory, fixed + margin + held if held else 0, margin))
    return result, needed.on_gpu - room
