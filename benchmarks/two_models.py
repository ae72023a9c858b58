#!/usr/bin/env python3
"""Two models that answer at once on the same cores: how long a thread may spin while it waits for the others.

    PYTHONPATH=. .venv/bin/python benchmarks/two_models.py --server PATH/llama-server LARGER.gguf SMALLER.gguf

Two llama-servers without a GPU, each with as many threads as there are cores. Prints the seconds of both answers, one
after the other and at once, for each GOMP_SPINCOUNT; 0 is libgomp's own.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from claude_local.server.client import ANSWER, LlamaClient, ServerError

SPINS = (0, 30000, 10000, 1000)
# Tokens that the first model writes; the second one, which is faster, writes twice as many.
TOKENS = 40
PROMPT = "x " * 200


@contextmanager
def serving(server: Path, model: Path, spin: int) -> Iterator[LlamaClient]:
    """llama-server with the model, ready."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    env = os.environ | {"LD_LIBRARY_PATH": str(server.parent)} | ({"GOMP_SPINCOUNT": str(spin)} if spin else {})
    words = [str(server), "-m", str(model), "--port", str(port), "-c", "4096", "-np", "1", "-t", str(os.cpu_count())]
    process = subprocess.Popen([*words, "--offline", "--no-ui", "--cache-ram", "0"], env=env, stderr=subprocess.DEVNULL)
    client = LlamaClient(f"http://127.0.0.1:{port}")
    try:
        end = time.monotonic() + ANSWER
        while True:
            try:
                client.json("GET", "/health")
                break
            except ServerError:
                if time.monotonic() > end or process.poll() is not None:
                    raise
                time.sleep(0.2)
        answer(client, 1)
        yield client
    finally:
        process.terminate()
        process.wait()


def answer(client: LlamaClient, tokens: int) -> float:
    """The seconds of one answer with a prompt that is read anew."""
    began = time.monotonic()
    body = {"prompt": PROMPT, "n_predict": tokens, "ignore_eos": True, "cache_prompt": False}
    client.json("POST", "/completion", body, timeout=ANSWER)
    return time.monotonic() - began


def main() -> None:
    """Print the table; see the module."""
    parser = argparse.ArgumentParser(description="Measure two models that answer at once.")
    parser.add_argument("--server", type=Path, required=True)
    parser.add_argument("--spin", type=int, nargs="+", default=SPINS)
    parser.add_argument("models", type=Path, nargs=2)
    options = parser.parse_args()
    print("| GOMP_SPINCOUNT | one after the other | both at once |\n|---|---|---|")
    for spin in options.spin:
        with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
            both = [stack.enter_context(serving(options.server, model, spin)) for model in options.models]
            lengths = (TOKENS, 2 * TOKENS)
            alone = sum(map(answer, both, lengths))
            began = time.monotonic()
            list(pool.map(answer, both, lengths))
            print(f"| {spin or 'default'} | {alone:.1f} s | {time.monotonic() - began:.1f} s |", flush=True)


if __name__ == "__main__":
    main()
