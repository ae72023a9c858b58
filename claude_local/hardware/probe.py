"""A shell script that prints the machine's hardware, and the parser of its output. Pure.

The deploy runs the script through pyinfra (claude_local/deploy/facts/hardware.py), llama-local runs it on the
workstation. Each section of the output starts with a line ``== NAME``. The section of a missing tool is left out or
empty.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping

from claude_local.hardware.machine import Gpu, Hardware

# $1 is the root of the file system, for tests. The script runs in every deploy, so it starts few processes, and df has
# a time limit because a network file system may not answer. It does not query display_attached: datacenter cards
# without a connector answer Yes (captures of drivers 590 and 595, see docs/decisions/0008). Drivers before 510 do not
# know compute_cap.
PROBE = r"""
root=$1
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin:$root/usr/lib/wsl/lib
echo '== system'
( . "$root/etc/os-release" 2>/dev/null; echo "distro ${ID:-}"; echo "codename ${VERSION_CODENAME:-}" )
grep -qi microsoft "$root/proc/sys/kernel/osrelease" 2>/dev/null && echo 'wsl yes'
echo '== cpu'
grep -m1 -E '^(model name|Model)' "$root/proc/cpuinfo" 2>/dev/null
grep -m1 -E '^(flags|Features)' "$root/proc/cpuinfo" 2>/dev/null
grep -E '^processor' "$root/proc/cpuinfo" 2>/dev/null
echo '== siblings'
cat "$root"/sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list 2>/dev/null
echo '== memory'
grep -E '^(MemTotal|MemAvailable):' "$root/proc/meminfo" 2>/dev/null
echo '== disks'
timeout 10 df -PT -B1 2>/dev/null
test $? -ne 124 || timeout 10 df -PlT -B1 2>/dev/null
echo '== pci'
for device in "$root"/sys/bus/pci/devices/*; do
  class= vendor= id= total= used=
  { read -r class <"$device/class"; } 2>/dev/null
  case $class in 0x03*) ;; *) continue ;; esac
  { read -r vendor <"$device/vendor"; read -r id <"$device/device"; } 2>/dev/null
  { read -r total <"$device/mem_info_vram_total"; read -r used <"$device/mem_info_vram_used"; } 2>/dev/null
  driver=$(readlink "$device/driver")
  connected=0 connectors=0
  for status in "$device"/drm/card*/card*-*/status; do
    { read -r state <"$status"; } 2>/dev/null || continue
    case $status in *-Writeback-*) continue ;; esac
    connectors=$((connectors + 1))
    test "$state" != connected || connected=$((connected + 1))
  done
  node= gid=
  for render in "$device"/drm/renderD*; do
    test -e "$render" || continue
    node=/dev/dri/${render##*/}
    gid=$(stat -c %g "$root$node" 2>/dev/null)
  done
  echo "${device##*/} vendor=$vendor device=$id driver=${driver##*/} total=$total used=$used" \
    "connected=$connected connectors=$connectors node=$node gid=$gid"
done
echo '== lspci'
lspci -Dmm 2>/dev/null | grep -E '"(VGA compatible|3D|Display) controller"'
echo '== module'
head -n 1 "$root/proc/driver/nvidia/version" 2>/dev/null
if command -v nvidia-smi >/dev/null 2>&1; then
  first=index,pci.bus_id,name,memory.total,memory.free,driver_version,display_active
  for fields in "$first,compute_cap" "$first"; do
    answer=$({ timeout 30 nvidia-smi --query-gpu="$fields" --format=csv 2>&1 >&3 3>&- | sed 's/^/stderr: /'; } 3>&1)
    case $answer in *'not a valid field'*) continue ;; esac
    break
  done
  echo '== nvidia-smi'
  printf '%s\n' "$answer"
fi
if command -v nvidia-ctk >/dev/null 2>&1; then
  echo '== toolkit'
  nvidia-ctk --version 2>/dev/null
fi
true
"""

# How the script marks what nvidia-smi prints on stderr: a reason, never a GPU.
STDERR = "stderr: "
VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
_NAMES = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}
# The kernel drivers that Mesa's Vulkan drivers work with.
_VULKAN_DRIVERS = frozenset({"amdgpu", "radeon", "i915", "xe"})
# File systems that cannot hold models or images.
_VIRTUAL = frozenset({"tmpfs", "devtmpfs", "squashfs", "efivarfs", "ramfs", "overlay", "iso9660", "fuse.snapfuse"})


def parse(lines: Iterable[str]) -> Hardware:
    """The machine described by the output of :data:`PROBE`. A missing or malformed value is empty or None."""
    sections = _sections(lines)
    system = _pairs(sections.get("system", []), " ")
    cpu = _pairs(sections.get("cpu", []), ":")
    memory = _pairs(sections.get("memory", []), ":")
    siblings = sections.get("siblings", [])
    threads = len(siblings) or sum(line.startswith("processor") for line in sections.get("cpu", [])) or 1
    rows, error = _nvidia_smi(sections)
    toolkit = re.search(r"version (\d[\w.+~-]*)", " ".join(sections.get("toolkit", [])))
    return Hardware(
        gpus=_gpus(sections, rows, module_counts=not error),
        cpu=cpu.get("model name") or cpu.get("Model") or "",
        cpu_flags=tuple((cpu.get("flags") or cpu.get("Features") or "").split()),
        cores=len(set(siblings)) or threads,
        threads=threads,
        memory_mib=(_number(memory.get("MemTotal")) or 0) // 1024,
        available_mib=(_number(memory.get("MemAvailable")) or 0) // 1024,
        disk_free=_disks(sections.get("disks", [])),
        nvidia_smi=error,
        container_toolkit=(toolkit[1] if toolkit else "unknown") if "toolkit" in sections else None,
        distro=system.get("distro", ""),
        codename=system.get("codename", ""),
        wsl="wsl" in system,
    )


def _sections(lines: Iterable[str]) -> dict[str, list[str]]:
    """The non-empty lines of each section by its name."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        if line.startswith("== "):
            current = sections.setdefault(line[3:].strip(), [])
        elif line.strip():
            current.append(line.rstrip())
    return sections


def _pairs(lines: Iterable[str], separator: str) -> dict[str, str]:
    """``NAME SEPARATOR VALUE`` lines as a dictionary."""
    pairs = (line.partition(separator) for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _number(text: str | None) -> int | None:
    """The whole number at the start of a text; None for ``[N/A]`` and the like."""
    digits = re.match(r"\s*(\d+)", text or "")
    return int(digits[1]) if digits else None


def _disks(lines: Iterable[str]) -> dict[str, int]:
    """Mount point -> free bytes, from ``df -PT -B1``: the root, and each mount that can hold models or images."""
    free = {}
    for line in lines:
        cells = line.split(None, 6)
        if len(cells) < 7 or not (cells[2].isdigit() and cells[4].isdigit()):
            continue
        filesystem, mount = cells[1], cells[6]
        has_room = filesystem not in _VIRTUAL and int(cells[2]) > 0
        if mount == "/" or (has_room and not mount.startswith(("/proc", "/sys", "/dev", "/snap/"))):
            free[mount] = int(cells[4])
    return free


def _nvidia_smi(sections: Mapping[str, list[str]]) -> tuple[list[dict[str, str]], str]:
    """nvidia-smi's rows, or its error message when there are none; both are empty without an nvidia-smi.

    The exit status is ignored. A card with a damaged infoROM works, but gives status 14 (NVIDIA/gpu-operator 285). Some
    releases print "No devices were found" with status 0.
    """
    if "nvidia-smi" not in sections:
        return [], ""
    output = sections["nvidia-smi"]
    rows = _csv([line for line in output if not line.startswith(STDERR)])
    if rows:
        return rows, ""
    return [], " ".join(line.removeprefix(STDERR) for line in output) or "nvidia-smi printed nothing in 30 seconds"


def _csv(lines: list[str]) -> list[dict[str, str]]:
    """nvidia-smi's rows by column name, without the unit (``memory.total [MiB]``)."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    head = next((number for number, row in enumerate(rows) if "name" in row), None)
    if head is None:
        return []
    columns = [cell.partition(" ")[0] for cell in rows[head]]
    return [dict(zip(columns, row, strict=True)) for row in rows[head + 1 :] if len(row) == len(columns)]


def _gpus(
    sections: Mapping[str, list[str]], rows: Iterable[Mapping[str, str]], *, module_counts: bool
) -> tuple[Gpu, ...]:
    """All GPUs: NVIDIA's from nvidia-smi's ``rows``, then the other PCI devices by address.

    ``module_counts``: the version of NVIDIA's loaded kernel module counts as the driver's. It does not when nvidia-smi
    failed.
    """
    devices = {}
    for line in sections.get("pci", []):
        address, *fields = line.split()
        devices[address] = dict(field.partition("=")[::2] for field in fields)
    names = _lspci_names(sections.get("lspci", []))
    module = re.search(r"\s(\d{3,}\.\d+(?:\.\d+)?)\s", " ".join(sections.get("module", [])) + " ")
    nvidia_driver = module[1] if module and module_counts else None
    listed = []
    for row in rows:
        address = _address(row.get("pci.bus_id", ""))
        listed.append(_nvidia(row, address, devices.pop(address, {})))
    listed.sort(key=lambda gpu: gpu.index if gpu.index is not None else len(listed))
    others = [_pci(address, device, names, nvidia_driver) for address, device in sorted(devices.items())]
    return (*listed, *others)


def _nvidia(row: Mapping[str, str], address: str, device: Mapping[str, str]) -> Gpu:
    """A GPU from nvidia-smi's row and the kernel's PCI device."""
    capability, driver = row.get("compute_cap", ""), row.get("driver_version", "")
    active = {"Enabled": True, "Disabled": False}.get(row.get("display_active", ""))
    connected = _display(device)
    return Gpu(
        vendor="nvidia",
        name=row["name"],
        memory_mib=_number(row.get("memory.total")),
        free_mib=_number(row.get("memory.free")),
        compute_capability=capability if re.fullmatch(r"\d+\.\d+", capability) else None,
        driver=driver if driver[:1].isdigit() else None,
        # A sleeping screen is not active, but needs its memory again when it wakes up.
        display=True if active or connected else active if active is not None else connected,
        index=_number(row.get("index")),
        pci=address or None,
        kernel_driver=device.get("driver") or None,
        render_node=device.get("node") or None,
        render_gid=_number(device.get("gid")),
    )


def _pci(address: str, device: Mapping[str, str], names: Mapping[str, str], nvidia_driver: str | None) -> Gpu:
    """A GPU from the kernel's PCI device alone; ``names`` are lspci's."""
    vendor = VENDORS.get(device.get("vendor", ""), "other")
    kernel_driver = device.get("driver") or None
    driver = kernel_driver if vendor != "nvidia" and kernel_driver in _VULKAN_DRIVERS else None
    if vendor == "nvidia" and kernel_driver == "nvidia":
        driver = nvidia_driver
    total, used = _number(device.get("total")), _number(device.get("used"))
    return Gpu(
        vendor=vendor,
        name=_name(vendor, names.get(address), device),
        memory_mib=total // 1024**2 if total else None,
        free_mib=(total - used) // 1024**2 if total and used is not None else None,
        driver=driver,
        display=_display(device),
        pci=address,
        kernel_driver=kernel_driver,
        render_node=device.get("node") or None,
        render_gid=_number(device.get("gid")),
    )


def _display(device: Mapping[str, str]) -> bool | None:
    """Whether a screen is plugged into the card; None when the kernel shows no connectors."""
    if not _number(device.get("connectors")):
        return None
    return bool(_number(device.get("connected")))


def _address(bus_id: str) -> str:
    """nvidia-smi's ``00000000:0C:00.0`` in the kernel's form, ``0000:0c:00.0``."""
    domain, _, rest = bus_id.strip().lower().partition(":")
    return f"{domain[-4:]}:{rest}" if rest else ""


def _lspci_names(lines: Iterable[str]) -> dict[str, str]:
    """Address -> the device's name, from ``lspci -Dmm``: ``ADDRESS "CLASS" "VENDOR" "DEVICE" ...``."""
    cells = ((line.partition(" ")[0], re.findall(r'"([^"]*)"', line)) for line in lines)
    return {address: quoted[2] for address, quoted in cells if len(quoted) > 2}


def _name(vendor: str, lspci_name: str | None, device: Mapping[str, str]) -> str:
    """``AD102 [GeForce RTX 4090]`` becomes ``NVIDIA GeForce RTX 4090``; without lspci it is the PCI numbers."""
    ids = f"{device.get('vendor', '')[2:]}:{device.get('device', '')[2:]}"
    marketed = re.search(r"\[(.+)\]", lspci_name or "")
    name = (marketed[1] if marketed else lspci_name) or f"GPU {ids}"
    return f"{_NAMES[vendor]} {name}" if vendor in _NAMES else name
