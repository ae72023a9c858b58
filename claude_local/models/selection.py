"""Which profiles a machine gets and with what settings: the settings' wish and the rule of choice.py together. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from claude_local.hardware.machine import Gpu
from claude_local.models import choice, devices
from claude_local.models.architecture import Architecture, shipped
from claude_local.models.choice import Machine, Model, ProfileChoice
from claude_local.models.profiles import Profile

# Bytes up to which a profile that fits is placed without being asked for, on a machine without a GPU: there it is the
# other one of the two small models.
SMALL = 2 * choice.GIB


@dataclass(frozen=True)
class Shape:
    """What a model's header says on a machine where its file is. ``weights`` and ``embedding`` in bytes."""

    architecture: Architecture
    weights: int | None = None
    embedding: int | None = None


@dataclass(frozen=True)
class Selection:
    """``choice``: the default profile and why. ``placed``: the ids to place, the default first. ``profiles``: all, with
    what this machine's GPUs ask for filled in."""

    choice: ProfileChoice
    placed: tuple[str, ...]
    profiles: dict[str, Profile]


def model(profile: Profile, shape: Shape | None = None) -> Model:
    """A profile with what is known of its model: its file's header where there is one, else its ARCHITECTURE."""
    record = shipped().get(profile.architecture) if profile.architecture else None
    sizes = profile.sizes
    projector = sizes.get(profile.mmproj, 0) if profile.mmproj else 0
    weights = sum(sizes.values()) - projector
    complete = all(sizes.values())
    if shape is not None:
        return Model(
            profile, shape.architecture, shape.weights or (weights if complete else None), projector, shape.embedding
        )
    return Model(profile, record, weights if complete and record is not None else None, projector)


def shape_from(profile: Profile, shapes: Mapping[str, Any], sizes: Mapping[str, int]) -> Shape | None:
    """A profile's shape from what ``runtime.shapes`` printed (file name -> record); None where its file is not there."""
    record = shapes.get(profile.files[0].name)
    if not isinstance(record, Mapping):
        return None
    parts = [file.name for file in profile.files if file.name != profile.mmproj]
    weights = sum(sizes.get(name, 0) for name in parts)
    architecture = Architecture(
        str(record["architecture"]), int(record["vocabulary"]), dict(record["keys"]), bool(record["tied"])
    )
    return Shape(architecture, weights or None, int(record["embedding"]) or None)


def for_gpus(profile: Profile, gpus: Sequence[Gpu], *, wholly: bool) -> Profile:
    """The profile with --fit on, -ngl auto and a margin for each GPU that it uses, where it says nothing else. ``wholly``: the rule
    found that it fits on them (``choice.fit_target``)."""
    if not gpus:
        return profile
    fit = profile.fit or "on"
    used = devices.used(profile, gpus)
    return replace(
        profile,
        n_gpu_layers=profile.n_gpu_layers or "auto",
        fit=fit,
        fit_target=profile.fit_target or (choice.fit_target(used, wholly=wholly) if fit == "on" else None),
    )


def select(
    default: str,
    wanted: Sequence[str],
    profiles: Mapping[str, Profile],
    there: Machine,
    shapes: Mapping[str, Shape] | None = None,
) -> Selection:
    """``default``: a profile's id or "auto"; ``wanted``: the setting model_profiles; ``shapes``: by profile id, of models
    whose files are there. With "auto" the rule chooses among ``wanted``, or all profiles when that is empty.

    What a profile says of GPUs that this machine does not have is left out first (``devices.fitted``)."""
    known = shapes or {}
    notes: dict[str, list[str]] = {}
    profiles = dict(profiles)
    for name in profiles:
        profiles[name], notes[name] = devices.fitted(profiles[name], there.gpus)
    models = {name: model(profile, known.get(name)) for name, profile in profiles.items()}
    if default == "auto":
        chosen = choice.choose([models[name] for name in (wanted or profiles)], there)
    else:
        chosen = choice.named(models[default], there, list(models.values()))
    placed = [chosen.profile, *(name for name in wanted if name != chosen.profile)]
    if default == "auto" and not wanted and not there.measured:
        placed += _small_too(chosen, profiles, there)
    chosen = replace(chosen, notes=tuple(line for name in placed for line in notes[name]))
    result = {}
    for name, profile in profiles.items():
        context = chosen.context if name == chosen.profile else choice.context_to_serve(models[name], there)
        if context is not None and profile.ctx_size is not None and context < profile.ctx_size:
            profile = replace(profile, ctx_size=context)
        served = profile.ctx_size or models[name].context
        result[name] = for_gpus(profile, there.gpus, wholly=choice.fits_wholly(models[name], there, served))
    return Selection(chosen, tuple(placed), result)


def _small_too(chosen: ProfileChoice, profiles: Mapping[str, Profile], there: Machine) -> list[str]:
    """The other profiles that fit and are small, as far as the disk has room for all."""
    have = there.placed or {}

    def missing(name: str) -> int:
        return sum(max(size - have.get(file, 0), 0) for file, size in profiles[name].sizes.items())

    free = None if there.disk_free is None else there.disk_free - missing(chosen.profile) - choice.DISK_SPARE
    result = []
    for verdict in chosen.verdicts:
        name = verdict.profile
        if name == chosen.profile or not verdict.fits or sum(profiles[name].sizes.values()) > SMALL:
            continue
        if free is not None:
            if missing(name) > free:
                continue
            free -= missing(name)
        result.append(name)
    return result
