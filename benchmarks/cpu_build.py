#!/usr/bin/env python3
"""Compare the CPU builds of llama-server: prefill and decode speed of images side by side.

    python benchmarks/cpu_build.py --model FILE.gguf native=IMAGE all=IMAGE generic=IMAGE

One server runs at a time, in a container that publishes one port on the loopback interface. Each gets the same prompt
with cache_prompt off. The table shows each image's size, and its speed relative to the first image. The images take
turns, --rounds times, so that other load on the machine affects all of them; the table has the median and the range.
The containers are removed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

NAME = "claude-local-benchmark"
# About 1,700 tokens of the Qwen2.5 tokenizer: the size of a small Claude Code prompt.
PROMPT = " ".join(f"Line {n}: the quick brown fox jumps over the lazy dog." for n in range(110))


def measure(docker: str, image: str, model: Path, port: int, tokens: int) -> tuple[float, float, int]:
    """Prefill tokens/s, decode tokens/s and prompt tokens of one request to a new server on 127.0.0.1:``port``."""
    # fmt: off
    subprocess.run([
        docker, "run", "--detach", "--rm", "--name", NAME, "--init", "--read-only", "--cap-drop", "ALL",
        "--user", "10001:10001", "--publish", f"127.0.0.1:{port}:8080", "--tmpfs", "/tmp",
        "--mount", f"type=bind,source={model.parent},target=/models,readonly",
        image, "--model", f"/models/{model.name}", "--host", "0.0.0.0", "--port", "8080", "--offline", "--no-ui",
        "--parallel", "1", "--ctx-size", "4096",
    ], check=True, stdout=subprocess.DEVNULL)
    # fmt: on
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=5):
                    break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.5)
        else:
            raise SystemExit(f"{image} does not load {model} within two minutes")
        timings = {}
        for prompt in ("warm up", PROMPT):
            body = {"prompt": prompt, "n_predict": tokens, "cache_prompt": False, "temperature": 0, "ignore_eos": True}
            request = urllib.request.Request(
                f"{url}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=600) as answer:
                timings = json.load(answer)["timings"]
        return timings["prompt_per_second"], timings["predicted_per_second"], timings["prompt_n"]
    finally:
        subprocess.run([docker, "rm", "--force", NAME], check=False, stdout=subprocess.DEVNULL)


def size_of(docker: str, image: str) -> float:
    """The image's size in MB (10^6 bytes)."""
    argv = [docker, "image", "inspect", "--format", "{{.Size}}", image]
    return int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout) / 1e6


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", metavar="NAME=IMAGE", help="images to compare with the first")
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32, help="tokens to generate")
    parser.add_argument("--port", type=int, default=18099)
    parser.add_argument("--docker", default="docker")
    options = parser.parse_args()
    pairs = [entry.partition("=")[::2] for entry in options.images]
    if not all(image for _, image in pairs):
        parser.error("each image is given as NAME=IMAGE")
    results: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in pairs}
    prompt_tokens = 0
    for turn in range(options.rounds):
        for name, image in pairs:
            prefill, decode, prompt_tokens = measure(
                options.docker, image, options.model.resolve(), options.port, options.tokens
            )
            results[name].append((prefill, decode))
            print(f"round {turn + 1}, {name}: {prefill:.1f} and {decode:.1f} tokens/s", file=sys.stderr)
    print(f"{options.model.name}, {prompt_tokens} prompt tokens, {os.cpu_count()} cores, {options.rounds} rounds")
    speeds = " ".join(f"{f'{name} t/s (range)':>24} {'ratio':>6}" for name in ("prefill", "decode"))
    print(f"{'build':<10} {'image MB':>8} {speeds}")
    first = [statistics.median(run[i] for run in results[pairs[0][0]]) for i in (0, 1)]
    for name, image in pairs:
        cells = []
        for i in (0, 1):
            values = [run[i] for run in results[name]]
            middle = statistics.median(values)
            cells.append(f"{middle:7.1f} ({min(values):.1f}-{max(values):.1f})".rjust(24))
            cells.append(f"{middle / first[i]:6.2f}")
        print(f"{name:<10} {size_of(options.docker, image):8.1f} {' '.join(cells)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
