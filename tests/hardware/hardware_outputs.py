"""Outputs of real machines for the tests of the hardware parser, each with its source, and a machine made of files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from claude_local.hardware.machine import Hardware
from claude_local.hardware.probe import PROBE, parse

HEADER = "index, pci.bus_id, name, memory.total [MiB], memory.free [MiB], driver_version, display_active, compute_cap"

# Columns of the whole --query-gpu captures in github.com/utkuozdemir/nvidia_gpu_exporter, internal/captures (e656cd8).
H200 = "0, 00000000:83:00.0, NVIDIA H200, 143771 MiB, 143158 MiB, 590.48.01, Disabled, 9.0"
L40S = "0, 00000000:01:00.0, NVIDIA L40S, 46068 MiB, 45460 MiB, 595.80, Disabled, 8.9"
RTX_4080_SUPER = "0, 00000000:01:00.0, NVIDIA GeForce RTX 4080 SUPER, 16376 MiB, 15348 MiB, 595.71.05, Enabled, 8.9"
RTX_2080_SUPER = "0, 00000000:0C:00.0, NVIDIA GeForce RTX 2080 SUPER, 8192 MiB, 7582 MiB, 610.57.04, Disabled, 7.5"
# From a report of 2026-01-29 (name, memory, driver and capability; address and display are added).
RTX_5080 = "0, 00000000:01:00.0, NVIDIA GeForce RTX 5080, 16303 MiB, 10379 MiB, 590.48.01, Enabled, 12.0"
# github.com/triton-inference-server/server, pull request 8070: driver 570.86.15, a TITAN V beside an RTX 5880 Ada
# (memory as in NVIDIA's data sheets; addresses are added).
TITAN_V = "0, 00000000:17:00.0, NVIDIA TITAN V, 12288 MiB, 12000 MiB, 570.86.15, Disabled, 7.0"
RTX_5880 = "1, 00000000:65:00.0, NVIDIA RTX 5880 Ada Generation, 49140 MiB, 48500 MiB, 570.86.15, Disabled, 8.9"
# A GPU that shares the machine's memory reports none (DGX Spark, a site's documentation of 2026-04-04).
GB10 = "0, 0000000F:01:00.0, NVIDIA GB10, [N/A], [N/A], 580.95.05, Disabled, 12.1"

# github.com/huggingface/candle, issue 733: driver 470 does not know the field.
INVALID_FIELD = 'Field "compute_cap" is not a valid field to query.'
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running."
)
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.95"

# lspci -Dmm. The first two lines are from other projects' tests, except for the domain that -D adds (a code search for
# the device's name with "-rc5" or "-ra1" finds them). The UHD's line is composed from pci.ids. The tests write sysfs
# files for AMD's and Intel's cards as the kernel documents them (gpu/amdgpu), with the memory sizes of real cards.
LSPCI_RX_6700 = (
    '0000:09:00.0 "VGA compatible controller" "Advanced Micro Devices, Inc. [AMD/ATI]" '
    '"Navi 22 [Radeon RX 6700/6700 XT/6750 XT / 6800M/6850M XT]" -rc5 "Sapphire" "Device 2410"'
)
LSPCI_RTX_4070 = '0000:01:00.0 "VGA compatible controller" "NVIDIA Corporation" "AD104 [GeForce RTX 4070]" -ra1'
# github.com/ProjectPhysX/OpenCL-Benchmark, pull request 19.
LSPCI_ARC_A770 = '0000:03:00.0 "VGA compatible controller" "Intel Corporation" "DG2 [Arc A770]" -r08'
LSPCI_UHD = '0000:00:02.0 "VGA compatible controller" "Intel Corporation" "CometLake-U GT2 [UHD Graphics]" -r02'

# A virtual machine with two cores and no GPU, probed on 2026-11-23.
VIRTUAL_MACHINE = """== system
distro debian
codename bookworm
== cpu
model name\t: AMD EPYC
flags\t\t: fpu vme de pse tsc msr pae mce cx8 apic sse sse2 ssse3 fma avx f16c avx2 bmi2 avx512f avx512_bf16 avx512_vnni
processor\t: 0
processor\t: 1
== siblings
0
1
== memory
MemTotal:       24684092 kB
MemAvailable:   22140196 kB
== disks
Filesystem              Type         1-blocks        Used   Available Capacity Mounted on
devtmpfs                devtmpfs  12630519808           0 12630519808       0% /dev
tmpfs                   tmpfs     25276510208           0 25276510208       0% /dev/shm
/dev/vda                ext4     270553174016 38276988928 70667304960      36% /
overlay                 overlay  270553174016 38276988928 70667304960      36% /var/lib/docker/overlay2/7ad/merged
== pci
== lspci
== module
"""


def smi(*rows: str) -> str:
    """nvidia-smi's output for these rows."""
    return "\n".join([HEADER, *rows])


class Machine:
    """A root file system for the probe, and a PATH with the tools that it may use."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin = folder / "root", folder / "bin"
        self.bin.mkdir()
        for tool in ("sh", "cat", "df", "grep", "sed", "head", "readlink", "stat", "timeout"):
            for place in ("/usr/bin", "/bin"):
                if os.path.exists(f"{place}/{tool}") and not (self.bin / tool).exists():
                    (self.bin / tool).symlink_to(f"{place}/{tool}")
        self.file("etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n")
        self.file("proc/cpuinfo", "processor\t: 0\nmodel name\t: Test CPU\nflags\t\t: avx2 fma\nprocessor\t: 1\n")
        self.file("proc/meminfo", "MemTotal:       65536000 kB\nMemAvailable:   60000000 kB\n")

    def file(self, path: str, text: str) -> None:
        """Write a file below the root."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def tool(self, name: str, script: str) -> None:
        """Install a shell script as a command."""
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def nvidia_smi(self, output: str, status: int = 0) -> None:
        """Install an nvidia-smi with this output and exit status."""
        self.tool("nvidia-smi", f"cat <<'END'\n{output}\nEND\nexit {status}")

    def card(
        self, address: str, vendor: str, device: str = "0x1234", *, driver: str | None = None, kind: str = "0x030000",
        vram: int | None = None, used: int = 0, screens: tuple[str, ...] = (), node: str | None = None,
    ) -> None:  # fmt: skip
        """Add a PCI device as the kernel shows it; ``screens`` is the state of each connector."""
        folder = f"sys/bus/pci/devices/{address}"
        for name, value in (("class", kind), ("vendor", vendor), ("device", device)):
            self.file(f"{folder}/{name}", f"{value}\n")
        if driver:
            (self.root / "sys/bus/pci/drivers" / driver).mkdir(parents=True, exist_ok=True)
            (self.root / folder / "driver").symlink_to(f"../../drivers/{driver}")
        if vram is not None:
            self.file(f"{folder}/mem_info_vram_total", f"{vram}\n")
            self.file(f"{folder}/mem_info_vram_used", f"{used}\n")
        for number, state in enumerate(screens):
            self.file(f"{folder}/drm/card1/card1-DP-{number}/status", f"{state}\n")
        if screens:
            self.file(f"{folder}/drm/card1/card1-Writeback-1/status", "unknown\n")
        if node:
            (self.root / folder / "drm" / node).mkdir(parents=True)
            self.file(f"dev/dri/{node}", "")

    def environment(self) -> dict[str, str]:
        return {"PATH": str(self.bin)}

    def probe(self) -> Hardware:
        """The result of the real script and the real parser."""
        argv = ["/bin/sh", "-c", PROBE, "sh", str(self.root)]
        done = subprocess.run(argv, env=self.environment(), capture_output=True, text=True, timeout=60, check=True)
        assert done.stderr == ""
        return parse(done.stdout.splitlines())
