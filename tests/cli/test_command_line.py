"""llama-local: the command in ~/bin and its command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from claude_local.claude.wrapper import render
from claude_local.cli.commands import COMMANDS
from claude_local.cli.commands import llama_local as group
from tests.cli.documented import example

PROJECT = Path(__file__).parents[2]
TEMPLATE = (PROJECT / "templates" / "llama-local").read_text()


def llama_local(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "claude_local.cli", *arguments]
    env = {**os.environ, "PYTHONPATH": str(PROJECT), **environment}
    return subprocess.run(words, capture_output=True, text=True, timeout=120, env=env)


def leaves(command: click.Command, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command with the words that call it; a group that does something by itself, too."""
    if not isinstance(command, click.Group) or (words and command.invoke_without_command):
        yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None, name
            yield from leaves(below, *words, name)


EVERY = [pytest.param(words, command, id=" ".join(words)) for words, command in leaves(group)]


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (("nothing",), "llama-local --help"),
        (("hardware", "--nothing"), "llama-local hardware --help"),
        (("logs", "-n", "many"), "llama-local logs --help"),
        (("models", "prune", "too", "much"), "llama-local models prune --help"),
        (("fence", "whatever"), "llama-local fence --help"),
    ],
)
def test_a_wrong_command_line_exits_with_2_and_two_lines(arguments: tuple[str, ...], fix: str) -> None:
    done = llama_local(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    problem, last = done.stderr.splitlines()
    assert problem.startswith("llama-local: ") and last == f"  Fix: {fix}"


def test_without_a_command_the_help_is_an_error() -> None:
    done = llama_local()
    assert done.returncode == 2 and "Commands:" in done.stderr and done.stdout == ""


def test_help_names_every_command_on_one_screen() -> None:
    lines = llama_local("--help", COLUMNS="80").stdout.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[lines.index("Commands:") + 1 :]] == list(COMMANDS)


@pytest.mark.parametrize(("words", "command"), EVERY)
def test_every_command_explains_itself_on_one_screen_and_prints_json(
    words: tuple[str, ...], command: click.Command
) -> None:
    context = click.Context(command, info_name=" ".join(("llama-local", *words)), terminal_width=80)
    lines = command.get_help(context).splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert "--json" in {name for each in command.params for name in each.opts}
    assert words == ("stop",) or example(" ".join(words))


@pytest.mark.parametrize(
    ("words", "environment", "unused"),
    [
        ("--help", {}, "requests|rich|textual|asyncio"),
        ("status", {}, "textual|asyncio|huggingface_hub|starlette"),
        ("", {"COMP_WORDS": "llama-local ", "COMP_CWORD": "1"}, "requests|rich|textual|asyncio"),
        ("", {"COMP_WORDS": "llama-local switch ", "COMP_CWORD": "2"}, "requests|textual|asyncio"),
    ],
)
def test_the_quick_commands_and_the_tab_key_import_little(
    words: str, environment: dict[str, str], unused: str, tmp_path: Path
) -> None:
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "HOME": str(tmp_path), **environment}
    if environment:
        env["_LLAMA_LOCAL_COMPLETE"] = "bash_complete"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "claude_local.cli", words],
        capture_output=True, text=True, timeout=60, env=env,
    )  # fmt: skip
    assert "claude_local.cli.commands" in done.stderr
    assert not re.findall(rf"\| +((?:{unused})(?:\.\w+)*)$", done.stderr, re.MULTILINE)


def test_a_closed_pipe_is_not_an_error() -> None:
    script = '"$0" -m claude_local.cli hardware --json | head -c 1; exit ${PIPESTATUS[0]}'
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(["bash", "-c", script, sys.executable], capture_output=True, text=True, timeout=120, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{", "")


def command(tmp_path: Path, python: str) -> Path:
    path = tmp_path / "llama-local"
    path.write_text(render(TEMPLATE, python=python, port=18081, server_port=18080, container="server"))
    path.chmod(0o755)
    return path


def test_the_command_runs_the_runtimes_python_with_its_arguments(tmp_path: Path) -> None:
    python = tmp_path / "it's a venv" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s|" "$@"\nexit 7\n')
    python.chmod(0o755)
    done = subprocess.run([command(tmp_path, str(python)), "models", "a b"], capture_output=True, text=True, timeout=30)
    ports = "--port|18081|--server-port|18080"
    assert (done.stdout, done.returncode) == (f"-I|-m|claude_local.cli|{ports}|--container|server|models|a b|", 7)


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
