"""Why an NVIDIA GPU stays unused, and what to do about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from claude_local.hardware.cuda import (
    JETSON,
    OLDEST_DRIVER,
    TOOLKITS,
    architecture,
    best_cuda,
    driver_branch,
    is_small,
)
from claude_local.hardware.machine import Gpu, Hardware

# The last driver branch of each generation that none of our CUDA releases supports.
LAST_DRIVERS = {470: "Kepler (GeForce 600 and 700)", 390: "Fermi (GeForce 400 and 500)"}
# The driver branches of Debian's own packages.
DEBIAN_DRIVERS = {"bookworm": 535, "trixie": 550}
# Blackwell needs at least this driver branch, with the open kernel modules (NVIDIA/open-gpu-kernel-modules #872).
BLACKWELL = (
    "GeForce RTX 50 and newer need driver 570 or newer with the open kernel modules, from NVIDIA's own repository"
)
STAYS_UNUSED = "nothing to do: this GPU stays unused"


@dataclass(frozen=True)
class Missing:
    """What keeps a GPU from being used, and the command or step that fixes it."""

    what: str
    fix: str


def why_unused(gpu: Gpu, hardware: Hardware) -> Missing:
    """Why this NVIDIA GPU of the machine is not used."""
    if JETSON in gpu.name:
        return Missing(
            f"{gpu.name} is the GPU of a Jetson, which NVIDIA's CUDA images for servers do not support", STAYS_UNUSED
        )
    if gpu.driver is None:
        return _no_driver(gpu, hardware)
    if is_small(gpu):
        return _small(gpu)
    if driver_branch(gpu) < OLDEST_DRIVER:
        return _old_driver(gpu, hardware)
    if architecture(gpu) is None:
        return Missing(
            f"{gpu.name}: nvidia-smi is missing or does not report its compute capability",
            "sudo apt install nvidia-smi" if hardware.distro == "debian" else driver_fix(hardware),
        )
    return _unsupported(gpu, hardware)


def _small(gpu: Gpu) -> Missing:
    forced = " (if it is the only GPU, image_variant = 'cuda' uses it anyway)" if best_cuda([gpu])[0] else ""
    size = f"{(gpu.memory_mib or 0) / 1024:.0f} GiB"
    return Missing(
        f"{gpu.name} has only {size}; with less than 4 GiB it holds smaller models than the processor can run",
        STAYS_UNUSED + forced,
    )


def _old_driver(gpu: Gpu, hardware: Hardware) -> Missing:
    branch, fix = driver_branch(gpu), driver_fix(hardware)
    if branch in LAST_DRIVERS:
        fix = (
            f"if it is a {LAST_DRIVERS[branch]}: nothing to do, {branch} is its last driver and it stays unused. "
            f"Otherwise: {fix}"
        )
    return Missing(f"{gpu.name}: its driver {gpu.driver} is older than {OLDEST_DRIVER}", fix)


def _unsupported(gpu: Gpu, hardware: Hardware) -> Missing:
    """The driver is new enough for some CUDA release, but the release for this GPU needs a newer one or is not used."""
    arch = architecture(gpu)
    newer = [each for each in TOOLKITS if arch in each.architectures and driver_branch(gpu) < each.least_driver]
    if newer:
        least = newer[-1].least_driver
        return Missing(
            f"{gpu.name}: its driver {gpu.driver} is older than {least}, which CUDA {newer[-1].version} needs",
            driver_fix(hardware, least),
        )
    capability = f"compute capability {gpu.compute_capability}"
    if any(arch in each.architectures for each in TOOLKITS):
        return Missing(f"{gpu.name}: no CUDA release supports {capability} and the other GPUs as well", STAYS_UNUSED)
    return Missing(f"{gpu.name}: none of our CUDA releases supports {capability}", STAYS_UNUSED)


def _no_driver(gpu: Gpu, hardware: Hardware) -> Missing:
    if gpu.kernel_driver == "vfio-pci":
        return Missing(f"{gpu.name} is reserved for virtual machines (vfio-pci)", STAYS_UNUSED)
    if hardware.nvidia_smi:
        # The driver is installed: advice to install it would lead back here.
        return Missing(
            f"{gpu.name}: its driver is installed but does not work ({hardware.nvidia_smi[:200]})",
            "sudo reboot    (the driver was updated, the old kernel module still runs)"
            if "mismatch" in hardware.nvidia_smi
            else "sudo reboot    (a GPU fell off the bus; until the reboot nvidia-smi lists no GPU at all)"
            if "GPU is lost" in hardware.nvidia_smi
            else "sudo dmesg | grep -i -e nvrm -e nvidia    shows why. Common causes: no reboot since the driver was "
            "installed; Secure Boot is on and the key of the driver's module is not enrolled (mokutil --import); "
            f"the driver is too old for the GPU ({BLACKWELL})",
        )
    module = f" ({gpu.kernel_driver} drives its screen but cannot compute)" if gpu.kernel_driver else ""
    return Missing(f"{gpu.name} has no NVIDIA driver{module}", driver_fix(hardware))


def driver_fix(hardware: Hardware, least: int = OLDEST_DRIVER) -> str:
    """How to install NVIDIA's driver of branch ``least`` or newer.

    claude-local never installs it: a driver is a kernel module and needs a reboot.
    """
    if hardware.wsl:
        return (
            f"install NVIDIA's driver {least} or newer in Windows (none in WSL 2), wsl --shutdown, then run this again"
        )
    if hardware.distro == "ubuntu":
        return "sudo ubuntu-drivers install && sudo reboot, then run this again"
    if hardware.distro != "debian":
        return "install NVIDIA's driver as your distribution describes it, reboot, then run this again"
    packaged = DEBIAN_DRIVERS.get(hardware.codename)
    if packaged and packaged < least:
        return (
            f"install driver {least} or newer from NVIDIA's own repository "
            f"(docs.nvidia.com/datacenter/tesla/driver-installation-guide; Debian has {packaged}), "
            "sudo reboot, then run this again"
        )
    return (
        "add contrib, non-free and non-free-firmware to apt's sources, "
        "sudo apt update && sudo apt install nvidia-driver && sudo reboot, then run this again"
        + (f" ({BLACKWELL}; Debian has {packaged})" if packaged else "")
    )
