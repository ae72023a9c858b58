"""What llama-server's log means: its informative lines, and what to try after a failure. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# In the router's line about each request that it hands on; a look at the slots is one.
PROXIED = "proxy_reques: proxying request to model"
SMALLER = "give the profile a smaller CTX_SIZE"
# A model's process (b11434 with files/image/patches) writes its conversations between the first of these and another.
_ASKED_TO_END, _SAVED = "exit command received", ("cleaning up before exit", "exited with status")

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


def saving(log: Sequence[str]) -> bool:
    """Whether a model that must end is still writing its conversations to files, by these last lines."""
    for line in reversed(log):
        if any(each in line for each in _SAVED):
            return False
        if _ASKED_TO_END in line:
            return True
    return False


def last_messages(log: Iterable[str], count: int = 12) -> list[str]:
    """The last ``count`` different messages, without timestamps and without the list of a model's arguments."""
    messages: list[str] = []
    for line in log:
        message = re.sub(r"^(?:\[\d+\] )?[\d.]+ ", "", line)
        if not re.match(r"I srv +load: +\S", message) and message not in messages:
            messages.append(message)
    return messages[-count:]
