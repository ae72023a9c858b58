"""One host of the run, as the tasks see it: validated settings, profiles, paths, image, and how to become root.

Every task file starts with ``ws = workstation()``. Its facts are those that nothing in the deploy changes, so they are
read once in a run. Bad data raises one DeployError that lists every problem, before any operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api import DeployError
from pyinfra.api.connectors import get_all_connectors

from claude_local.deploy.facts.hardware import Bandwidth, MachineHardware, MemoryBandwidth
from claude_local.deploy.facts.models import ModelFiles
from claude_local.deploy.facts.workstation import Identity, WorkstationIdentity
from claude_local.docker.gpus import gpu_options
from claude_local.hardware.cuda import IN_DEBIAN
from claude_local.hardware.machine import Hardware
from claude_local.hardware.variant import ImageVariant, VariantError, choose
from claude_local.image import plan
from claude_local.image.base import Base, base_image
from claude_local.image.builds import ImageError
from claude_local.manager.container import image_tag
from claude_local.models.capacity import SPARE_MIB, Machine, disk_free, with_memory
from claude_local.models.choice import ProfileChoice, Selection, select, shape_from
from claude_local.models.memory import MIB
from claude_local.models.profile import Profile
from claude_local.models.speed import Processor
from claude_local.paths import Paths, expand
from claude_local.server import container
from claude_local.settings import Settings, SettingsError, canonical, load

PROJECT = Path(__file__).resolve().parents[2]
DOCKERFILE = PROJECT / "files" / "image" / "Dockerfile"
MANAGER_DOCKERFILE = PROJECT / "files" / "manager" / "Dockerfile"
PATCHES = PROJECT / "files" / "image" / "patches"
WEB_UI = PROJECT / "files" / "image" / "web-ui.tar.xz"
# Taken for the memory of a machine that does not report it, MiB.
UNKNOWN_MEMORY_MIB = 8192


@dataclass(frozen=True)
class Workstation:
    """A host with its validated data.

    ``settings`` holds every key of group_data/all.py; ``default_profile`` and ``model_profiles`` in it are resolved to
    profile ids, and ``choice`` says why. ``variant``: the image's variant for ``hardware``, and its reason. Free memory
    and disk in ``hardware`` are those at the start of the run. ``placed``: name of a model file -> its bytes, then.
    ``models_at_once``: how many models the server keeps in memory. ``bandwidth``: of main memory, where it decides.
    """

    identity: Identity
    settings: Settings
    paths: Paths
    hardware: Hardware
    variant: ImageVariant
    profiles: dict[str, Profile]
    choice: ProfileChoice
    placed: dict[str, int]
    models_at_once: int = 1
    bandwidth: Bandwidth | None = None

    @property
    def models_to_download(self) -> int:
        """The bytes of the model files that are missing, as models.conf has them."""
        wanted = {
            file: size for name in self.settings.model_profiles for file, size in self.profiles[name].sizes.items()
        }
        return sum(size for file, size in wanted.items() if file not in self.placed)

    @property
    def root(self) -> dict[str, Any]:
        """Global arguments of an operation that needs root: ``docker.start(..., **ws.root)``. Empty for root itself."""
        return {} if self.identity["uid"] == 0 else {"_sudo": True}

    @property
    def search_dirs(self) -> list[str]:
        """The setting model_search_dirs with ``~`` expanded."""
        return [expand(directory, self.paths.home) for directory in self.settings.model_search_dirs]

    @property
    def server_memory_mib(self) -> int:
        """The memory limit of the server's container, MiB."""
        return _memory_limit_mib(self.settings, self.hardware)

    @property
    def gpu_argv(self) -> tuple[str, ...]:
        """The arguments of ``docker run`` that give a container this machine's GPUs; none for the CPU variant."""
        return gpu_options(self.variant, self.hardware)

    @cached_property
    def image_patches(self) -> str:
        """Our patches of llama.cpp, one after the other, in the order of their file names."""
        return "".join(path.read_text() for path in sorted(PATCHES.glob("*.patch")))

    @property
    def own_base(self) -> Base:
        """The base image of the host's own release. Raises DeployError that names the setting to correct."""
        return self._base("cpu")

    def _base(self, variant: str) -> Base:
        try:
            return base_image(self.settings.image_base, self.identity["distro"], self.identity["codename"], variant)
        except ImageError as error:
            raise DeployError(str(error)) from None

    @property
    def _packages_base(self) -> Base | None:
        """The base of an image with CUDA from packages: for NVIDIA's the host's own release, for Debian's theirs."""
        cuda = self.variant.cuda
        if cuda is None or cuda.packages != IN_DEBIAN:
            return self.own_base
        debian = self.identity["distro"] == "debian" and self.settings.image_base == "auto"
        return self._base("cuda-debian") if debian else None

    @cached_property
    def image(self) -> plan.Image:
        """The llama-server image of these settings on this machine.

        Raises DeployError that names the setting to correct.
        """
        try:
            return plan.plan(
                dockerfile=DOCKERFILE.read_text(),
                patches=self.image_patches,
                web_ui=WEB_UI.read_bytes(),
                build_number=self.settings.image_llama_build,
                variant=self.variant.variant,
                cpu=self.settings.image_cpu,
                base=self._base(self.variant.variant),
                packages_base=self._packages_base,
                arch=self.identity["arch"],
                cpu_flags=self.hardware.cpu_flags,
                jobs=self.settings.image_jobs,
                cuda=self.variant.cuda,
            )
        except ImageError as error:
            raise DeployError(str(error)) from None

    @property
    def manager_image(self) -> str:
        """The tag of the management API's image. Raises DeployError, like ``image``."""
        return image_tag(MANAGER_DOCKERFILE.read_text(), self.own_base.name)

    def closing_lines(self) -> list[str]:
        """What was set up and what to type next, for the end of a run."""
        profile = self.profiles[self.settings.default_profile]
        command = self.paths.wrapper.replace(self.paths.home, "~", 1)
        others = ", ".join(name for name in self.settings.model_profiles if name != profile.id) or "none"
        first, *more = self.choice.lines()
        return [
            f"model    {profile.name} ({profile.id}), also placed: {others}",
            f"server   llama.cpp b{self.settings.image_llama_build} on http://127.0.0.1:{self.settings.server_port}",
            f"command  {command}  (a new terminal has it on PATH)",
            f"why      {first}",
            *(f"         {line}" for line in more),
            "",
            f'Next: {command} -p "Say hello"    or just: {command}',
        ]


def workstation() -> Workstation:
    """The current host. Raises DeployError with every problem of its data and of models.conf."""
    return _workstation(host.name)


@cache
def _workstation(name: str) -> Workstation:
    """:func:`workstation` for the host ``name``, which is the current one."""
    identity = host.get_fact(WorkstationIdentity)
    hardware = host.get_fact(MachineHardware)
    try:
        settings, profiles = load(host.data.dict(), PROJECT, _typed())
        variant = choose(hardware, settings.image_variant)
    except (SettingsError, VariantError) as error:
        raise DeployError(str(error)) from None
    home = identity["home"]
    paths = Paths(
        home=home, model_dir=expand(settings.model_dir, home), bin_dir=expand(settings.commands_dir, home)
    )  # fmt: skip
    files = host.get_fact(
        ModelFiles,
        python=paths.python,
        roots=[paths.model_dir, *(expand(directory, paths.home) for directory in settings.model_search_dirs)],
        names=[file.name for profile in profiles.values() for file in profile.files],
        unknown=[profile.model for profile in profiles.values() if profile.architecture is None],
    )
    # Only there does the memory's speed decide.
    chosen_by_speed = variant.variant == "cpu" and settings.default_profile == "auto"
    bandwidth = host.get_fact(MemoryBandwidth, path=paths.bandwidth) if chosen_by_speed else None
    selected = _select(settings, profiles, paths, hardware, variant, files, bandwidth)
    settings.default_profile, settings.model_profiles = selected.choice.profile, list(selected.placed)
    return Workstation(
        identity, settings, paths, hardware, variant, selected.profiles, selected.choice, files["sizes"],
        selected.at_once, bandwidth,
    )  # fmt: skip


def _typed() -> set[str]:
    """The keys of --data that pyinfra's connectors do not know."""
    pyinfra = {key for connector in get_all_connectors().values() for key in getattr(connector, "data_meta", {})}
    return set(host.inventory.get_override_data()) - pyinfra


def _memory_limit_mib(settings: Settings, hardware: Hardware) -> int:
    return container.memory_limit_mib(settings.server_memory_mib, hardware.memory_mib or UNKNOWN_MEMORY_MIB)


def _select(
    settings: Settings,
    profiles: dict[str, Profile],
    paths: Paths,
    hardware: Hardware,
    variant: ImageVariant,
    files: dict[str, Any],
    bandwidth: Bandwidth | None,
) -> Selection:
    """The profiles for the current host, and the reason for the default one. ``files``: ModelFiles' answer."""
    limit_mib = _memory_limit_mib(settings, hardware)
    memory = (limit_mib - SPARE_MIB) * MIB
    machine = Machine(
        gpus=with_memory(variant.gpus, memory),
        memory=memory,
        disk_free=disk_free(paths.model_dir, hardware.disk_free),
        placed=files["sizes"],
        processor=Processor.of(max(hardware.cores, 1), hardware.cpu_flags, bandwidth.rate if bandwidth else None),
        prompt_cache=container.cache_ram_mib(limit_mib) * MIB,
    )
    shapes = {
        name: shape
        for name, profile in profiles.items()
        if (shape := shape_from(profile, files["shapes"], files["sizes"])) is not None
    }
    return select(
        canonical(settings.default_profile, profiles),
        [canonical(name, profiles) for name in settings.model_profiles],
        profiles,
        machine,
        shapes,
    )
