"""llama-local: the command in ~/bin and its command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from claude_local.claude.wrapper import render
from claude_local.cli.__main__ import MODULES, parser

PROJECT = Path(__file__).parents[2]
TEMPLATE = (PROJECT / "templates" / "llama-local").read_text()


def llama_local(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "claude_local.cli", *arguments]
    env = {**os.environ, "PYTHONPATH": str(PROJECT), **environment}
    return subprocess.run(words, capture_output=True, text=True, timeout=120, env=env)


@pytest.mark.parametrize("arguments", [(), ("nothing",), ("hardware", "--nothing")])
def test_a_wrong_command_line_exits_with_2(arguments: tuple[str, ...]) -> None:
    done = llama_local(*arguments)
    assert done.returncode == 2 and "usage: llama-local" in done.stderr


def test_help_fits_a_screen_and_names_every_subcommand() -> None:
    text = parser().format_help()
    assert len(text.splitlines()) < 24
    for module in MODULES:
        assert module.__name__.rpartition(".")[2] in text


def test_a_closed_pipe_is_not_an_error() -> None:
    script = '"$0" -m claude_local.cli hardware --json | head -c 1; exit ${PIPESTATUS[0]}'
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(["bash", "-c", script, sys.executable], capture_output=True, text=True, timeout=120, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{", "")


def command(tmp_path: Path, python: str) -> Path:
    path = tmp_path / "llama-local"
    path.write_text(render(TEMPLATE, python=python, port=18081, container="server"))
    path.chmod(0o755)
    return path


def test_the_command_runs_the_runtimes_python_with_its_arguments(tmp_path: Path) -> None:
    python = tmp_path / "it's a venv" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s|" "$@"\nexit 7\n')
    python.chmod(0o755)
    done = subprocess.run([command(tmp_path, str(python)), "models", "a b"], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.returncode) == ("-I|-m|claude_local.cli|--port|18081|--container|server|models|a b|", 7)


def test_a_missing_runtime_names_the_fix(tmp_path: Path) -> None:
    done = subprocess.run([command(tmp_path, "/no/python")], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "/no/python" in done.stderr and "\n  Fix: ./provision" in done.stderr


def test_the_commands_stage_installs_it() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "pyinfra", "--json", "tests/plan/fake_inventory.py", "tasks/commands.py"],
        cwd=PROJECT, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    names: list[Any] = [operation["name"] for operation in json.loads(done.stdout)["plan"]]
    assert any("llama-local" in name for name in names), names
