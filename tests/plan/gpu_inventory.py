"""Workstations with GPUs that nobody has: pyinfra's @fake, where the hardware's probe gets recorded answers."""

import json

_header = "index, pci.bus_id, name, memory.total [MiB], memory.free [MiB], driver_version, display_active, compute_cap"
_machine = ["== system", "distro debian", "codename bookworm", "== memory", "MemTotal: 65536000 kB"]
_there = json.dumps([{"Id": "sha256:1"}])
_file = "/home/user/.local/share/claude-local/models/model.gguf"
_placed = json.dumps({"profiles": {"qwen2.5-coder-1.5b": {"model": _file, "files": [_file]}}, "files": {}})
_toolkit = ["== toolkit", "NVIDIA Container Toolkit CLI version 1.18.0"]


def _data(*lines, preflight=()):
    # The first key that is part of a command answers it.
    answers = {
        "--query-gpu=": [*_machine, *lines],
        "/proc/net/tcp": ["apt yes", "root yes", *preflight],
        "image inspect claude-local/base:": [_there],
        "image inspect nvidia/cuda:": [_there],
        "/state/models.json": [_placed],
    }
    return {"fake_delay": 0, "fake_delay_jitter": 0, "fake_responses": answers}


machines = [
    (
        "@fake/two-generations",
        _data(
            "== nvidia-smi",
            _header,
            "0, 00000000:01:00.0, NVIDIA GeForce RTX 4090, 24564 MiB, 24090 MiB, 575.64.03, Disabled, 8.9",
            "1, 00000000:02:00.0, NVIDIA GeForce RTX 5070 Ti, 16303 MiB, 15500 MiB, 575.64.03, Enabled, 12.0",
        ),
    ),
    (
        "@fake/hopper",
        _data(
            "== nvidia-smi",
            _header,
            "0, 00000000:83:00.0, NVIDIA H200, 143771 MiB, 143158 MiB, 590.48.01, Disabled, 9.0",
            *_toolkit,
        ),
    ),
    # Its first deploy was before it had a driver; now it has one, and 12 GiB for docker.
    (
        "@fake/hopper-with-a-cpu-image",
        _data(
            "== nvidia-smi",
            _header,
            "0, 00000000:83:00.0, NVIDIA H200, 143771 MiB, 143158 MiB, 590.48.01, Disabled, 9.0",
            *_toolkit,
            preflight=["image b11434-cpu-0123456789ab", f"mount /dev/a ext4 {12 * 2**30} /var/lib/docker"],
        ),
    ),
    (
        "@fake/spark",
        _data(
            "== nvidia-smi",
            _header,
            "0, 0000000F:01:00.0, NVIDIA GB10, [N/A], [N/A], 580.95.05, Disabled, 12.1",
            *_toolkit,
        ),
    ),
    (
        "@fake/amd",
        _data(
            "== pci",
            "0000:09:00.0 vendor=0x1002 device=0x73df driver=amdgpu total=12868124672 used=1073741824 "
            "connected=1 connectors=4 node=/dev/dri/renderD128 gid=105",
            "== lspci",
            '0000:09:00.0 "VGA compatible controller" "Advanced Micro Devices, Inc. [AMD/ATI]" '
            '"Navi 22 [Radeon RX 6700/6700 XT/6750 XT / 6800M/6850M XT]" -rc5 "Sapphire" "Device 2410"',
        ),
    ),
    (
        "@fake/no-driver",
        _data(
            "== pci",
            "0000:01:00.0 vendor=0x10de device=0x2786 driver=nouveau total= used= connected=1 connectors=4 node= gid=",
            "== lspci",
            '0000:01:00.0 "VGA compatible controller" "NVIDIA Corporation" "AD104 [GeForce RTX 4070]" -ra1',
        ),
    ),
]
