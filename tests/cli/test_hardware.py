"""`llama-local hardware` on simulated machines."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from claude_local.cli.hardware import show
from claude_local.hardware.variant import choose
from tests.cli.documented import example, lacks
from tests.cli.test_command_line import llama_local
from tests.hardware import hardware_outputs as outputs
from tests.hardware.hardware_outputs import Machine, smi


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
    assert "Image: cuda" in text and "CUDA 12.8.1 (without a registry 12.4.1) for 70-real;89-real" in text
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
    assert lacks(example("hardware"), data) == []
    verdict = data["verdict"]
    assert (verdict["variant"], verdict["gpus"], verdict["missing"]) == ("cuda", ["0000:01:00.0"], [])
    assert verdict["cuda"] == {"version": "12.8.1", "architectures": ["89-real"]}


def test_a_machine_without_a_shell_gets_a_problem_and_a_fix(tmp_path: Path) -> None:
    done = llama_local("hardware", PATH=str(tmp_path))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("llama-local: ") and "\n  Fix: " in done.stderr


def test_a_table_fits_80_columns(machine: Machine) -> None:
    machine.nvidia_smi(smi(outputs.TITAN_V, outputs.RTX_5880))
    result = machine.probe()
    text = io.StringIO()
    show(result, choose(result), Console(width=80, file=text))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "570.86.15" in next(line for line in lines if line.startswith("NVIDIA RTX 5880")), "a GPU is one row"
