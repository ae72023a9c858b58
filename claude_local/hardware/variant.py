"""Which image a machine gets: CPU, CUDA (and which CUDA) or Vulkan, why, and what is missing for a better one. Pure.

The rules and their sources: docs/decisions/0008-image-for-the-hardware.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from claude_local.hardware.machine import Gpu, Hardware

VARIANTS = ("cpu", "cuda", "vulkan")
# Below this much memory of its own an AMD GPU is taken for the one inside the processor (MiB): most are given 512 MiB to
# 2 GiB of the main memory.
LEAST_VULKAN_MIB = 3072
# Below this much memory an NVIDIA GPU holds a smaller model than the processor runs (MiB): a GT 1030, an MX250, a 3 GB card.
# Cards sold with 4 GB tell up to 4096 MiB, some a little less.
LEAST_CUDA_MIB = 3584
# What nvidia-smi puts behind the name of a Jetson's GPU. NVIDIA's CUDA images for servers do not drive it: CUDA 13.0 made
# them one for all ARM machines but Orin (NVIDIA's blog on CUDA 13.0 for Jetson Thor); ollama #6921.
JETSON = "(nvgpu)"


class VariantError(ValueError):
    """A variant that this machine cannot run; the message says why and what would help."""


@dataclass(frozen=True)
class CudaToolkit:
    """A CUDA release: ``devel`` is the image that compiles with it, ``least_driver`` the oldest driver branch that runs
    what it made for real architectures, ``architectures`` what it compiles for (89: compute capability 8.9)."""

    version: str
    devel: str
    least_driver: int
    architectures: frozenset[int]


# The first that serves most of a machine's GPUs is taken. 12.8.1 is what llama.cpp's own image is made with; 13.0 serves
# what it cannot, and has compiler bugs on Blackwell of its own. Never 13.2.0 or 13.2.1, which compile IQ1_S, IQ2_S and
# IQ3_S wrongly. Drivers: NVIDIA's table of minor version compatibility (13.x: 580, 12.x: 525).
TOOLKITS = (
    CudaToolkit(
        version="12.8.1",
        devel="nvidia/cuda:12.8.1-devel-ubuntu24.04",
        least_driver=525,
        architectures=frozenset({50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90, 100, 101, 120}),
    ),
    CudaToolkit(
        version="13.0.2",
        devel="nvidia/cuda:13.0.2-devel-ubuntu24.04",
        least_driver=580,
        architectures=frozenset({75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121}),
    ),
)
OLDEST_DRIVER = min(toolkit.least_driver for toolkit in TOOLKITS)
# The last driver branches of generations that no CUDA of ours serves.
LAST_DRIVERS = {470: "Kepler (GeForce 600 and 700)", 390: "Fermi (GeForce 400 and 500)"}
# The driver branches of Debian's own packages.
DEBIAN_DRIVERS = {"bookworm": 535, "trixie": 550}
# The first driver branch for Blackwell, with the open kernel modules only.
BLACKWELL_DRIVER = 570
_BLACKWELL = (
    f"GeForce RTX 50 and newer need driver {BLACKWELL_DRIVER} or newer with the open kernel modules, "
    "from NVIDIA's own repository"
)


@dataclass(frozen=True)
class Cuda:
    """The CUDA that is compiled with, and for which architectures (``89-real``, in CMake's words)."""

    toolkit: CudaToolkit
    architectures: tuple[str, ...]


@dataclass(frozen=True)
class Missing:
    """What stands in the way of a GPU, and the command or deed that helps."""

    what: str
    fix: str


@dataclass(frozen=True)
class Verdict:
    """``gpus``: those that the server will use. ``cuda``: set for the variant cuda. ``missing``: why other GPUs are not
    used, or what is still to be installed."""

    variant: str
    reason: str
    gpus: tuple[Gpu, ...] = ()
    cuda: Cuda | None = None
    missing: tuple[Missing, ...] = ()


def architecture(gpu: Gpu) -> int | None:
    """89 for compute capability 8.9; None where it is not known."""
    return int(gpu.compute_capability.replace(".", "")) if gpu.compute_capability else None


def driver_branch(gpu: Gpu) -> int:
    """580 for driver 580.95.05; 0 without a driver."""
    branch = (gpu.driver or "").partition(".")[0]
    return int(branch) if branch.isdigit() else 0


def real(arch: int) -> str:
    """CMake's word for machine code of exactly this architecture: the driver compiles nothing at the first start.

    Blackwell's 12.x has its FP4 instructions only in the ``a`` form (llama.cpp's ggml-cuda/CMakeLists.txt).
    """
    return f"{arch}a-real" if 120 <= arch < 130 else f"{arch}-real"


def choose(hardware: Hardware, setting: str = "auto") -> Verdict:
    """The image for this machine. ``setting``: image_variant. Raises VariantError where the setting cannot be met.

    ``auto``: CUDA where an NVIDIA GPU has a driver that is new enough, else Vulkan where there is an AMD or Intel GPU
    with memory of its own, else CPU.
    """
    if setting not in ("auto", *VARIANTS):
        raise VariantError(f"image_variant: found {setting!r}, allowed is one of auto, {', '.join(VARIANTS)}")
    cuda, unused = _cuda(hardware, forced=setting == "cuda")
    vulkan = _vulkan(hardware, forced=setting == "vulkan")
    if setting == "cpu":
        return Verdict("cpu", "image_variant says so")
    if setting == "cuda" and cuda is None:
        why = "; ".join(f"{each.what}: {each.fix}" for each in unused) or "there is no NVIDIA GPU"
        raise VariantError(f"image_variant: 'cuda' cannot run here: {why}. 'auto' takes what can")
    if setting == "vulkan" and vulkan is None:
        raise VariantError(
            "image_variant: 'vulkan' cannot run here: no AMD or Intel GPU has a kernel driver with a /dev/dri/renderD* "
            "(NVIDIA's are served by 'cuda'). 'auto' takes what can"
        )
    said = "" if setting == "auto" else ", as image_variant says"
    if cuda is not None and setting != "vulkan":
        return _with_toolkit(hardware, cuda, unused, said)
    if vulkan is not None:
        names = ", ".join(f"{gpu.name}{_size(gpu)}" for gpu in vulkan)
        return Verdict("vulkan", f"{names} through Vulkan{said}", vulkan, missing=unused)
    return Verdict("cpu", _no_gpu(hardware), missing=unused)


def _with_toolkit(
    hardware: Hardware, found: tuple[Cuda, tuple[Gpu, ...]], unused: tuple[Missing, ...], said: str
) -> Verdict:
    cuda, gpus = found
    missing = list(unused)
    if hardware.container_toolkit is None:
        missing.append(
            Missing("NVIDIA's container toolkit is not installed", "./provision    (tasks/nvidia.py installs it)")
        )
    names = ", ".join(f"{gpu.name} ({gpu.compute_capability}{_size(gpu, ', ', '')})" for gpu in gpus)
    return Verdict(
        "cuda",
        f"{names} with driver {gpus[0].driver}: CUDA {cuda.toolkit.version} for {';'.join(cuda.architectures)}{said}",
        gpus,
        cuda,
        tuple(missing),
    )


def _size(gpu: Gpu, before: str = " (", after: str = ")") -> str:
    return f"{before}{gpu.memory_mib / 1024:.0f} GiB{after}" if gpu.memory_mib else ""


def _cuda(hardware: Hardware, *, forced: bool) -> tuple[tuple[Cuda, tuple[Gpu, ...]] | None, tuple[Missing, ...]]:
    """The CUDA that serves most of the NVIDIA GPUs, with those, and why it does not serve the others. ``forced``: also
    small ones, where there are no others."""
    cards = [gpu for gpu in hardware.gpus if gpu.vendor == "nvidia"]
    able = [gpu for gpu in cards if JETSON not in gpu.name]
    best = _serving(gpu for gpu in able if not _small(gpu))
    if best is None and forced:
        best = _serving(able)
    used = best[1] if best else ()
    return best, tuple(_unserved(gpu, hardware) for gpu in cards if gpu not in used)


def _serving(gpus: Iterable[Gpu]) -> tuple[Cuda, tuple[Gpu, ...]] | None:
    cards = tuple(gpus)
    best: tuple[Cuda, tuple[Gpu, ...]] | None = None
    for toolkit in TOOLKITS:
        served = tuple(
            gpu
            for gpu in cards
            if driver_branch(gpu) >= toolkit.least_driver and architecture(gpu) in toolkit.architectures
        )
        if served and (best is None or len(served) > len(best[1])):
            archs = sorted({arch for gpu in served if (arch := architecture(gpu)) is not None})
            best = Cuda(toolkit, tuple(real(arch) for arch in archs)), served
    return best


def _small(gpu: Gpu) -> bool:
    """Whether the GPU says that its memory is too little; one that shares the machine's memory says nothing."""
    return gpu.memory_mib is not None and gpu.memory_mib < LEAST_CUDA_MIB


def _unserved(gpu: Gpu, hardware: Hardware) -> Missing:
    arch = architecture(gpu)
    if JETSON in gpu.name:
        return Missing(
            f"{gpu.name} is the GPU of a Jetson, which NVIDIA's CUDA images for servers do not drive",
            "nothing to do: it stays unused",
        )
    if gpu.driver is None:
        return _without_driver(gpu, hardware)
    if _small(gpu):
        return Missing(
            f"{gpu.name} has only{_size(gpu, ' ', '')}, less than the 4 GiB from which it beats the processor",
            "nothing to do: it stays unused"
            + (" (where it is the only one, image_variant = 'cuda' tries it all the same)" if _serving([gpu]) else ""),
        )
    branch = driver_branch(gpu)
    if branch < OLDEST_DRIVER:
        fix = driver_fix(hardware)
        if branch in LAST_DRIVERS:
            fix = f"if it is a {LAST_DRIVERS[branch]}, nothing: {branch} is its last driver, and it stays unused. Else {fix}"
        return Missing(f"{gpu.name}: its driver {gpu.driver} is older than {OLDEST_DRIVER}", fix)
    if arch is None:
        return Missing(
            f"{gpu.name}: nvidia-smi is missing or does not tell its compute capability",
            "sudo apt install nvidia-smi" if hardware.distro == "debian" else driver_fix(hardware),
        )
    newer = [each for each in TOOLKITS if arch in each.architectures and branch < each.least_driver]
    if newer:
        least = newer[-1].least_driver
        return Missing(
            f"{gpu.name}: its driver {gpu.driver} is older than {least}, which CUDA {newer[-1].version} needs",
            driver_fix(hardware, least),
        )
    known = sorted(set[int]().union(*(each.architectures for each in TOOLKITS)))
    return Missing(
        f"{gpu.name}: no one CUDA serves compute capability {gpu.compute_capability} beside the other GPUs"
        if arch in known
        else f"{gpu.name}: compute capability {gpu.compute_capability} is served by no CUDA that we use",
        "nothing to do: it stays unused",
    )


def _without_driver(gpu: Gpu, hardware: Hardware) -> Missing:
    if gpu.kernel_driver == "vfio-pci":
        return Missing(f"{gpu.name} is reserved for virtual machines (vfio-pci)", "nothing to do: it stays unused")
    if hardware.nvidia_smi:
        said = hardware.nvidia_smi[:200]
        if "mismatch" in said:
            fix = "sudo reboot    (the driver was updated under the running kernel module)"
        else:
            # It is installed: to install it again would lead back here.
            fix = (
                "sudo dmesg | grep -i -e nvrm -e nvidia    says why. Usual: no reboot since the driver was installed; "
                "Secure Boot is on and the key of the driver's module is not enrolled (mokutil --import); "
                f"the driver does not know the GPU ({_BLACKWELL})"
            )
        return Missing(f"{gpu.name}: its driver is installed, but does not answer ({said})", fix)
    held = f" ({gpu.kernel_driver} shows pictures with it, but computes nothing)" if gpu.kernel_driver else ""
    return Missing(f"{gpu.name} has no NVIDIA driver{held}", driver_fix(hardware))


def driver_fix(hardware: Hardware, least: int = OLDEST_DRIVER) -> str:
    """How a person installs NVIDIA's driver, of branch ``least`` or newer; claude-local never does: it is a kernel module
    and wants a reboot."""
    if hardware.distro == "ubuntu":
        return "sudo ubuntu-drivers install && sudo reboot, then run this again"
    if hardware.distro == "debian":
        packaged = DEBIAN_DRIVERS.get(hardware.codename, least)
        if packaged < least:
            return (
                f"install driver {least} or newer from NVIDIA's own repository "
                f"(docs.nvidia.com/datacenter/tesla/driver-installation-guide; Debian's is {packaged}), "
                "sudo reboot, then run this again"
            )
        return (
            "add contrib, non-free and non-free-firmware to apt's sources, "
            "sudo apt update && sudo apt install nvidia-driver && sudo reboot, then run this again"
            + (f" ({_BLACKWELL}; Debian's is {packaged})" if hardware.codename in DEBIAN_DRIVERS else "")
        )
    return "install NVIDIA's driver as your distribution says, reboot, then run this again"


def _vulkan(hardware: Hardware, *, forced: bool) -> tuple[Gpu, ...] | None:
    """AMD's and Intel's GPUs that Mesa can drive; ``forced``: also those inside the processor."""
    able = [gpu for gpu in hardware.gpus if gpu.vendor in ("amd", "intel") and gpu.driver and gpu.render_node]
    own = [gpu for gpu in able if has_own_memory(gpu)]
    return tuple(own or (able if forced else ())) or None


def has_own_memory(gpu: Gpu) -> bool:
    """Whether an AMD or Intel GPU is worth the trouble: one inside the processor shares its memory's speed.

    Intel's kernel drivers do not tell the size; the GPU inside an Intel processor is always 00:02.0.
    """
    if gpu.vendor == "intel":
        return gpu.pci is not None and not gpu.pci.startswith("0000:00:")
    return (gpu.memory_mib or 0) >= LEAST_VULKAN_MIB


def _no_gpu(hardware: Hardware) -> str:
    inside = [gpu.name for gpu in hardware.gpus if gpu.vendor in ("amd", "intel") and gpu.driver]
    if any(gpu.vendor == "nvidia" for gpu in hardware.gpus):
        return "no GPU that can be used as things are"
    if inside:
        return f"{', '.join(inside)} has no memory of its own (image_variant = 'vulkan' tries it all the same)"
    return "no GPU that can be used"


def run_words(verdict: Verdict, hardware: Hardware) -> tuple[str, ...]:
    """The words of ``docker run`` that give a container the verdict's GPUs and nothing else of the machine.

    NVIDIA: through the runtime that ``nvidia-ctk`` registers; only the driver's libraries for computing and nvidia-smi
    come in. CUDA then counts the GPUs as nvidia-smi does. There is nothing to compile at the start, hence no cache.
    Vulkan: each GPU's render node, and the groups that may open them.
    """
    if verdict.variant == "cuda":
        return nvidia_words(visible(verdict.gpus, hardware))
    words: list[str] = []
    if verdict.variant == "vulkan":
        for gpu in verdict.gpus:
            words += ["--device", str(gpu.render_node)]
        for gid in sorted({gpu.render_gid for gpu in verdict.gpus if gpu.render_gid}):
            words += ["--group-add", str(gid)]
    return tuple(words)


def visible(gpus: Iterable[Gpu], hardware: Hardware) -> str:
    """``all``, or the numbers of those NVIDIA GPUs that the image was compiled for: at another CUDA would stop."""
    used = {gpu.index for gpu in gpus}
    every = {gpu.index for gpu in hardware.gpus if gpu.vendor == "nvidia"}
    return "all" if used == every else ",".join(str(index) for index in sorted(used, key=lambda n: n or 0))


def nvidia_words(devices: str) -> tuple[str, ...]:
    """``docker run``'s words for NVIDIA GPUs: ``devices`` is ``all`` or numbers with commas between them."""
    # fmt: off
    return (
        "--runtime", "nvidia",
        "--env", f"NVIDIA_VISIBLE_DEVICES={devices}", "--env", "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        "--env", "CUDA_DEVICE_ORDER=PCI_BUS_ID", "--env", "CUDA_CACHE_DISABLE=1",
    )
    # fmt: on
