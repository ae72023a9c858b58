#!/usr/bin/env python3
"""Measure what one core reads and writes with models of real shapes and random weights. Nothing is downloaded.

    python benchmarks/cpu_speed.py --image IMAGE --tokenizer FILE.gguf Qwen3-Coder-30B-A3B gpt-oss-20b

For each shape it writes two models of a few layers into a temporary folder, and has llama-server read a prompt and
write an answer with one thread. Processor seconds count, not the clock, so other load on the machine matters little.
The difference of the two gives one layer, and that the whole model. The last columns are what
claude_local/models/speed.py expects of one core. The container is removed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import random_model
from claude_local.models.architecture import shipped
from claude_local.models.speed import Processor, expected

NAME = "claude-local-cpu-speed"
PORT = 18097


class Server:
    """llama-server with one thread in a container; a context manager."""

    def __init__(self, docker: str, image: str, model: Path) -> None:
        self._docker = docker
        # fmt: off
        self._argv = [
            docker, "run", "--detach", "--rm", "--name", NAME, "--init", "--read-only", "--cap-drop", "ALL",
            "--user", "10001:10001", "--publish", f"127.0.0.1:{PORT}:8080", "--tmpfs", "/tmp",
            "--mount", f"type=bind,source={model.parent},target=/models,readonly", image,
            "--model", f"/models/{model.name}", "--host", "0.0.0.0", "--port", "8080", "--offline", "--no-ui",
            "--parallel", "1", "--ctx-size", "8192", "--threads", "1", "--threads-batch", "1", "--no-warmup",
        ]
        # fmt: on

    def __enter__(self) -> Server:
        subprocess.run(self._argv, check=True, stdout=subprocess.DEVNULL)
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5):
                    return self
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.5)
        raise SystemExit("the server does not load the model")

    def __exit__(self, *_: object) -> None:
        subprocess.run([self._docker, "rm", "--force", NAME], check=False, stdout=subprocess.DEVNULL)

    def seconds(self) -> float:
        """Processor seconds of the container so far."""
        listed = subprocess.run(
            [self._docker, "top", NAME, "-o", "pid,comm"], check=True, capture_output=True, text=True
        )
        ticks = 0
        for line in listed.stdout.splitlines()[1:]:
            pid, name = line.split(maxsplit=1)
            if name.startswith("llama-server"):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / 100

    def ask(self, tokens: int, answer: int) -> float:
        """Processor seconds of one request with a prompt of ``tokens``."""
        body: dict[str, Any] = {
            "prompt": [1000 + n * 7 % 9000 for n in range(tokens)], "n_predict": answer, "cache_prompt": False,
            "ignore_eos": True, "temperature": 0,
        }  # fmt: skip
        request = urllib.request.Request(
            f"http://127.0.0.1:{PORT}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        before = self.seconds()
        with urllib.request.urlopen(request, timeout=900) as reply:
            reply.read()
        return self.seconds() - before


def per_token(options: argparse.Namespace, model: Path) -> tuple[float, float]:
    """Processor seconds for one token of the prompt, and for one of the answer."""
    with Server(options.docker, options.image, model) as server:
        server.ask(64, 2)
        read = server.ask(options.prompt, 1)
        one, all_of_it = server.ask(8, 1), server.ask(8, 1 + options.answer)
    return read / options.prompt, (all_of_it - one) / options.answer


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="+", help="records of architectures.json")
    parser.add_argument("--image", required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="a GGUF file to take the tokenizer from")
    parser.add_argument("--layers", type=int, nargs=2, default=(4, 8))
    parser.add_argument("--prompt", type=int, default=2048, help="tokens")
    parser.add_argument("--answer", type=int, default=48, help="tokens")
    parser.add_argument("--docker", default="docker")
    options = parser.parse_args()
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
    print(f"{'shape':<22} {'GB':>6} {'reads t/s':>10} {'writes t/s':>10} {'expected':>18}")
    for shape in options.shapes:
        architecture = shipped()[shape]
        seconds, sizes = [], []
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            for layers in options.layers:
                model = Path(folder) / "model.gguf"
                sizes.append(random_model.write(model, shape, options.tokenizer, layers))
                model.chmod(0o644)
                seconds.append(per_token(options, model))
        few, many = options.layers
        rest = (architecture.layers_count - few) / (many - few)
        weights = round(sizes[0] + rest * (sizes[1] - sizes[0]))
        reads, writes = (1 / (first + rest * (second - first)) for first, second in zip(*seconds, strict=True))
        ours = expected(architecture, weights, Processor.of(1, flags, None))
        print(
            f"{shape:<22} {weights / 1e9:6.1f} {reads:10.1f} {writes:10.1f} "
            f"{ours.prefill:8.1f} {ours.decode:8.1f}", flush=True,
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
