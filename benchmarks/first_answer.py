#!/usr/bin/env python3
"""The first answer of a first session after ``docker restart``, with and without a kept prompt: the real container,
model and Claude Code.

    .venv/bin/python benchmarks/first_answer.py [--model PROFILE]

For each permission mode: delete the kept prompts, restart, and start a session in a new repository; then restart again,
and start one in another repository. It restarts the deployed server and deletes its kept prompts, so end your sessions
first. Prints a table. Exit status: 0 when the second answer of the default mode took at most TARGET of the first.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from claude_local.cli.containers import docker
from claude_local.paths import Paths
from claude_local.server.client import LlamaClient
from claude_local.server.prompt_files import clear
from claude_local.server.wait import load

CONTAINER, URL = "claude-local-server", "http://127.0.0.1:8080"
MODES = ("default", "plan")
TARGET = 0.25
# Seconds for a load, and for a session on a slow machine.
LOAD, SESSION = 600.0, 1800.0
# One word is enough: the answer's length would count, too.
PROMPT = "Answer with the word yes and nothing else."


@dataclass(frozen=True)
class First:
    """The first answer: tokens of its prompt that were read and cached, and seconds since the session's start."""

    read: int
    cached: int
    seconds: float


def first_answer(wrapper: str, mode: str, model: str) -> First:
    """Start a session in a new repository, and wait for its first answer."""
    with tempfile.TemporaryDirectory(prefix="claude-local-first-", dir=Path.home()) as workspace:
        for words in (
            ["init", "-q"],
            ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x", "--allow-empty"],
        ):
            subprocess.run(["git", *words], cwd=workspace, check=True)
        argv = [wrapper, "--model", model, "-p", PROMPT, "--permission-mode", mode, "--max-turns", "1"]
        argv += ["--output-format", "stream-json", "--verbose"]
        began = time.monotonic()
        with subprocess.Popen(
            argv, cwd=workspace, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as session:
            try:
                assert session.stdout
                for line in session.stdout:
                    event = json.loads(line)
                    usage = (event.get("message") or {}).get("usage") if event.get("type") == "assistant" else None
                    if usage:
                        seconds = time.monotonic() - began
                        return First(usage["input_tokens"], usage.get("cache_read_input_tokens") or 0, seconds)
            finally:
                session.terminate()
    raise SystemExit(f"{' '.join(argv)}: no answer")


def restart(client: LlamaClient, model: str, forget: Path | None = None) -> None:
    """``docker restart``, and wait until the model is loaded. ``forget``: the prompts in this directory, while the
    server does not run and cannot write them again."""
    if forget is None:
        docker("restart", CONTAINER)
    else:
        docker("stop", CONTAINER)
        clear(forget)
        docker("start", CONTAINER)
    load(client, model, LOAD, lambda _: None)


def show(name: str, mode: str, one: First, ratio: float) -> None:
    """Print a row of the table."""
    print(f"| {name} | {mode} | {one.read:,} | {one.cached:,} | {one.seconds:.1f} | {ratio:.2f} |", flush=True)


def main() -> int:
    """Measure and print the table; see the module."""
    home = Path.home()
    paths = Paths(home=str(home), model_dir="", bin_dir=str(home / "bin"))
    default = json.loads(Path(paths.profiles).read_text())["default"]
    parser = argparse.ArgumentParser(description="Measure the first answer after a restart.")
    parser.add_argument("--model", default=default, help="the profile (default: the deploy's)")
    model = parser.parse_args().model
    client = LlamaClient(URL, Path(paths.token).read_text().strip())
    print("| first answer | mode | read | cached | seconds | ratio |\n|---|---|---|---|---|---|")
    ratios = {}
    for mode in MODES:
        restart(client, model, Path(paths.server_prompts))
        cold = first_answer(paths.wrapper, mode, model)
        show("without a kept prompt", mode, cold, 1)
        restart(client, model)
        warm = first_answer(paths.wrapper, mode, model)
        ratios[mode] = warm.seconds / cold.seconds
        show("after docker restart", mode, warm, ratios[mode])
    return 0 if ratios["default"] <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
