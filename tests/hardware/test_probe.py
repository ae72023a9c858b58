"""The probe: real outputs, a machine made of files, and nonsense."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.hardware.machine import Gpu, Hardware
from claude_local.hardware.probe import PROBE, parse
from tests.hardware import hardware_outputs as outputs
from tests.hardware.hardware_outputs import Machine, smi


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def one(machine: Machine) -> Gpu:
    (gpu,) = machine.probe().gpus
    return gpu


def test_a_machine_without_any_tool_is_still_described(machine: Machine) -> None:
    for tool in ("df", "readlink", "stat", "timeout"):
        (machine.bin / tool).unlink()
    hardware = machine.probe()
    assert hardware.gpus == () and hardware.disk_free == {}
    assert (hardware.cpu, hardware.cpu_flags, hardware.threads) == ("Test CPU", ("avx2", "fma"), 2)
    assert (hardware.memory_mib, hardware.available_mib) == (64000, 58593)
    assert (hardware.distro, hardware.codename) == ("debian", "bookworm")


def test_this_machine_is_described_as_by_its_kernel() -> None:
    done = subprocess.run(["sh", "-c", PROBE, "sh", ""], capture_output=True, text=True, timeout=120, check=True)
    hardware = parse(done.stdout.splitlines())
    assert hardware.threads >= hardware.cores >= 1 and hardware.threads >= len(os.sched_getaffinity(0))
    assert hardware.memory_mib == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024**2
    assert 0 < hardware.available_mib <= hardware.memory_mib
    assert abs(hardware.disk_free["/"] - shutil.disk_usage("/").free) < 5 * 1024**3
    assert hardware.cpu_flags


def test_a_recorded_virtual_machine_has_no_gpu_and_one_disk() -> None:
    hardware = parse(outputs.VIRTUAL_MACHINE.splitlines())
    assert hardware.gpus == () and hardware.disk_free == {"/": 70667304960}
    assert (hardware.cores, hardware.threads, hardware.memory_mib) == (2, 2, 24105)
    assert "avx512_vnni" in hardware.cpu_flags and hardware.nvidia_smi == "" and hardware.container_toolkit is None


def test_threads_that_share_a_core_are_counted_once(machine: Machine) -> None:
    for thread, siblings in enumerate(("0,4", "1,5", "2-3", "2-3", "0,4", "1,5")):
        machine.file(f"sys/devices/system/cpu/cpu{thread}/topology/thread_siblings_list", f"{siblings}\n")
    hardware = machine.probe()
    assert (hardware.cores, hardware.threads) == (3, 6)


# --- NVIDIA ---------------------------------------------------------------------------------------------------------


def test_nvidia_smi_describes_an_nvidia_gpu(machine: Machine) -> None:
    machine.nvidia_smi(smi(outputs.RTX_4080_SUPER))
    machine.card("0000:01:00.0", "0x10de", driver="nvidia", node="renderD128")
    gpu = one(machine)
    assert (gpu.vendor, gpu.name) == ("nvidia", "NVIDIA GeForce RTX 4080 SUPER")
    assert (gpu.memory_mib, gpu.free_mib) == (16376, 15348)
    assert (gpu.compute_capability, gpu.driver, gpu.display) == ("8.9", "595.71.05", True)
    assert (gpu.index, gpu.pci, gpu.kernel_driver) == (0, "0000:01:00.0", "nvidia")
    assert gpu.render_node == "/dev/dri/renderD128" and gpu.render_gid == os.getgid()


@pytest.mark.parametrize("row", [outputs.H200, outputs.L40S])
def test_a_datacenter_card_has_no_screen(machine: Machine, row: str) -> None:
    machine.nvidia_smi(smi(row))
    assert one(machine).display is False


def test_a_sleeping_screen_counts(machine: Machine) -> None:
    """display_active is Disabled while the desktop sleeps; the kernel still reports the cable."""
    machine.nvidia_smi(smi(outputs.RTX_2080_SUPER))
    machine.card("0000:0c:00.0", "0x10de", driver="nvidia", screens=("disconnected", "connected"))
    assert one(machine).display is True


def test_a_card_with_empty_connectors_has_no_screen(machine: Machine) -> None:
    machine.nvidia_smi(smi(outputs.RTX_2080_SUPER))
    machine.card("0000:0c:00.0", "0x10de", driver="nvidia", screens=("disconnected", "disconnected"))
    assert one(machine).display is False


def test_two_generations_come_in_the_order_of_nvidia_smi(machine: Machine) -> None:
    machine.nvidia_smi(smi(outputs.RTX_5880, outputs.TITAN_V))
    hardware = machine.probe()
    assert [(gpu.index, gpu.compute_capability) for gpu in hardware.gpus] == [(0, "7.0"), (1, "8.9")]


def test_a_gpu_without_memory_of_its_own_reports_none(machine: Machine) -> None:
    machine.nvidia_smi(smi(outputs.GB10))
    gpu = one(machine)
    assert (gpu.memory_mib, gpu.free_mib, gpu.compute_capability) == (None, None, "12.1")
    assert gpu.pci == "000f:01:00.0"


def test_a_field_that_the_driver_does_not_know_is_left_out_of_the_query(machine: Machine) -> None:
    rows = "\n".join(line.rpartition(",")[0] for line in smi(outputs.TITAN_V).splitlines()).replace(
        "570.86.15", "470.182.03"
    )
    machine.tool(
        "nvidia-smi",
        f"case $1 in *compute_cap*) echo '{outputs.INVALID_FIELD}'; exit 2 ;; esac\ncat <<'END'\n{rows}\nEND",
    )
    gpu = one(machine)
    assert (gpu.name, gpu.driver, gpu.compute_capability) == ("NVIDIA TITAN V", "470.182.03", None)


@pytest.mark.parametrize("kernel", [None, "nouveau"])
def test_a_card_without_nvidias_driver_is_listed_without_a_driver(machine: Machine, kernel: str | None) -> None:
    machine.card("0000:01:00.0", "0x10de", "0x2786", driver=kernel)
    machine.tool("lspci", f"cat <<'END'\n{outputs.LSPCI_RTX_4070}\nEND")
    gpu = one(machine)
    assert (gpu.name, gpu.driver, gpu.kernel_driver) == ("NVIDIA GeForce RTX 4070", None, kernel)


def test_what_nvidia_smi_prints_on_stderr_is_a_reason_and_no_gpu(machine: Machine) -> None:
    table = smi(outputs.RTX_2080_SUPER)
    false = table.splitlines()[-1].replace("2080", "9999")
    machine.tool("nvidia-smi", f"echo '{false}' >&2\ncat <<'END'\n{table}\nEND\necho '{false}' >&2")
    assert one(machine).name == "NVIDIA GeForce RTX 2080 SUPER"
    machine.tool("nvidia-smi", "echo 'libnvidia-ml.so.1 is missing' >&2; exit 12")
    assert machine.probe().nvidia_smi == "libnvidia-ml.so.1 is missing"


@pytest.mark.parametrize("message", [outputs.NO_DRIVER, outputs.MISMATCH])
def test_the_message_of_a_failing_nvidia_smi_is_kept(machine: Machine, message: str) -> None:
    machine.nvidia_smi(message, status=9)
    machine.card("0000:01:00.0", "0x10de", "0x2786", driver="nvidia")
    machine.file(
        "proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\n"
    )
    hardware = machine.probe()
    assert hardware.nvidia_smi == " ".join(message.split("\n"))
    assert hardware.gpus[0].driver is None and hardware.gpus[0].name == "NVIDIA GPU 10de:2786"


def test_nvidia_smis_rows_count_with_any_exit_status(machine: Machine) -> None:
    """Status 14 means that the card's infoROM is damaged; the card works."""
    machine.nvidia_smi(f"{smi(outputs.L40S)}\nWARNING: infoROM is corrupted at gpu 0000:01:00.0", status=14)
    machine.card("0000:01:00.0", "0x10de", driver="nvidia")
    gpu = one(machine)
    assert (gpu.driver, gpu.compute_capability, gpu.memory_mib) == ("595.80", "8.9", 46068)
    assert machine.probe().nvidia_smi == ""


@pytest.mark.parametrize("status", [0, 6])
def test_an_nvidia_smi_without_rows_has_failed_with_any_exit_status(machine: Machine, status: int) -> None:
    machine.nvidia_smi("No devices were hardware", status=status)
    machine.card("0000:01:00.0", "0x10de", "0x2f04", driver="nvidia")
    machine.file("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue\n")
    hardware = machine.probe()
    assert hardware.nvidia_smi == "No devices were hardware" and hardware.gpus[0].driver is None


def test_without_nvidia_smi_the_driver_is_the_kernel_modules_version(machine: Machine) -> None:
    machine.card("0000:01:00.0", "0x10de", "0x2786", driver="nvidia")
    machine.file(
        "proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\n"
    )
    assert one(machine).driver == "580.65.06"


def test_the_container_toolkit_is_hardware(machine: Machine) -> None:
    machine.tool("nvidia-ctk", "echo 'NVIDIA Container Toolkit CLI version 1.17.8'; echo 'commit: f202b80a9b9d'")
    assert machine.probe().container_toolkit == "1.17.8"


# --- AMD, Intel, others ---------------------------------------------------------------------------------------------


def test_an_amd_gpu_is_told_by_the_kernel(machine: Machine) -> None:
    machine.card(
        "0000:09:00.0", "0x1002", "0x73df", driver="amdgpu", vram=12868124672, used=1073741824,
        screens=("connected", "disconnected"), node="renderD129",
    )  # fmt: skip
    machine.tool("lspci", f"cat <<'END'\n{outputs.LSPCI_RX_6700}\nEND")
    gpu = one(machine)
    assert (gpu.vendor, gpu.name) == ("amd", "AMD Radeon RX 6700/6700 XT/6750 XT / 6800M/6850M XT")
    assert (gpu.memory_mib, gpu.free_mib) == (12272, 11248)
    assert (gpu.driver, gpu.display, gpu.render_node) == ("amdgpu", True, "/dev/dri/renderD129")


def test_intel_gpus_are_listed_by_their_address(machine: Machine) -> None:
    machine.card("0000:00:02.0", "0x8086", "0x9b41", driver="i915", screens=("connected",), node="renderD128")
    machine.card("0000:03:00.0", "0x8086", "0x56a0", driver="xe", kind="0x038000", node="renderD129")
    machine.tool("lspci", f"cat <<'END'\n{outputs.LSPCI_UHD}\n{outputs.LSPCI_ARC_A770}\nEND")
    inside, card = machine.probe().gpus
    assert (inside.name, inside.display) == ("Intel UHD Graphics", True)
    assert (card.name, card.display, card.driver, card.memory_mib) == ("Intel Arc A770", None, "xe", None)


def test_other_devices_are_not_gpus_and_a_server_boards_chip_is_of_another_vendor(machine: Machine) -> None:
    machine.card("0000:02:00.0", "0x1a03", "0x2000", driver="ast")
    machine.card("0000:04:00.0", "0x10de", "0x22ba", driver="snd_hda_intel", kind="0x040300")
    assert [(gpu.vendor, gpu.name, gpu.driver) for gpu in machine.probe().gpus] == [("other", "GPU 1a03:2000", None)]


def test_a_card_reserved_for_virtual_machines_has_no_driver(machine: Machine) -> None:
    machine.card("0000:09:00.0", "0x1002", "0x73df", driver="vfio-pci")
    assert (one(machine).driver, one(machine).kernel_driver) == (None, "vfio-pci")


def test_every_mount_of_a_real_disk_is_listed_even_with_a_space_in_its_name() -> None:
    text = (
        "== disks\nFilesystem Type 1-blocks Used Available Capacity Mounted on\n"
        "/dev/nvme0n1p2 ext4 100 40 60 40% /\n/dev/sda1 xfs 1000 1 999 1% /mnt/big disk\n"
        "nas:/export nfs4 500 1 499 1% /net/models\n/dev/loop1 squashfs 10 10 0 100% /snap/core/1\n"
        "tmpfs tmpfs 10 0 10 0% /run\nshort line\n"
    )
    assert parse(text.splitlines()).disk_free == {"/": 60, "/mnt/big disk": 999, "/net/models": 499}


_WORD = st.text(alphabet="=:[]/%., 0123456789ABCDEFNnvidia\t\"'", max_size=30)


_LINES = [
    *outputs.VIRTUAL_MACHINE.splitlines(),
    *smi(outputs.H200, outputs.GB10).splitlines(),
    "== nvidia-smi",
    "stderr: name, pci.bus_id",
    "== pci",
    "== toolkit",
    "0000:01:00.0 vendor=0x10de driver=nvidia total=x",
]


@given(st.lists(st.one_of(_WORD, st.sampled_from(_LINES))))
def test_the_parser_accepts_any_output(lines: list[str]) -> None:
    hardware = parse(lines)
    assert isinstance(hardware, Hardware) and hardware.threads >= 1
    assert all(gpu.name and (gpu.memory_mib is None or gpu.memory_mib >= 0) for gpu in hardware.gpus)


@given(
    st.lists(
        st.tuples(
            st.text(alphabet="NVIDIA GeForce RTX 0123456789Ti", min_size=1).map(str.strip).filter(bool),
            st.integers(0, 10**6),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_every_row_of_nvidia_smi_becomes_a_gpu(cards: list[tuple[str, int]]) -> None:
    rows = [
        f"{n}, 00000000:{n:02X}:00.0, {name}, {mib} MiB, 0 MiB, 580.1, Disabled, 8.9"
        for n, (name, mib) in enumerate(cards)
    ]
    hardware = parse(["== nvidia-smi", *smi(*rows).splitlines()])
    assert [(gpu.name, gpu.memory_mib, gpu.index) for gpu in hardware.gpus] == [
        (name, mib, n) for n, (name, mib) in enumerate(cards)
    ]
