"""Which profiles a machine gets, and with what settings. Pure.

The walk of a profile's id: ``profiles.parse`` reads it from models.conf, :func:`select` gives the profile the context
and the flags for this machine, and ``server.presets.render`` writes it to presets.ini.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from claude_local.hardware.machine import Gpu
from claude_local.models import devices
from claude_local.models.architecture import Architecture, shipped
from claude_local.models.capacity import Machine, fit_target
from claude_local.models.fit import (
    DISK_SPARE,
    GIB,
    Fit,
    Model,
    context_to_serve,
    fits_wholly,
    judge,
    largest_context,
    models_at_once,
)
from claude_local.models.memory import MIB
from claude_local.models.profile import Profile

# Ids of the hand-made setup that meant another model than their name says: old id -> (our id, the explanation).
OLD_IDS = {
    "qwen3-coder-ud-q5": (
        "qwen3-coder-next-ud-q4",
        "qwen3-coder-ud-q5 was Qwen3-Coder-Next (80B) in the hand-made setup; here it is qwen3-coder-next-ud-q4, a "
        "smaller file. The 30B model is qwen3-coder-30b-q4",
    ),
}
# Bytes up to which a second profile that fits is placed unasked, on a machine without a GPU: the other small model.
SMALL = 2 * GIB


@dataclass(frozen=True)
class Shape:
    """What the header of a model file on the machine says. ``weights`` and ``embedding`` are in bytes."""

    architecture: Architecture
    weights: int | None = None
    embedding: int | None = None


@dataclass(frozen=True)
class ProfileChoice:
    """The profile that plain ``claude-local`` uses.

    ``context``: tokens, None for the profile's own. ``chosen``: the rule chose it; else it was named, or nothing fits
    and it is the smallest. ``fits``: the judgement of every profile the rule looked at, in order. ``notes``: what was
    left out of the placed profiles on this machine.
    """

    profile: str
    context: int | None
    chosen: bool
    reason: str
    fits: tuple[Fit, ...]
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The reason, the numbers of the profile and the notes, for the end of a run."""
        fit = next((each for each in self.fits if each.profile == self.profile), None)
        return [self.reason, *(fit.lines()[1:] if fit is not None else []), *self.notes]


@dataclass(frozen=True)
class Selection:
    """``choice``: the default profile and why. ``placed``: the ids to place, the default first. ``profiles``: all of
    them, with the context and flags for this machine. ``at_once``: how many of the placed ones fit in memory together.
    """

    choice: ProfileChoice
    placed: tuple[str, ...]
    profiles: dict[str, Profile]
    at_once: int = 1


def select(
    default: str,
    requested: Sequence[str],
    profiles: Mapping[str, Profile],
    machine: Machine,
    shapes: Mapping[str, Shape] | None = None,
) -> Selection:
    """The profiles for a machine.

    ``default``: a profile's id or "auto". ``requested``: the setting model_profiles. With "auto" the rule chooses among
    them, or among all profiles when there are none. ``shapes``: by profile id, for models whose files are on the disk.
    """
    usable: dict[str, Profile] = {}
    notes: dict[str, list[str]] = {}
    for name, profile in profiles.items():
        usable[name], notes[name] = devices.without_foreign_placement(profile, machine.gpus)
    models = {}
    for name, profile in usable.items():
        model = model_of(profile, (shapes or {}).get(name))
        models[name] = with_f16_cache(model, machine)
        if models[name] is not model:
            notes[name].append(f"{name}: its KV cache is in f16 here, because a processor reads prompts faster with it")
    if default == "auto":
        choice = choose([models[name] for name in (requested or usable)], machine)
    else:
        choice = choose_named(models[default], machine, list(models.values()))
    placed = [choice.profile, *(name for name in requested if name != choice.profile)]
    if default == "auto" and not requested and not machine.measured:
        placed += _small_too(choice, usable, machine)
    choice = replace(choice, notes=tuple(line for name in placed for line in notes[name]))
    served = {}
    for name, model in models.items():
        context = choice.context if name == choice.profile else context_to_serve(model, machine)
        served[name] = for_machine(model, machine, context)
    at_once = models_at_once([replace(models[name], profile=served[name]) for name in placed], machine)
    return Selection(choice, tuple(placed), served, at_once)


def shape_from(profile: Profile, shapes: Mapping[str, Any], sizes: Mapping[str, int]) -> Shape | None:
    """A profile's shape from the output of ``claude_local.models.shapes``; None when its file is not on the disk."""
    record = shapes.get(profile.files[0].name)
    if not isinstance(record, Mapping):
        return None
    weights = sum(sizes.get(file.name, 0) for file in profile.files if file.name != profile.mmproj)
    architecture = Architecture(
        str(record["architecture"]), int(record["vocabulary"]), dict(record["keys"]), bool(record["tied"])
    )
    return Shape(architecture, weights or None, int(record["embedding"]) or None)


def model_of(profile: Profile, shape: Shape | None = None) -> Model:
    """A profile with what is known of its model: from its file's header, else from its ARCHITECTURE."""
    sizes = profile.sizes
    projector = sizes.get(profile.mmproj, 0) if profile.mmproj else 0
    weights = sum(sizes.values()) - projector if all(sizes.values()) else None
    if shape is not None:
        return Model(profile, shape.architecture, shape.weights or weights, projector, shape.embedding)
    architecture = shipped().get(profile.architecture) if profile.architecture else None
    return Model(profile, architecture, weights if architecture is not None else None, projector)


def with_f16_cache(model: Model, machine: Machine) -> Model:
    """Without a GPU, the model with its KV cache in f16 instead of a smaller type, if that leaves a context of use.

    A processor reads a prompt more slowly with another type (decision 9).
    """
    profile = model.profile
    if machine.gpus or model.serving(model.context).tiled:
        return model
    faster = replace(model, profile=profile.without({"cache-type-k", "cache-type-v"}))
    return faster if largest_context(faster, machine, faster.floor) is not None else model


def choose(models: Sequence[Model], machine: Machine) -> ProfileChoice:
    """The first profile that fits; the smallest when none does. ``models`` must not be empty."""
    fits = tuple(judge(model, machine) for model in models)
    first = next((fit for fit in fits if fit.fits), None)
    if first is not None:
        before = zip(models, fits[: fits.index(first)])  # noqa: B905 - the fits end earlier
        # Without a GPU it goes without saying that the profiles for GPUs are passed over.
        passed = [fit.profile for model, fit in before if machine.measured or not model.profile.minimum_vram_mib]
        better = f"; preferred, but not for this machine: {', '.join(passed)}" if passed else ""
        reason = f"{first.profile}: {first.reason}{better}{_not_counted(machine)}"
        return ProfileChoice(first.profile, first.context or None, True, reason, fits)
    smallest = min(models, key=lambda m: (m.weights is None, m.weights or m.profile.about_size or m.profile.size))
    name = smallest.profile.id
    why = next(fit.reason for fit in fits if fit.profile == name)
    reason = f"{name}: no profile fits this machine well, this one needs the least ({why}){_not_counted(machine)}"
    context = largest_context(smallest, smallest.on_its_gpus(machine), 0)
    return ProfileChoice(name, context, False, reason, fits)


def _not_counted(machine: Machine) -> str:
    """What to say of GPUs whose memory is not known."""
    if not machine.unmeasured:
        return ""
    if machine.measured:
        return f"; {machine.unmeasured}, so the rule does not count on it"
    return f"; {machine.unmeasured}, so this was chosen as if there were no GPU: name a profile in default_profile"


def choose_named(model: Model, machine: Machine, others: Sequence[Model] = ()) -> ProfileChoice:
    """The profile that the user named: it is used whatever the rule says, with :func:`context_to_serve`.

    When it does not fit, the choice names the first of ``others`` that does.
    """
    fit, name = judge(model, machine), model.profile.id
    context = context_to_serve(model, machine)
    tokens = f"; served with {context:,} tokens" if context is not None else ""
    if machine.unmeasured and not machine.measured:
        # The judgement for the processor alone says nothing about this machine.
        reason = f"{name}: named; {machine.unmeasured}, so what fits cannot be computed{tokens}"
        size = context or model.context
        return ProfileChoice(name, context, False, reason, (Fit(name, False, "", size, model.needs(size)),))
    reason = f"{name}: named; {fit.reason}"
    if fit.missing and tokens:
        slower = "the rest goes to main memory (--fit on), which is several times slower"
        reason += f"{tokens}, {slower if machine.measured else 'slow if at all'}"
    if fit.missing:
        fitting = next((each.profile for each in (judge(other, machine) for other in others) if each.fits), None)
        instead = (f"default_profile = {fitting}",) if fitting is not None else ()
        fit = replace(fit, remedies=(*fit.remedies, *instead))
    return ProfileChoice(name, context, False, reason, (replace(fit, if_named=""),))


def for_machine(model: Model, machine: Machine, context: int | None) -> Profile:
    """The profile as llama-server gets it: at most ``context`` tokens, and the flags for this machine's GPUs."""
    profile = model.profile
    if context is not None and profile.ctx_size is not None and context < profile.ctx_size:
        profile = replace(profile, ctx_size=context)
    profile = _with_prompt_cache(profile, model, machine)
    wholly = fits_wholly(model, machine, profile.ctx_size or model.context)
    return for_gpus(profile, machine.gpus, wholly=wholly)


def _with_prompt_cache(profile: Profile, model: Model, machine: Machine) -> Profile:
    """The profile with a prompt cache in main memory no larger than what the model leaves, on a machine without a GPU.

    Otherwise the cache may take its share of the memory (server.container), which the model may have taken already.
    """
    needed = model.needs(profile.ctx_size or model.context)
    if machine.measured or needed is None or "cache-ram" in profile.options:
        return profile
    left = max(machine.memory - needed.total, 0)
    if left >= machine.prompt_cache:
        return profile
    return replace(profile, flags={**profile.flags, "cache-ram": str(left // MIB)})


def for_gpus(profile: Profile, gpus: Sequence[Gpu], *, wholly: bool) -> Profile:
    """The profile with --fit on, -ngl auto and a margin for each GPU it uses, where it says nothing else itself.

    ``wholly``: the model fits on them (:func:`claude_local.models.capacity.fit_target`).
    """
    if not gpus:
        return profile
    fit = profile.fit or "on"
    margins = fit_target(devices.used_gpus(profile, gpus), wholly=wholly) if fit == "on" else None
    return replace(
        profile,
        n_gpu_layers=profile.n_gpu_layers or "auto",
        fit=fit,
        fit_target=profile.fit_target or margins,
    )


def _small_too(choice: ProfileChoice, profiles: Mapping[str, Profile], machine: Machine) -> list[str]:
    """The other small profiles that fit, as far as the disk has room for all."""
    placed = machine.placed or {}

    def missing(name: str) -> int:
        return sum(max(size - placed.get(file, 0), 0) for file, size in profiles[name].sizes.items())

    free = None if machine.disk_free is None else machine.disk_free - missing(choice.profile) - DISK_SPARE
    result = []
    for fit in choice.fits:
        name = fit.profile
        if name == choice.profile or not fit.fits or sum(profiles[name].sizes.values()) > SMALL:
            continue
        if free is not None:
            if missing(name) > free:
                continue
            free -= missing(name)
        result.append(name)
    return result
