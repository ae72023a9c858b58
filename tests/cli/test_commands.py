"""llama-local: the command in ~/bin, its command line, and `llama-local hardware` on simulated machines."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from claude_local.claude.wrapper import render
from claude_local.cli.__main__ import MODULES, parser
from claude_local.cli.hardware import show
from claude_local.hardware.variant import choose
from tests.hardware import hardware_outputs as outputs
from tests.hardware.hardware_outputs import Machine, smi

PROJECT = Path(__file__).parents[2]
TEMPLATE = (PROJECT / "templates" / "llama-local").read_text()


def llama_local(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "claude_local.cli", *arguments]
    env = {**os.environ, "PYTHONPATH": str(PROJECT), **environment}
    return subprocess.run(words, capture_output=True, text=True, timeout=120, env=env)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def hardware(machine: Machine, *arguments: str) -> str:
    done = llama_local("hardware", "--root", str(machine.root), *arguments, PATH=str(machine.bin))
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


def test_a_workstation_with_two_generations_of_gpus(machine: Machine) -> None:
    machine.nvidia_smi(smi(outputs.TITAN_V, outputs.RTX_5880))
    machine.card("0000:65:00.0", "0x10de", driver="nvidia", screens=("connected",))
    lines = hardware(machine).splitlines()
    titan, ada = (
        next(line for line in lines if line.startswith(name)) for name in ("NVIDIA TITAN V", "NVIDIA RTX 5880")
    )
    assert titan.split()[3:] == ["12.0", "GiB", "11.7", "GiB", "7.0", "570.86.15", "no"]
    assert ada.split()[5:] == ["48.0", "GiB", "47.4", "GiB", "8.9", "570.86.15", "yes"]
    text = "\n".join(lines)
    assert "Image: cuda" in text and "CUDA 12.8.1 for 70-real;89-real" in text
    assert "container toolkit is not installed" in text and "Fix: ./provision" in text


def test_a_missing_driver_names_the_command_that_installs_it(machine: Machine) -> None:
    machine.card("0000:01:00.0", "0x10de", driver="nouveau")
    machine.tool("lspci", f"cat <<'END'\n{outputs.LSPCI_RTX_4070}\nEND")
    text = hardware(machine)
    assert "none (nouveau)" in text and "Image: cpu" in text
    assert "GeForce RTX 4070 has no NVIDIA driver" in text and "apt install nvidia-driver" in text


def test_a_machine_without_a_gpu_is_not_an_error(machine: Machine) -> None:
    text = hardware(machine)
    assert text.startswith("no GPU\n") and "Test CPU, 2 cores, 2 threads" in text
    assert "avx2 fma" in text and "62.5 GiB" in text and "Image: cpu (no usable GPU)" in text


def test_a_name_with_brackets_is_printed_unchanged(machine: Machine) -> None:
    machine.nvidia_smi(smi(outputs.RTX_5080.replace("NVIDIA GeForce RTX 5080", "NVIDIA [bold]odd[/] card")))
    text = hardware(machine)
    assert text.splitlines()[1].startswith("NVIDIA [bold]odd[/] card ") and text.count("[bold]odd[/]") == 2


def test_json_output(machine: Machine) -> None:
    machine.nvidia_smi(smi(outputs.RTX_4080_SUPER))
    machine.tool("nvidia-ctk", "echo 'NVIDIA Container Toolkit CLI version 1.18.0'")
    data = json.loads(hardware(machine, "--json"))
    (gpu,) = data["hardware"]["gpus"]
    assert (gpu["name"], gpu["memory_mib"], gpu["display"]) == ("NVIDIA GeForce RTX 4080 SUPER", 16376, True)
    assert data["hardware"]["container_toolkit"] == "1.18.0"
    verdict = data["verdict"]
    assert (verdict["variant"], verdict["gpus"], verdict["missing"]) == ("cuda", ["0000:01:00.0"], [])
    assert verdict["cuda"] == {"version": "12.8.1", "architectures": ["89-real"]}


def test_a_machine_without_a_shell_gets_a_problem_and_a_fix(tmp_path: Path) -> None:
    done = llama_local("hardware", PATH=str(tmp_path))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("llama-local: ") and "\n  Fix: " in done.stderr


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


# --- the command in ~/bin -------------------------------------------------------------------------------------------


def command(tmp_path: Path, python: str) -> Path:
    path = tmp_path / "llama-local"
    path.write_text(render(TEMPLATE, python=python))
    path.chmod(0o755)
    return path


def test_the_command_runs_the_runtimes_python_with_its_arguments(tmp_path: Path) -> None:
    python = tmp_path / "it's a venv" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s|" "$@"\nexit 7\n')
    python.chmod(0o755)
    done = subprocess.run([command(tmp_path, str(python)), "models", "a b"], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.returncode) == ("-I|-m|claude_local.cli|models|a b|", 7)


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
    assert "Install llama-local" in names


def test_a_table_fits_80_columns(machine: Machine) -> None:
    machine.nvidia_smi(smi(outputs.TITAN_V, outputs.RTX_5880))
    result = machine.probe()
    text = io.StringIO()
    show(result, choose(result), Console(width=80, file=text))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "570.86.15" in next(line for line in lines if line.startswith("NVIDIA RTX 5880")), "a GPU is one row"
