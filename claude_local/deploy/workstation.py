"""One host of the run, as the tasks see it: validated settings, profiles, paths, and how to become root.

Every task file starts with ``ws = workstation()``. The first call in a run reads the facts that nothing in the deploy
changes and validates all data; bad data raises one DeployError that lists every problem, before any operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pyinfra import host
from pyinfra.api import DeployError

from claude_local.deploy.facts.hardware import MachineHardware
from claude_local.deploy.facts.models import ModelFiles
from claude_local.deploy.facts.server import MachineMemory
from claude_local.deploy.facts.workstation import Identity, WorkstationIdentity
from claude_local.hardware import variant as image_variant
from claude_local.hardware.machine import Hardware
from claude_local.models import selection
from claude_local.models.choice import Machine, ProfileChoice, disk_free, with_memory
from claude_local.models.memory import MIB
from claude_local.models.profiles import Profile
from claude_local.paths import Paths, expand
from claude_local.server import container
from claude_local.settings import Settings, SettingsError, canonical, load

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Workstation:
    """A host with its validated data. ``settings`` holds every key of group_data/all.py, with default_profile and
    model_profiles as the rule of choice.py resolved them; ``choice`` says why."""

    identity: Identity
    settings: Settings
    profiles: dict[str, Profile]
    paths: Paths
    choice: ProfileChoice

    @property
    def root(self) -> dict[str, Any]:
        """Global arguments of an operation that needs root: ``apt(..., **ws.root)``. Empty when root connects."""
        return {} if self.identity["uid"] == 0 else {"_sudo": True}

    def closing_lines(self) -> list[str]:
        """What was set up and what to type next, for the end of a run."""
        profile = self.profiles[self.settings.default_profile]
        command = self.paths.wrapper.replace(self.paths.home, "~", 1)
        return [
            f"model    {profile.name} ({profile.id}), also placed: "
            + (", ".join(name for name in self.settings.model_profiles if name != profile.id) or "none"),
            f"server   llama.cpp b{self.settings.image_llama_build} on http://127.0.0.1:{self.settings.server_port}",
            f"command  {command}  (a new terminal has it on PATH)",
            *(
                f"why      {line}" if not number else f"         {line}"
                for number, line in enumerate(self.choice.lines())
            ),
            "",
            f'Next: {command} -p "Say hello"    or just: {command}',
        ]


_known: WeakKeyDictionary[Any, Workstation] = WeakKeyDictionary()
_hardware: WeakKeyDictionary[Any, Hardware] = WeakKeyDictionary()


def hardware() -> Hardware:
    """The current host's hardware, looked at once in a run: what nothing in the deploy changes. The free memory and disk
    in it are those of the beginning."""
    key = host._get_object() if hasattr(host, "_get_object") else host
    if key not in _hardware:
        _hardware[key] = host.get_fact(MachineHardware)
    return _hardware[key]


def workstation() -> Workstation:
    """The current host. Raises DeployError with every problem of its data and of models.conf."""
    key = host._get_object() if hasattr(host, "_get_object") else host
    if key in _known:
        return _known[key]
    identity = host.get_fact(WorkstationIdentity)
    raw = host.data.dict()
    try:
        settings, profiles = load(raw, PROJECT)
    except SettingsError as error:
        raise DeployError(str(error)) from None
    home = identity["home"]
    paths = Paths(
        home=home,
        model_dir=expand(settings.model_dir, home),
        bin_dir=expand(settings.commands_dir, home),
    )
    selected = _selected(settings, profiles, paths)
    settings.default_profile, settings.model_profiles = selected.choice.profile, list(selected.placed)
    ws = Workstation(identity, settings, selected.profiles, paths, selected.choice)
    _known[key] = ws
    return ws


def _selected(settings: Settings, profiles: dict[str, Profile], paths: Paths) -> selection.Selection:
    """The profiles for the current host. Raises DeployError when its image_variant cannot be met."""
    seen = hardware()
    try:
        gpus = image_variant.choose(seen, settings.image_variant).gpus
    except image_variant.VariantError as error:
        raise DeployError(str(error)) from None
    roots = [paths.model_dir, *(expand(directory, paths.home) for directory in settings.model_search_dirs)]
    files = host.get_fact(
        ModelFiles,
        python=paths.python,
        roots=roots,
        names=[file.name for profile in profiles.values() for file in profile.files],
        unknown=[profile.model for profile in profiles.values() if profile.architecture is None],
    )
    limit = container.memory_limit_mib(settings.server_memory_mib, seen.memory_mib or host.get_fact(MachineMemory))
    there = Machine(
        gpus=with_memory(gpus, limit * MIB),
        cores=max(seen.cores, 1),
        memory=limit * MIB,
        disk_free=disk_free(paths.model_dir, seen.disk_free),
        placed=files["sizes"],
    )
    shapes = {
        name: shape
        for name, profile in profiles.items()
        if (shape := selection.shape_from(profile, files["shapes"], files["sizes"])) is not None
    }
    return selection.select(
        canonical(settings.default_profile, profiles),
        [canonical(name, profiles) for name in settings.model_profiles],
        profiles,
        there,
        shapes,
    )
