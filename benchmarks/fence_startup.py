#!/usr/bin/env python3
"""Measures what the fence costs at a start: seconds until Claude Code's first request, with and without its layers.

    .venv/bin/python benchmarks/fence_startup.py                    # 10 rounds with the installed Claude Code
    .venv/bin/python benchmarks/fence_startup.py --rounds 20 --json result.json

The real Claude Code starts with a prompt in a temporary home and a small git repository, in a terminal (``claude "Say
hello."``) and without one (``claude -p``). A scripted backend on loopback notes its first request to /v1/messages. The
variants take turns, in another order each round, so that other load on the machine affects all of them alike:

    alone     claude itself: the same environment and settings, the sandbox switched off
    sandbox   claude itself with its own sandbox on: what Claude Code's part costs without claude-local
    unfenced  claude-local --unfenced: the wrapper, the question to the server and the launcher
    inner     claude-local with Claude Code's own sandbox only
    outer     claude-local with bubblewrap around the whole process only
    both      claude-local as it is installed

All but the first two run this project's templates/claude-local and launcher. Of the medians, ``ratio`` is
variant : alone, and ``over`` is how many seconds longer a variant takes than alone. On a busy machine: root,
``chrt -r 1``.
Nothing is left behind. Exit status: 0 when ``over`` of both layers is at most ``--budget`` in each way, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from starlette.requests import Request  # noqa: E402

from claude_local.claude import json_merge, settings_json  # noqa: E402
from claude_local.claude.wrapper import render_claude_local  # noqa: E402
from claude_local.fence.config import INNER, OUTER, FenceConfig, dump  # noqa: E402
from claude_local.paths import Paths  # noqa: E402
from claude_local.verify.scripted_backend import ScriptedBackend, text  # noqa: E402
from claude_local.verify.terminal import Terminal, columns_environment  # noqa: E402

# The fence's layers in each variant that is claude-local.
LAYERS: dict[str, tuple[str, ...]] = {"unfenced": (), "inner": (INNER,), "outer": (OUTER,), "both": (OUTER, INNER)}
TITLES = {
    "alone": "claude itself",
    "sandbox": "claude, own sandbox",
    "unfenced": "no fence",
    "inner": "inner layer only",
    "outer": "outer layer only",
    "both": "both layers",
}
# What a home and a repository usually hold, so that the fence has something to hide and to guard.
IN_HOME = (".ssh/id_ed25519", ".gnupg/key", ".aws/credentials", ".docker/config.json", ".bash_history", ".gitconfig")
IN_REPOSITORY = (
    ".git/HEAD", ".git/config", ".git/hooks/none", ".git/objects/none", ".git/refs/none", ".vscode/settings.json",
    "README.md", "src/main.py",
)  # fmt: skip
WAYS = {"terminal": "In a terminal", "print": "With -p"}
LIMIT = 60.0  # seconds that one start may take


class Backend(ScriptedBackend):
    """Remembers when the first request for an answer came (``time.perf_counter``)."""

    first: float | None = None

    def __enter__(self) -> Backend:
        self.start()
        return self

    def _keep(self, request: Request, body: Any) -> None:
        if self.first is None and request.url.path == "/v1/messages":
            self.first = time.perf_counter()
        super()._keep(request, body)


class Bench:
    """A temporary home with what a deploy leaves, and the ways to start Claude Code in it."""

    def __init__(self, claude: Path, python: Path, home: Path) -> None:
        self.home = home
        self.paths = Paths(home=str(home), model_dir=str(home / "models"), bin_dir=str(home / "bin"))
        # In the home directory, as it is installed: Claude Code asks where it comes from.
        self.claude = home / ".local" / "share" / "claude" / claude.name
        self.claude.parent.mkdir(parents=True)
        try:
            self.claude.hardlink_to(claude)
        except OSError:
            shutil.copy(claude, self.claude)
        self.workspace = home / "work"
        for name in (*IN_HOME, *(f"work/{each}" for each in IN_REPOSITORY)):
            self._write(home / name, "ref: refs/heads/main\n" if name.endswith("HEAD") else "")
        self._write(self.paths.settings, json_merge.dump(settings_json.user_settings("plan")))
        trusted = {"projects": {str(self.workspace): {"hasTrustDialogAccepted": True}}}
        self._write(self.paths.claude_json, json_merge.dump({**settings_json.FIRST_RUN, **trusted}))
        self._write(self.paths.enforced_settings, json_merge.dump(settings_json.enforced_settings([8080, 8081])))
        self._write(self.paths.bash_env, (PROJECT / "files" / "bash-env.sh").read_text(encoding="utf-8"))
        self._write(self.paths.token, "token-of-a-benchmark")
        self._write(self.paths.profiles, json_merge.dump({"default": "one", "profiles": {"one": {"tools": None}}}))
        for name, layers in LAYERS.items():
            config = FenceConfig(layers=layers, ports=(8080, 8081), reason="" if len(layers) == 2 else "a benchmark")
            self._write(home / f"fence-{name}.json", dump(config))
            self._write(home / name, self._wrapper(python, home / f"fence-{name}.json", self.claude), 0o755)
        # Writes down the environment that claude-local gives to Claude Code.
        teller = home / "teller"
        self._write(teller, f'#!/bin/sh\nexec env -0 >"{home}/environment"\n', 0o755)
        self._write(home / "tell", self._wrapper(python, home / "fence-unfenced.json", teller), 0o755)

    def _wrapper(self, python: Path, fence_config: Path, claude: Path) -> str:
        return render_claude_local(
            (PROJECT / "templates" / "claude-local").read_text(encoding="utf-8"), self.paths,
            server="http://127.0.0.1:8080", container="none", start_timeout=1, print_mode="default",
            claude=str(claude), python=str(python),
            program=str(PROJECT / "claude_local" / "claude" / "start.py"), fence_config=str(fence_config),
        )  # fmt: skip

    def _write(self, path: str | Path, words: str, mode: int = 0o644) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(words, encoding="utf-8")
        target.chmod(mode)

    def environment(self, server: str) -> dict[str, str]:
        """What a user's shell hands to claude-local."""
        keep = ("PATH", "LANG", "USER", "LOGNAME")
        env = {name: os.environ[name] for name in keep if name in os.environ}
        return env | {
            "HOME": str(self.home), "TERM": "xterm-256color", "CLAUDE_LOCAL_SERVER": server, **columns_environment()
        }  # fmt: skip

    def environment_inside(self, server: str) -> dict[str, str]:
        """What claude-local hands to Claude Code."""
        subprocess.run(
            [self.home / "tell", "--unfenced", "-p", "Say hello."], cwd=self.workspace, env=self.environment(server),
            stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=True,
        )  # fmt: skip
        raw = (self.home / "environment").read_bytes()
        return {
            name: value for name, _, value in (os.fsdecode(word).partition("=") for word in raw.split(b"\0") if word)
        }

    def command(self, variant: str, way: str) -> list[str]:
        """The command that starts ``variant``."""
        asked = [*(["-p"] if way == "print" else []), "Say hello."]
        if variant in ("alone", "sandbox"):
            settings = settings_json.enforced_settings([8080, 8081])
            if variant == "alone":
                settings["sandbox"] = {"enabled": False}
            return [str(self.claude), "--settings=" + json.dumps(settings), *asked]
        return [str(self.home / variant), *([] if LAYERS[variant] else ["--unfenced"]), *asked]

    def seconds(self, variant: str, way: str) -> float:
        """One start: seconds until the first request. Raises SystemExit when none comes."""
        with Backend([text("Hello.")]) as backend:
            inside = variant not in LAYERS
            env = self.environment_inside(backend.url) if inside else self.environment(backend.url)
            words = self.command(variant, way)
            begin = time.perf_counter()
            if way == "print":
                done = subprocess.run(
                    words, cwd=self.workspace, env=env, timeout=LIMIT, check=False, stdin=subprocess.DEVNULL,
                    capture_output=True, text=True,
                )  # fmt: skip
                said = f"exit {done.returncode}, {done.stderr.strip()[-300:]}"
            else:
                with Terminal(words, env=env, cwd=str(self.workspace)) as screen:
                    while backend.first is None and not screen.ended and time.perf_counter() - begin < LIMIT:
                        screen.read(0.05)
                    said = f"the screen shows: {screen.tail()}"
            if backend.first is None:
                raise SystemExit(f"{TITLES[variant]}: no request came; {said}")
            return backend.first - begin


Seconds = dict[str, dict[str, list[float]]]


def measure(bench: Bench, ways: Sequence[str], rounds: int) -> Seconds:
    """Seconds by way and variant, one of each a round; the first round warms up and is not counted."""
    measured: Seconds = {way: {name: [] for name in TITLES} for way in ways}
    for number in range(rounds + 1):
        names = list(TITLES)
        turn = number % len(names)
        taken = {(way, name): bench.seconds(name, way) for name in names[turn:] + names[:turn] for way in ways}
        if number:
            for (way, name), value in taken.items():
                measured[way][name].append(value)
    return measured


def table(title: str, variants: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """Print what was measured in one way; ratio and seconds over alone of both layers."""
    middle = {name: statistics.median(values) for name, values in variants.items()}
    alone, both = middle["alone"], middle["both"]
    print(f"{title:20}{'median':>9}   {'quartiles':13}   {'range':13}{'ratio':>8}{'over':>8}")
    for name, values in variants.items():
        low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
        spread = f"{low:.3f} - {high:.3f}   {min(values):.3f} - {max(values):.3f}"
        print(f"{TITLES[name]:20}{middle[name]:9.3f}   {spread}{middle[name] / alone:8.2f}{middle[name] - alone:8.3f}")
    print()
    return both / alone, both - alone


def main() -> int:
    installed = Paths(home=str(Path.home()), model_dir="", bin_dir=str(Path.home() / "bin"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="starts of each variant (10)")
    parser.add_argument("--way", choices=[*WAYS, "each"], default="each", help="how Claude Code is started (each)")
    parser.add_argument("--claude", type=Path, default=Path(installed.claude), help="the Claude Code to start")
    parser.add_argument("--python", type=Path, default=Path(installed.python), help="the runtime's interpreter")
    parser.add_argument("--budget", type=float, default=0.15, help="seconds that both layers may take (0.15)")
    parser.add_argument("--json", type=Path, help="write every measured second to this file")
    options = parser.parse_args()
    for path in (options.claude, options.python):
        if not path.exists():
            parser.error(f"{path} does not exist; ./provision installs it")
    cache = Path(installed.cache)
    cache.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="fence-startup-", dir=cache))
    rounds = max(1, options.rounds)
    try:
        bench = Bench(options.claude.resolve(), options.python, home)
        measured = measure(bench, list(WAYS) if options.way == "each" else [options.way], rounds)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    results = {way: table(WAYS[way], variants) for way, variants in measured.items()}
    summary = ", ".join(f"{WAYS[way].lower()} {ratio:.2f} (+{over:.3f} s)" for way, (ratio, over) in results.items())
    print(f"claude-local with both layers, claude itself = 1: {summary}; {rounds} rounds, budget {options.budget} s")
    if options.json:
        options.json.write_text(
            json.dumps({"seconds": measured, "results": results}, indent=2) + "\n", encoding="utf-8"
        )
    return 0 if max(over for _, over in results.values()) <= options.budget else 1


if __name__ == "__main__":
    sys.exit(main())
