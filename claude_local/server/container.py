"""The server's container: the arguments of ``docker run``, and the hash that tells whether it must be made anew. Pure.

Everything that the server could do without is taken away: root, capabilities, a writable file system, new privileges,
the network but for one port on the loopback interface, the web page, downloads.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from claude_local.server.presets import CONFIGURATION, EXTRA_MODELS, MODELS

# The port inside the container; llama-server's default is about to change (its log says so), so it is always named.
PORT = 8080
# Who the server is when root deploys: nobody on the workstation.
UNPRIVILEGED = 10001
CONFIG_LABEL = "claude-local.config"

# llama-server keeps evicted prompts in host memory, 8192 MiB by default (b11434, --help); it has to fit the container.
CACHE_RAM_MIB = 8192


def owner(uid: int, gid: int) -> tuple[int, int]:
    """The container's uid and gid: the deploying user's own, who can read the models; never root."""
    return (uid, gid) if uid != 0 else (UNPRIVILEGED, UNPRIVILEGED)


def memory_limit_mib(setting: int, machine_mib: int) -> int:
    """The container's memory limit in MiB: the setting, or three quarters of the machine's memory."""
    return setting or max(1024, machine_mib * 3 // 4)


def cache_ram_mib(limit_mib: int) -> int:
    """How much of the limit the prompt cache may take, MiB: a quarter, at most llama-server's own default."""
    return min(CACHE_RAM_MIB, limit_mib // 4)


@dataclass(frozen=True)
class Container:
    """The container as it should be. Paths are the workstation's, ``port`` is on 127.0.0.1, ``memory_mib`` in MiB.

    ``search_dirs`` maps the position of a directory in the setting model_search_dirs to its path; only those that exist.
    ``gpu``: the options that give it the GPUs (claude_local.docker.gpus.gpu_options).
    """

    name: str
    image: str
    port: int
    uid: int
    gid: int
    memory_mib: int
    pids: int
    model_dir: str
    search_dirs: Mapping[int, str]
    server_dir: str
    gpu: tuple[str, ...] = ()

    def with_directories(self, present: Iterable[str]) -> Container:
        """The same container with those of its search directories that are present."""
        there = set(present)
        return replace(self, search_dirs={index: path for index, path in self.search_dirs.items() if path in there})

    def arguments(self) -> list[str]:
        """The words after ``docker run``, without the label that carries their hash."""
        # bash's own TCP, so that the image needs no HTTP client. /health needs no key.
        probe = (
            f'bash -c \'exec 3<>/dev/tcp/127.0.0.1/{PORT} && printf "GET /health HTTP/1.0\\r\\n\\r\\n" >&3 && '
            "read -r -t 5 -u 3 line && [[ $line == *200* ]]'"
        )
        # fmt: off
        words = [
            "--detach", "--pull", "never", "--name", self.name, "--init", "--restart", "unless-stopped",
            "--publish", f"127.0.0.1:{self.port}:{PORT}",
            "--user", f"{self.uid}:{self.gid}",
            "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
            "--memory", f"{self.memory_mib}m", "--pids-limit", str(self.pids),
            "--tmpfs", "/tmp:rw,noexec,nosuid,nodev,size=64m",
            "--env", "HOME=/tmp", "--env", "LLAMA_CACHE=/tmp/llama.cpp",
            # A router answers as soon as it runs; a model that loads for minutes is no sickness.
            "--health-cmd", probe, "--health-interval", "15s", "--health-timeout", "10s", "--health-retries", "5",
            "--health-start-period", "600s",
            "--log-driver", "json-file", "--log-opt", "max-size=10m", "--log-opt", "max-file=3",
        ]
        # --mount, not --volume: a directory that is missing is an error, not made.
        mounts = [(self.model_dir, MODELS), (self.server_dir, CONFIGURATION)]
        mounts += [(path, f"{EXTRA_MODELS}/{index}") for index, path in sorted(self.search_dirs.items())]
        for source, target in mounts:
            words += ["--mount", f'type=bind,"source={source}",target={target},readonly']
        return [
            *words, *self.gpu, self.image,
            "--models-preset", f"{CONFIGURATION}/presets.ini", "--models-max", "1",
            "--host", "0.0.0.0", "--port", str(PORT),
            "--api-key-file", f"{CONFIGURATION}/api-key", "--cors-origins", "http://localhost",
            "--offline", "--no-ui", "--metrics",
        ]
        # fmt: on

    def config(self, files: Mapping[str, str]) -> str:
        """The hash over the arguments and what the server reads at its start: ``files`` maps path -> sha256."""
        everything = json.dumps([self.arguments(), dict(files)], sort_keys=True)
        return hashlib.sha256(everything.encode()).hexdigest()[:16]

    def run(self, client: str, files: Mapping[str, str]) -> list[str]:
        """The whole command: ``docker run`` with the hash as a label."""
        return [client, "run", "--label", f"{CONFIG_LABEL}={self.config(files)}", *self.arguments()]


# What the server says when it cannot load, and what helps: the first pattern that is found counts. The messages are
# b11434's.
_ADVICE = (
    (
        "ermission denied",
        "the server's user cannot read a file: make the models readable for everybody (chmod o+r FILE, chmod o+x its folders)",
    ),
    (
        "failed to open GGUF",
        "a model file is missing where the server looks: run tasks/models.py, then tasks/server.py",
    ),
    (
        "invalid magic",
        "a model file is damaged: run tasks/models.py, which names it and replaces it if the deploy placed it",
    ),
    (
        "not within the file bounds",
        "a model file is cut short: run tasks/models.py, which names it and replaces it if the deploy placed it",
    ),
    (
        "not recognized in preset",
        "this llama-server does not know a flag of models.conf: correct the profile that the line above names",
    ),
    # A GPU's buffers are named after it; CUDA_Host is main memory.
    (
        r"cudaMalloc failed|CUDA error: out of memory|ErrorOutOfDeviceMemory|Device memory allocation of size \d+ failed|"
        r"(?:unable|failed) to allocate (?:CUDA|Vulkan)\d",
        "a GPU's own memory is too small for it: give the profile a smaller CTX_SIZE, or FIT = on and no N_GPU_LAYERS, "
        "or close what else uses the GPU (llama-local hardware shows what is free)",
    ),
    (
        "kernel image",
        "the image does not fit the GPU: the driver is too old for it, or the GPU was changed. "
        "llama-local hardware shows both: update the driver, or build anew with ./provision",
    ),
    (
        "CUDA error|failed to initialize CUDA|ErrorDeviceLost",
        "the GPU or its driver fails: llama-local hardware shows what is wrong; image_variant = 'cpu' does without",
    ),
    (
        "unable to allocate",
        "there is not enough memory: raise server_memory_mib, or give the profile a smaller CTX_SIZE",
    ),
    (
        "failed to load model",
        "try another profile: default_profile, or a smaller CTX_SIZE in models.conf",
    ),
)


def advice(log: Iterable[str], container: str, *, out_of_memory: bool = False) -> str:
    """What to try, from the server's last log lines; ``out_of_memory``: the kernel ended it for its memory limit."""
    text = "\n".join(log)
    for sign, what in _ADVICE:
        if re.search(sign, text):
            return what
    # The process that holds the model is a child of the server; killed by the kernel, it leaves no word.
    if out_of_memory or "exited with status" in text:
        return (
            "the model's process ended without a word, most likely for want of memory: "
            "raise server_memory_mib, or give the profile a smaller CTX_SIZE"
        )
    return f"if it only needs longer, raise server_start_timeout; its whole log is in: docker logs {container}"


def telling(log: Iterable[str], lines: int = 12) -> list[str]:
    """The last ``lines`` of the server's log that say something: without its list of a model's arguments, none twice."""
    said: list[str] = []
    for line in log:
        words = re.sub(r"^(?:\[\d+\] )?[\d.]+ ", "", line)
        if not re.match(r"I srv +load: +\S", words) and words not in said:
            said.append(words)
    return said[-lines:]
