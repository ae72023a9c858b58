"""One look at the hardware: the shell script that asks, and the parser of what it prints. Pure.

The deploy runs the script through pyinfra (claude_local/deploy/facts/hardware.py), llama-local on the workstation itself. A tool
that is absent leaves its part out. Parts are separated by lines ``== NAME``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping

from claude_local.hardware.machine import Gpu, Hardware

# $1: the root of the file system, for tests. Few processes, as it runs in every deploy. A network file system that does
# not answer must not hold it up. display_attached is not asked: datacenter cards without any connector say Yes
# (captures of drivers 590 and 595, see docs/decisions/0008). compute_cap is unknown to drivers before 510.
PROBE = r"""
root=$1
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin:/usr/lib/wsl/lib
echo '== system'
( . "$root/etc/os-release" 2>/dev/null; echo "distro ${ID:-}"; echo "codename ${VERSION_CODENAME:-}" )
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
    said=$(timeout 30 nvidia-smi --query-gpu="$fields" --format=csv 2>&1)
    status=$?
    case $said in *'not a valid field'*) continue ;; esac
    break
  done
  if test "$status" -eq 0; then echo '== nvidia-smi'; else echo '== nvidia-smi failed'; fi
  printf '%s\n' "$said"
fi
if command -v nvidia-ctk >/dev/null 2>&1; then
  echo '== toolkit'
  nvidia-ctk --version 2>/dev/null
fi
true
"""

VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
_NAMES = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}
# Kernel drivers through which Mesa's Vulkan drivers reach a card.
_RENDERING = frozenset({"amdgpu", "radeon", "i915", "xe"})
# File systems that hold nothing of ours.
_VIRTUAL = frozenset({"tmpfs", "devtmpfs", "squashfs", "efivarfs", "ramfs", "overlay", "iso9660", "fuse.snapfuse"})


def parse(lines: Iterable[str]) -> Hardware:
    """The machine that :data:`PROBE` has described; what is missing or makes no sense is left out."""
    parts: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        if line.startswith("== "):
            current = parts.setdefault(line[3:].strip(), [])
        elif line.strip():
            current.append(line.rstrip())
    system = _words(parts.get("system", []), " ")
    cpu = _words(parts.get("cpu", []), ":")
    memory = _words(parts.get("memory", []), ":")
    siblings = parts.get("siblings", [])
    threads = len(siblings) or sum(line.startswith("processor") for line in parts.get("cpu", [])) or 1
    rows, failed = _nvidia_smi(parts)
    toolkit = re.search(r"version (\d[\w.+~-]*)", " ".join(parts.get("toolkit", [])))
    return Hardware(
        gpus=_gpus(parts, rows, answers=not failed),
        cpu=cpu.get("model name") or cpu.get("Model") or "",
        cpu_flags=tuple((cpu.get("flags") or cpu.get("Features") or "").split()),
        cores=len(set(siblings)) or threads,
        threads=threads,
        memory_mib=(_number(memory.get("MemTotal")) or 0) // 1024,
        available_mib=(_number(memory.get("MemAvailable")) or 0) // 1024,
        disk_free=_disks(parts.get("disks", [])),
        nvidia_smi=failed,
        container_toolkit=(toolkit.group(1) if toolkit else "unknown") if "toolkit" in parts else None,
        distro=system.get("distro", ""),
        codename=system.get("codename", ""),
    )


def _words(lines: Iterable[str], separator: str) -> dict[str, str]:
    pairs = (line.partition(separator) for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _number(text: str | None) -> int | None:
    """The whole number that a text begins with; None for ``[N/A]`` and the like."""
    found = re.match(r"\s*(\d+)", text or "")
    return int(found.group(1)) if found else None


def _disks(lines: Iterable[str]) -> dict[str, int]:
    free = {}
    for line in lines:
        cells = line.split(None, 6)
        if len(cells) < 7 or not cells[4].isdigit():
            continue
        kind, mount = cells[1], cells[6]
        ours = kind not in _VIRTUAL and int(cells[2]) > 0 and not mount.startswith(("/proc", "/sys", "/dev", "/snap/"))
        if ours or mount == "/":
            free[mount] = int(cells[4])
    return free


def _nvidia_smi(parts: Mapping[str, list[str]]) -> tuple[list[dict[str, str]], str]:
    """nvidia-smi's rows, and what it said where it has none; both empty without an nvidia-smi.

    Its status does not count: it ends in 14 where a card's infoROM is damaged, which then works all the same
    (NVIDIA/gpu-operator 285), and "No devices were found" is no failure to some releases.
    """
    said = [line for name in ("nvidia-smi", "nvidia-smi failed") for line in parts.get(name, [])]
    rows = _csv(said)
    if rows or not {"nvidia-smi", "nvidia-smi failed"} & set(parts):
        return rows, ""
    return [], " ".join(said) or "nvidia-smi said nothing in 30 seconds"


def _gpus(parts: Mapping[str, list[str]], rows: Iterable[Mapping[str, str]], *, answers: bool) -> tuple[Gpu, ...]:
    """``rows``: nvidia-smi's; ``answers``: it is not there or has some, so that the module's version is the driver's."""
    devices = {}
    for line in parts.get("pci", []):
        address, *words = line.split()
        devices[address] = dict(word.partition("=")[::2] for word in words)
    names = _lspci_names(parts.get("lspci", []))
    module = re.search(r"\s(\d{3,}\.\d+(?:\.\d+)?)\s", " ".join(parts.get("module", [])) + " ")
    loaded = module.group(1) if module and answers else None
    found = []
    for row in rows:
        address = _address(row.get("pci.bus_id", ""))
        found.append(_nvidia(row, address, devices.pop(address, {})))
    found.sort(key=lambda gpu: gpu.index if gpu.index is not None else len(found))
    for address, device in sorted(devices.items()):
        vendor = VENDORS.get(device.get("vendor", ""), "other")
        kernel = device.get("driver") or None
        total, used = _number(device.get("total")), _number(device.get("used"))
        driver = kernel if vendor != "nvidia" and kernel in _RENDERING else None
        if vendor == "nvidia" and kernel == "nvidia":
            driver = loaded
        found.append(
            Gpu(
                vendor=vendor,
                name=_name(vendor, names.get(address), device),
                memory_mib=total // 1024**2 if total else None,
                free_mib=(total - used) // 1024**2 if total and used is not None else None,
                driver=driver,
                display=_display(device),
                pci=address,
                kernel_driver=kernel,
                render_node=device.get("node") or None,
                render_gid=_number(device.get("gid")),
            )
        )
    return tuple(found)


def _csv(lines: list[str]) -> list[dict[str, str]]:
    """nvidia-smi's rows by column; units (``memory.total [MiB]``) leave the columns' names."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    head = next((n for n, row in enumerate(rows) if "name" in row), None)
    if head is None:
        return []
    columns = [cell.partition(" ")[0] for cell in rows[head]]
    return [dict(zip(columns, row, strict=True)) for row in rows[head + 1 :] if len(row) == len(columns)]


def _nvidia(row: Mapping[str, str], address: str, device: Mapping[str, str]) -> Gpu:
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
        # A screen that sleeps is not active, but it will want its memory back.
        display=True if active or connected else active if active is not None else connected,
        index=_number(row.get("index")),
        pci=address or None,
        kernel_driver=device.get("driver") or None,
        render_node=device.get("node") or None,
        render_gid=_number(device.get("gid")),
    )


def _display(device: Mapping[str, str]) -> bool | None:
    """Whether one of the card's connectors has a screen; None where the kernel shows no connectors."""
    if not _number(device.get("connectors")):
        return None
    return bool(_number(device.get("connected")))


def _address(bus_id: str) -> str:
    """nvidia-smi's ``00000000:0C:00.0`` as the kernel writes it, ``0000:0c:00.0``."""
    domain, _, rest = bus_id.strip().lower().partition(":")
    return f"{domain[-4:]}:{rest}" if rest else ""


def _lspci_names(lines: Iterable[str]) -> dict[str, str]:
    """Address -> the device's name, from ``lspci -Dmm``: ``ADDRESS "CLASS" "VENDOR" "DEVICE" ...``."""
    cells = ((line.partition(" ")[0], re.findall(r'"([^"]*)"', line)) for line in lines)
    return {address: quoted[2] for address, quoted in cells if len(quoted) > 2}


def _name(vendor: str, known: str | None, device: Mapping[str, str]) -> str:
    """``AD102 [GeForce RTX 4090]`` is ``NVIDIA GeForce RTX 4090``; without lspci there are only the numbers."""
    ids = f"{device.get('vendor', '')[2:]}:{device.get('device', '')[2:]}"
    marketed = re.search(r"\[(.+)\]", known or "")
    name = (marketed.group(1) if marketed else known) or f"GPU {ids}"
    return f"{_NAMES[vendor]} {name}" if vendor in _NAMES else name
