#!/usr/bin/env python3
"""What the fences cost at the start: time from start to Claude Code's first request, with and without them.

    .venv/bin/python benchmarks/fence_startup.py                    # 10 rounds; the installed Claude Code and wrapper
    .venv/bin/python benchmarks/fence_startup.py --rounds 20 --json result.json

The real Claude Code starts with a prompt in a temporary home and a small git repository, in a terminal (``claude "Say
hello."``) and without one (``claude -p``); a scripted backend on loopback sees its first request to /v1/messages and
answers. The variants take turns, each round in another order, so that a machine that others use at the same time is unfair
to all of them alike:

    alone   claude itself: the same environment and settings, the sandbox switched off, no launcher
    inner   through the launcher: Claude Code's own sandbox is set up
    outer   through the launcher: bubblewrap around the whole process
    both    through the launcher: both

The wrapper's own share (bash, curl, jq: arguments, profile, the question to the server) is measured by itself: it is there
with and without a fence. Nothing is left behind. Exit status: 0 when ``both`` takes at most ``--aim`` times as long as
``alone`` in each way (the ratio of the medians), else 1.
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
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from starlette.requests import Request  # noqa: E402

from claude_local import settings  # noqa: E402
from claude_local.fence.config import INNER, OUTER, FenceConfig, dump  # noqa: E402
from claude_local.paths import SHIMS, Paths  # noqa: E402
from claude_local.runtime.scripted_backend import ScriptedBackend, text  # noqa: E402
from claude_local.runtime.verify.terminal import Terminal, columns_environment  # noqa: E402

VARIANTS: dict[str, tuple[str, ...] | None] = {
    "alone": None,
    "inner": (INNER,),
    "outer": (OUTER,),
    "both": (OUTER, INNER),
}
TITLES = {
    "alone": "claude itself",
    "inner": "inner fence only",
    "outer": "outer fence only",
    "both": "both fences",
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

    def __init__(self, claude: Path, python: Path, wrapper: Path, home: Path) -> None:
        self.python, self.home = python, home
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
        self._write(self.paths.settings, settings.dump(settings.user_settings("plan")))
        trusted = {"projects": {str(self.workspace): {"hasTrustDialogAccepted": True}}}
        self._write(self.paths.claude_json, settings.dump({**settings.FIRST_RUN, **trusted}))
        self._write(self.paths.enforced_settings, settings.dump(settings.enforced_settings([8080, 8081])))
        self._write(self.paths.bash_env, (PROJECT / "files" / "bash-env.sh").read_text(encoding="utf-8"))
        for name in SHIMS:
            self._write(Path(self.paths.shims, name), (PROJECT / "files" / "shim").read_text(encoding="utf-8"), 0o755)
        self._write(self.paths.token, "token-of-a-benchmark")
        for name, layers in VARIANTS.items():
            if layers is not None:
                config = FenceConfig(
                    layers=layers, ports=(8080, 8081), reason="" if len(layers) == 2 else "a benchmark"
                )
                self._write(home / f"fence-{name}.json", dump(config))
        # The wrapper up to the point where it becomes the launcher: this program takes the launcher's place.
        stand_in = home / "stand-in"
        self._write(stand_in, f'#!/bin/sh\nexec env -0 >"{home}/environment"\n', 0o755)
        words = wrapper.read_text(encoding="utf-8").splitlines()
        here = {
            "python": stand_in, "token_file": self.paths.token, "config_dir": self.paths.config_dir,
            "enforced_settings": self.paths.enforced_settings, "bash_env": self.paths.bash_env, "home": home,
        }  # fmt: skip
        changed = [f"{line.partition('=')[0]}='{here[line.partition('=')[0]]}'"
                   if line.partition("=")[0] in here else line for line in words]  # fmt: skip
        self.wrapper = home / "claude-local"
        self._write(self.wrapper, "\n".join(changed) + "\n", 0o755)

    def _write(self, path: str | Path, words: str, mode: int = 0o644) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(words, encoding="utf-8")
        target.chmod(mode)

    def wrapper_seconds(self, server: str) -> tuple[float, dict[str, str]]:
        """How long the wrapper takes until it becomes the launcher, and the environment that it hands over."""
        keep = ("PATH", "LANG", "USER", "LOGNAME")
        env = {name: os.environ[name] for name in keep if name in os.environ}
        env |= {"HOME": str(self.home), "TERM": "dumb", "CLAUDE_LOCAL_SERVER": server}
        words = [self.wrapper, "-p", "Say hello."]
        begin = time.perf_counter()
        with subprocess.Popen(
            words, cwd=self.workspace, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as process:
            # Not wait(timeout=...): Python then looks after 1, 3, 7, 15, 31, 63 ms ..., and only that would be measured.
            guard = threading.Timer(LIMIT, process.kill)
            guard.start()
            status = process.wait()
            seconds = time.perf_counter() - begin
            guard.cancel()
        if status:
            raise subprocess.CalledProcessError(status, words)
        raw = (self.home / "environment").read_bytes()
        pairs = (os.fsdecode(word).partition("=") for word in raw.split(b"\0") if word)
        return seconds, {name: value for name, _, value in pairs}

    def command(self, variant: str, way: str, server: str) -> list[str]:
        """The words that start ``variant``."""
        claude = [str(self.claude), *(["-p"] if way == "print" else []), "Say hello."]
        if VARIANTS[variant] is None:
            plain = settings.enforced_settings([8080, 8081]) | {"sandbox": {"enabled": False}}
            return [claude[0], "--settings=" + json.dumps(plain), *claude[1:]]
        launcher = PROJECT / "claude_local" / "runtime" / "fence" / "start.py"
        return [
            str(self.python), "-I", "-S", str(launcher), "--config", str(self.home / f"fence-{variant}.json"),
            "--home", str(self.home), "--config-dir", self.paths.config_dir, "--state", self.paths.fence_state,
            "--shims", self.paths.shims, "--settings", self.paths.enforced_settings, "--own", self.paths.share, "--server", server, "--", *claude,
        ]  # fmt: skip

    def seconds(self, variant: str, way: str, environment: Mapping[str, str]) -> float:
        """One start: seconds until the first request. Raises SystemExit when none comes."""
        with Backend([text("Hello.")]) as backend:
            env = {**environment, "ANTHROPIC_BASE_URL": backend.url, "TERM": "xterm-256color", **columns_environment()}
            words = self.command(variant, way, backend.url)
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


def measure(bench: Bench, ways: Sequence[str], rounds: int) -> tuple[Seconds, list[float]]:
    """Seconds by way and variant, and of the wrapper, one of each a round; the first round warms up and is not counted."""
    found: Seconds = {way: {name: [] for name in VARIANTS} for way in ways}
    wrapper: list[float] = []
    for number in range(rounds + 1):
        with Backend() as backend:
            seconds, environment = bench.wrapper_seconds(backend.url)
        names = list(VARIANTS)
        turn = number % len(names)
        taken = {(way, name): bench.seconds(name, way, environment)
                 for name in names[turn:] + names[:turn] for way in ways}  # fmt: skip
        if number:
            wrapper.append(seconds)
            for (way, name), value in taken.items():
                found[way][name].append(value)
    return found, wrapper


def row(title: str, values: Sequence[float], base: float | None) -> str:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    ratio = "" if base is None else f"{statistics.median(values) / base:8.2f}"
    return f"{title:20}{middle:9.3f}   {low:.3f} - {high:.3f}   {min(values):.3f} - {max(values):.3f}{ratio}"


def main() -> int:
    installed = Paths(home=str(Path.home()), model_dir="", bin_dir=str(Path.home() / "bin"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="starts of each variant (10)")
    parser.add_argument("--way", choices=[*WAYS, "each"], default="each", help="how Claude Code is started (each)")
    parser.add_argument("--claude", type=Path, default=Path(installed.claude), help="the Claude Code to start")
    parser.add_argument("--wrapper", type=Path, default=Path(installed.wrapper), help="the installed claude-local")
    parser.add_argument("--python", type=Path, default=Path(installed.python), help="the runtime's interpreter")
    parser.add_argument("--aim", type=float, default=1.1, help="how long both fences may take, alone = 1 (1.1)")
    parser.add_argument("--json", type=Path, help="write every measured second to this file")
    options = parser.parse_args()
    for path in (options.claude, options.wrapper, options.python):
        if not path.exists():
            parser.error(f"{path} is not there; ./provision installs it")
    cache = Path(installed.cache)
    cache.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="fence-startup-", dir=cache))
    try:
        bench = Bench(options.claude.resolve(), options.python, options.wrapper, home)
        ways = list(WAYS) if options.way == "each" else [options.way]
        found, wrapper = measure(bench, ways, max(1, options.rounds))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    ratios = {}
    for way, variants in found.items():
        base = statistics.median(variants["alone"])
        print(f"{WAYS[way]:20}{'median':>9}   {'quartiles':13}   {'range':13}{'ratio':>8}")
        for name, values in variants.items():
            print(row(TITLES[name], values, base))
        ratios[way] = statistics.median(variants["both"]) / base
        print()
    print(row("wrapper before it", wrapper, None))
    told = ", ".join(f"{WAYS[way].lower()} {ratio:.2f}" for way, ratio in ratios.items())
    print(f"\nBoth fences, claude itself = 1: {told} ({len(wrapper)} rounds); aim {options.aim}")
    if options.json:
        document = {"seconds": found, "wrapper": wrapper, "ratios": ratios}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0 if max(ratios.values()) <= options.aim else 1


if __name__ == "__main__":
    sys.exit(main())
