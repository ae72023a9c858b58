"""What llama-server's log means: its informative lines, and what to try after a failure. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

SMALLER = "give the profile a smaller CTX_SIZE"

# Regular expression for a message of llama-server (b11434) -> what helps. The first match counts.
_ADVICE = {
    "failed to open /etc/claude-local/api-key": (
        "the server's user cannot read its key: run ./provision, which writes the server's copy again"
    ),
    "ermission denied": (
        "the server's user cannot read a file: make the models readable for everybody "
        "(chmod o+r FILE, chmod o+x its folders)"
    ),
    "failed to open GGUF": "a model file is missing where the server looks: run tasks/models.py, then tasks/server.py",
    "invalid magic": (
        "a model file is damaged: run tasks/models.py, which names it and replaces it if the deploy downloaded it"
    ),
    "not within the file bounds": (
        "a model file is cut short: run tasks/models.py, which names it and replaces it if the deploy downloaded it"
    ),
    "not recognized in preset": (
        "this llama-server does not know a flag of models.conf: correct the profile that the line above names"
    ),
    # A GPU's buffers are named after it (CUDA0, Vulkan0). CUDA_Host is main memory.
    (
        r"cudaMalloc failed|CUDA error: out of memory|ErrorOutOfDeviceMemory|"
        r"Device memory allocation of size \d+ failed|"
        r"(?:unable|failed) to allocate (?:CUDA|Vulkan)\d"
    ): (
        f"the GPU has too little free memory: {SMALLER}, or set FIT = on and no N_GPU_LAYERS, "
        "or close other programs that use the GPU (llama-local hardware shows what is free)"
    ),
    "kernel image": (
        "the image does not fit the GPU: the driver is too old for it, or the GPU was changed. "
        "llama-local hardware shows both: update the driver, or build the image again with ./provision"
    ),
    "CUDA error|failed to initialize CUDA|ErrorDeviceLost": (
        "the GPU or its driver fails: llama-local hardware shows why; image_variant = 'cpu' runs without the GPU"
    ),
    "unable to allocate": f"there is too little memory: raise server_memory_mib, or {SMALLER}",
    "failed to load model": "try another default_profile, or a smaller CTX_SIZE in models.conf",
}


def advice(log: Iterable[str], container: str, *, out_of_memory: bool = False) -> str:
    """What to try after these last log lines. ``out_of_memory``: the kernel killed the server at its memory limit."""
    text = "\n".join(log)
    for message, fix in _ADVICE.items():
        if re.search(message, text):
            return fix
    # A child of the router holds the model. When the kernel kills it, it logs nothing itself.
    if out_of_memory or "exited with status" in text:
        return f"the model's process was killed, probably out of memory: raise server_memory_mib, or {SMALLER}"
    return f"if it only needs more time, raise server_start_timeout; docker logs {container} shows the whole log"


def last_messages(log: Iterable[str], count: int = 12) -> list[str]:
    """The last ``count`` different messages, without timestamps and without the list of a model's arguments."""
    messages: list[str] = []
    for line in log:
        message = re.sub(r"^(?:\[\d+\] )?[\d.]+ ", "", line)
        if not re.match(r"I srv +load: +\S", message) and message not in messages:
            messages.append(message)
    return messages[-count:]


@dataclass(frozen=True)
class Turn:
    """A request that was answered. ``cached``, ``computed``, ``decoded``: tokens of its prompt that were there, tokens
    that were read, and tokens of the answer. ``read_ms``, ``decode_ms``: milliseconds for the last two."""

    cached: int
    computed: int
    decoded: int
    read_ms: float
    decode_ms: float

    @property
    def seconds(self) -> float:
        """For reading and answering, without waiting."""
        return (self.read_ms + self.decode_ms) / 1000

    @property
    def read_speed(self) -> float | None:
        """Tokens of the prompt a second; None where too few were read to tell."""
        return self.computed / self.read_ms * 1000 if self.computed > 1 and self.read_ms else None

    @property
    def decode_speed(self) -> float | None:
        """Tokens of the answer a second; None for an answer of a single token."""
        return self.decoded / self.decode_ms * 1000 if self.decoded > 1 and self.decode_ms else None

    def as_data(self) -> dict[str, Any]:
        """For JSON, with both speeds."""
        return {**asdict(self), "read_speed": self.read_speed, "decode_speed": self.decode_speed}


# b11434 logs these lines of a request together. The slot holds the whole prompt and the answer but its last token.
_READ = re.compile(r"print_timing: id +(\d+) .*prompt eval time = +([\d.]+) ms / +(\d+) tokens")
_DECODE = re.compile(r"print_timing: id +(\d+) .*\|\s+eval time = +([\d.]+) ms / +(\d+) tokens")
_END = re.compile(r"release: id +(\d+) .*n_tokens = (\d+)")


def turns(log: Iterable[str]) -> list[Turn]:
    """The answered requests in these lines, the newest last."""
    found, read, decode = [], {}, {}
    for line in log:
        # The router puts the port of the model's process before its lines.
        model = line.partition("]")[0] if line.startswith("[") else ""
        if match := _READ.search(line):
            read[model, match[1]] = float(match[2]), int(match[3])
        elif match := _DECODE.search(line):
            decode[model, match[1]] = float(match[2]), int(match[3])
        elif (match := _END.search(line)) and (slot := (model, match[1])) in read and slot in decode:
            (read_ms, computed), (decode_ms, decoded) = read.pop(slot), decode.pop(slot)
            cached = max(0, int(match[2]) - computed - max(0, decoded - 1))
            found.append(Turn(cached, computed, decoded, read_ms, decode_ms))
    return found
