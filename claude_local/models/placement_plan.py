"""The plan of a placement: JSON that the controller writes from the profiles and the workstation reads. Pure."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_local.models import hub

if TYPE_CHECKING:
    from claude_local.models.profile import Profile


class PlacementError(Exception):
    """Models cannot be placed. The message has one line for each problem."""


@dataclass(frozen=True)
class PlannedFile:
    """One file of a profile. ``size`` is in bytes. ``sources`` are lines of the grammar in :mod:`sources`.

    A file without ``sha256`` must be on the disk already and be a sound GGUF. ``pinned``: whether the plan names the
    sha256; False when the hub named it.
    """

    name: str
    sha256: str | None
    size: int | None
    sources: tuple[str, ...]
    pinned: bool = True

    @property
    def hub(self) -> str | None:
        """The first source that is a hub, as models.conf has it."""
        return next((line for line in self.sources if line.startswith("hub ")), None)

    def identified(self, sha256: str, size: int) -> PlannedFile:
        """The file with the sha256 and size that the hub gave."""
        return replace(self, sha256=sha256, size=size, pinned=False)


@dataclass(frozen=True)
class FileGroup:
    """Files that must lie in one directory: all parts of a model, or a projector alone."""

    profile: str
    files: tuple[PlannedFile, ...]


@dataclass(frozen=True)
class PlacementPlan:
    """Which files must be in place, and where they may be. All directories are absolute.

    ``hub`` is the hub's address as this machine reaches it (:func:`claude_local.models.hub.address`).
    ``profiles`` has the file names and the projector of each profile.
    """

    model_dir: str
    search_dirs: tuple[str, ...]
    hub: str
    placements_path: str
    groups: tuple[FileGroup, ...]
    profiles: dict[str, dict[str, Any]]

    @property
    def roots(self) -> tuple[str, ...]:
        """model_dir, then the search directories."""
        return (self.model_dir, *self.search_dirs)

    def target(self, file: PlannedFile) -> str:
        """The path a download of the file gets."""
        return os.path.normpath(os.path.join(self.model_dir, file.name))

    @staticmethod
    def read(text: str) -> PlacementPlan:
        """Parse a plan. Raises PlacementError."""
        try:
            raw = json.loads(text)
            groups: list[FileGroup] = []
            profiles = {}
            for profile in raw["profiles"]:
                groups += _groups(profile)
                names = [file["name"] for file in profile["files"]]
                profiles[profile["id"]] = {"names": names, "mmproj": profile.get("mmproj")}
            search_dirs = raw.get("search_dirs", ())
            if not all(os.path.isabs(path) for path in (raw["model_dir"], *search_dirs, raw["placements_path"])):
                raise ValueError("paths must be absolute")
            return PlacementPlan(
                model_dir=os.path.normpath(raw["model_dir"]),
                search_dirs=tuple(os.path.normpath(path) for path in search_dirs),
                hub=hub.address(raw["hub"]),
                placements_path=raw["placements_path"],
                groups=tuple(groups),
                profiles=profiles,
            )
        except hub.HubError as error:
            raise PlacementError(str(error)) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlacementError(f"the plan cannot be read: {type(error).__name__}: {error}") from None


def _groups(profile: Mapping[str, Any]) -> list[FileGroup]:
    """The parts of the model as one group, and the projector as another."""
    files = [
        PlannedFile(f["name"], f.get("sha256"), f.get("size"), tuple(f.get("sources", ()))) for f in profile["files"]
    ]
    if not files or any(".." in Path(file.name).parts for file in files):
        raise ValueError(f"profile {profile['id']}: its file names")
    projector = profile.get("mmproj")
    parts = tuple(file for file in files if file.name != projector)
    alone = [FileGroup(profile["id"], (file,)) for file in files if file.name == projector]
    return [FileGroup(profile["id"], parts), *alone]


def plan_data(
    profiles: Mapping[str, Profile],
    ids: Sequence[str],
    *,
    model_dir: str,
    search_dirs: Sequence[str],
    hub: str,
    placements_path: str,
) -> dict[str, Any]:
    """The plan for the profiles ``ids`` as JSON data. Paths are absolute, on the workstation.

    Raises PlacementError when the server's container could not read a file.
    """
    problems = [text for text in (_outside(profiles[name], [model_dir, *search_dirs]) for name in ids) if text]
    if problems:
        raise PlacementError("\n".join(problems))
    return {
        "model_dir": model_dir,
        "search_dirs": list(search_dirs),
        "hub": hub,
        "placements_path": placements_path,
        "profiles": [
            {
                "id": name,
                "model": profiles[name].model,
                "mmproj": profiles[name].mmproj,
                "files": [
                    {"name": f.name, "sha256": f.sha256, "size": f.size, "sources": list(f.sources)}
                    for f in profiles[name].files
                ],
            }
            for name in ids
        ],
    }


def _outside(profile: Profile, roots: Sequence[str]) -> str | None:
    """The problem with a file whose absolute path lies outside ``roots``; None without one."""
    for file in profile.files:
        inside = [os.path.normpath(file.name).startswith(os.path.normpath(root).rstrip("/") + "/") for root in roots]
        if os.path.isabs(file.name) and not any(inside):
            return (
                f"models.conf: [{profile.id}] MODEL: found {file.name}, expected a file in model_dir or in "
                f"model_search_dirs (add {os.path.dirname(file.name)})"
            )
    return None
