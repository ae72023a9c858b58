"""The profiles as llama-local models lists them, and as switch and start offer them in a terminal."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest
from rich.console import Console

from claude_local.cli.profiles import comparison, placed
from claude_local.models.fit import Fit
from claude_local.models.memory import Estimate
from claude_local.paths import Paths
from tests.cli.documented import example, lacks
from tests.cli.test_command_line import PROJECT
from tests.cli.test_server import Manager, manager  # noqa: F401

FIT = Fit(
    "small", True, "fits in memory; first answer after 74 s", 32768,
    Estimate(weights=10**9, embedding=0, cache=10**9, compute=10**9, projector=0),
).as_data()  # fmt: skip


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Two profiles, the default one with a file of 1.5 MB that is verified."""
    paths = Paths(home=str(tmp_path), model_dir="", bin_dir="")
    file = tmp_path / "small.gguf"
    file.write_bytes(bytes(1_500_000))
    status = file.stat()
    stamp = {"sha256": "0" * 64, "size": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}
    index = {"files": {str(file): stamp}, "profiles": {"small": {"files": [str(file)]}}, "roots": [str(tmp_path)]}
    profiles = {
        "small": {"name": "Small", "ctx_size": 32768, "fit": FIT},
        "large": {"name": "Large", "ctx_size": None, "fit": None},
    }
    for path, data in ((paths.placements, index), (paths.profiles, {"default": "small", "profiles": profiles})):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(data))
    return paths


def shown(profiles: list[dict[str, Any]], **options: bool) -> list[str]:
    text = io.StringIO()
    Console(width=80, file=text).print(comparison(profiles, **options))
    return text.getvalue().splitlines()


def test_size_context_fit_and_state_are_known_without_the_management_api(paths: Paths) -> None:
    small, large = placed(paths)
    assert lacks(example("models")["profiles"][0], small) == []
    assert (small["size"], small["verified"], small["active"], small["fit"]) == (1_500_000, True, True, FIT)
    assert (large["size"], large["verified"], large["active"], large["state"]) == (0, False, False, "unknown")
    os.truncate(paths.home + "/small.gguf", 5)
    assert not placed(paths)[0]["verified"]


def test_the_management_api_knows_what_is_loaded_and_how_long_it_takes(paths: Paths) -> None:
    models = [{"id": "large", "active": True, "state": "loaded", "load_seconds": 12.4}]
    large = placed(paths, models)[1]
    assert (large["active"], large["state"], large["load_seconds"]) == (True, "loaded", 12.4)


def test_before_the_first_deploy_there_are_none(tmp_path: Path) -> None:
    assert placed(Paths(home=str(tmp_path), model_dir="", bin_dir="")) == []


def test_the_table_fits_80_columns(paths: Paths) -> None:
    entry = {**placed(paths)[0], "id": "qwen3-coder-next-ud-q5", "size": 59_500_000_000, "load_seconds": 41.0}
    lines = shown([entry], numbered=True)
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for word in ("qwen3-coder-next-ud-q5", "59.5 GB", "32,768", "41 s", "active"):
        assert word in text
    assert "fits in memory" in " ".join(shown([placed(paths)[0]]))


@pytest.mark.slow
def test_start_in_a_terminal_offers_the_profiles(manager: Manager) -> None:  # noqa: F811
    paths = Paths(home=str(manager.folder), model_dir="", bin_dir="")
    profiles = {name: {"name": name.title(), "ctx_size": 4096, "fit": FIT} for name in manager.router.models}
    Path(paths.profiles).parent.mkdir(parents=True)
    Path(paths.profiles).write_text(json.dumps({"default": "small", "profiles": profiles}))
    env = {**os.environ, "HOME": str(manager.folder), "PYTHONPATH": str(PROJECT)}
    for answer, last in (("2", "large answers"), ("", "large answers"), ("small", "small answers")):
        words = ["-m", "claude_local.cli", "--port", str(manager.port), "start"]
        child = pexpect.spawn(sys.executable, words, env=env, timeout=30, encoding="utf-8", dimensions=(24, 120))
        child.expect(r"Which one\? \[1-3")
        assert "fits in memory" in child.before and "4,096" in child.before
        child.sendline(answer)
        child.expect(last)
        child.expect(pexpect.EOF)
    assert manager.router.alias() == "small"
