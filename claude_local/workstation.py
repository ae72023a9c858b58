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
from pyinfra.api import DeployError, QuoteString, StringCommand

from claude_local import data
from claude_local.facts.hardware import MachineHardware
from claude_local.facts.workstation import Identity, WorkstationIdentity
from claude_local.hardware import Hardware
from claude_local.paths import Paths, expand
from claude_local.profiles import Profile

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Workstation:
    """A host with its validated data. ``settings`` holds every key of group_data/all.py."""

    identity: Identity
    settings: data.Settings
    profiles: dict[str, Profile]
    paths: Paths

    @property
    def root(self) -> dict[str, Any]:
        """Global arguments of an operation that needs root: ``apt(..., **ws.root)``. Empty when root connects."""
        return {} if self.identity["uid"] == 0 else {"_sudo": True}

    def runtime(self, module: str, *args: str) -> StringCommand:
        """The command that runs ``claude_local.runtime.MODULE`` on the workstation, in the runtime's venv."""
        words = [QuoteString(word) for word in (self.paths.python, "-m", f"claude_local.runtime.{module}", *args)]
        return StringCommand(*words)

    def closing_lines(self) -> list[str]:
        """What was set up and what to type next, for the end of a run."""
        profile = self.profiles[self.settings.active_profile]
        command = self.paths.wrapper.replace(self.paths.home, "~", 1)
        return [
            f"model    {profile.name} ({profile.id}), also placed: "
            + (", ".join(name for name in self.settings.model_profiles if name != profile.id) or "none"),
            f"server   llama.cpp b{self.settings.image_llama_build} on http://127.0.0.1:{self.settings.server_port}",
            f"command  {command}  (a new terminal has it on PATH)",
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
        settings = data.validate(raw)
        profiles = data.load_profiles(PROJECT / settings.models_conf, settings)
    except data.DataError as error:
        raise DeployError(str(error)) from None
    home = identity["home"]
    ws = Workstation(
        identity=identity,
        settings=settings,
        profiles=profiles,
        paths=Paths(
            home=home,
            model_dir=expand(settings.model_dir, home),
            bin_dir=expand(settings.commands_dir, home),
        ),
    )
    _known[key] = ws
    return ws
