"""NVIDIA's own nvidia-smi through the probe: GPUs that a stand-in library claims, and every way in which it fails.

The failures without a GPU are nvidia-smi's own words; so is the query that it refuses for all GPUs when one is lost.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from claude_local.hardware.variant import choose
from tests.hardware.hardware_outputs import Machine
from tests.hardware.real_nvidia_smi import compile_library, fetch

pytestmark = [pytest.mark.integration]

DRIVERS = {"bookworm": "535.261.03", "trixie": "550.163.01"}
RTX_4090 = "00000000:01:00|NVIDIA GeForce RTX 4090|24564|23900|8.9|{display}|{status}"
RTX_2080 = "00000000:02:00|NVIDIA GeForce RTX 2080|8192|8000|7.5|0|{status}"


def gpus(*rows: str, display: int = 0, status: int = 0) -> str:
    """NVML_GPUS for these; ``status`` is the last one's."""
    states = [0] * (len(rows) - 1) + [status]
    return ";".join(row.format(display=display, status=state) for row, state in zip(rows, states, strict=True))


@pytest.fixture(scope="module", params=DRIVERS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """nvidia-smi, and the version of the driver that it belongs to."""
    try:
        return fetch(tmp_path_factory.mktemp(request.param), request.param), DRIVERS[request.param]
    except StopIteration:
        pytest.skip("apt has no Debian archive here")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_library(tmp_path_factory.mktemp("nvml"))


class RealSmi(Machine):
    """A machine with NVIDIA's nvidia-smi. ``variables``: for the stand-in library."""

    variables: dict[str, str]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self.variables}


@pytest.fixture
def machine(tmp_path: Path, program: tuple[Path, str], library: Path) -> RealSmi:
    made = RealSmi(tmp_path)
    made.variables = {"LD_LIBRARY_PATH": str(library), "NVML_DRIVER": program[1]}
    (made.bin / "nvidia-smi").symlink_to(program[0])
    made.card("0000:01:00.0", "0x10de", "0x2684", driver="nvidia", screens=("disconnected",))
    return made


def test_one_gpu(machine: RealSmi) -> None:
    machine.variables["NVML_GPUS"] = gpus(RTX_4090)
    hardware = machine.probe()
    (gpu,) = hardware.gpus
    assert (gpu.name, gpu.memory_mib, gpu.free_mib, gpu.compute_capability) == (
        "NVIDIA GeForce RTX 4090",
        24564,
        23900,
        "8.9",
    )
    assert (gpu.pci, gpu.driver, gpu.display) == ("0000:01:00.0", machine.variables["NVML_DRIVER"], False)
    assert choose(hardware).variant == "cuda"


def test_two_generations_with_a_screen_on_one(machine: RealSmi) -> None:
    machine.variables["NVML_GPUS"] = gpus(RTX_4090, RTX_2080, display=1)
    hardware = machine.probe()
    assert [(gpu.index, gpu.compute_capability, gpu.display) for gpu in hardware.gpus] == [
        (0, "8.9", True), (1, "7.5", False)
    ]  # fmt: skip
    cuda = choose(hardware).cuda
    assert cuda is not None and cuda.architectures == ("75-real", "89-real")


def test_a_driver_that_is_too_old(machine: RealSmi) -> None:
    machine.variables |= {"NVML_GPUS": gpus(RTX_4090), "NVML_DRIVER": "515.105.01"}
    chosen = choose(machine.probe())
    assert chosen.variant == "cpu" and "515.105.01 is older than 525" in chosen.missing[0].what


@pytest.mark.parametrize(
    ("broken", "words", "fix"),
    [
        ({"NVML_INIT": "9"}, "couldn't communicate with the NVIDIA driver", "dmesg"),
        ({"LD_LIBRARY_PATH": ""}, "couldn't find libnvidia-ml.so", "dmesg"),
        ({"NVML_INIT": "18"}, "Driver/library version mismatch", "sudo reboot"),
        ({"NVML_GPUS": ""}, "No devices were found", "dmesg"),
        ({"NVML_GPUS": gpus(RTX_4090, RTX_2080, status=15)}, "GPU is lost", "sudo reboot"),
    ],
    ids=["no driver", "no library", "mismatch", "no device", "fell off the bus"],
)
def test_a_failure_is_told_in_nvidia_smis_words(machine: RealSmi, broken: dict[str, str], words: str, fix: str) -> None:
    machine.variables |= broken
    hardware = machine.probe()
    assert words in hardware.nvidia_smi and hardware.gpus[0].driver is None
    chosen = choose(hardware)
    assert chosen.variant == "cpu" and words in chosen.missing[0].what and fix in chosen.missing[0].fix


def test_wsl_2_has_it_in_a_place_of_its_own_and_no_pci_device(machine: RealSmi, tmp_path: Path) -> None:
    place = machine.root / "usr/lib/wsl/lib"
    place.mkdir(parents=True)
    (machine.bin / "nvidia-smi").rename(place / "nvidia-smi")
    shutil.rmtree(machine.root / "sys/bus/pci")
    machine.file("proc/sys/kernel/osrelease", "5.15.167.4-microsoft-standard-WSL2\n")
    machine.variables["NVML_GPUS"] = gpus(RTX_4090, display=1)
    hardware = machine.probe()
    assert hardware.wsl and choose(hardware).variant == "cuda"
    machine.variables |= {"NVML_DRIVER": "515.105.01"}
    assert "in Windows" in choose(machine.probe()).missing[0].fix
    machine.variables |= {"NVML_INIT": "9"}
    chosen = choose(machine.probe())
    assert chosen.variant == "cpu" and "couldn't communicate" in chosen.reason
