"""Whether a profile's model fits a machine and is fast enough: the rule behind ``default_profile = "auto"``. Pure.

docs/decisions/0009-choosing-a-profile.md has it in full. In short: a profile fits when

* its weights, the cache of at least MINIMUM_CONTEXT tokens and its compute buffer lie wholly on the GPUs, and it reads
  at most MAXIMUM_READ of weights for each token; or, without a GPU, it has no MIN_VRAM or CPU = yes, lies wholly in
  the memory of the server's container, reads the prompt of its tool set within MAXIMUM_PROMPT_SECONDS and writes
  MINIMUM_DECODE tokens a second (:mod:`claude_local.models.speed`);
* the models' disk has room for it.

The rule looks at totals, not at what is free now: a machine whose first model is loaded must not choose otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from claude_local.claude.tool_sets import DEFAULT, SETS, tool_set
from claude_local.hardware.machine import Gpu
from claude_local.models import devices
from claude_local.models.architecture import Architecture, ArchitectureError
from claude_local.models.capacity import DESKTOP_MIB, HEADLESS_MARGIN_MIB, SPARE_MIB, Machine, has_screen, reserved_mib
from claude_local.models.memory import GPU_CONTEXT_MIB, MIB, Estimate, Serving, Share, estimate, gib, shares
from claude_local.models.profile import Profile
from claude_local.models.speed import Speed, expected

GIB = 1 << 30

# Tokens of context. With fewer a coding session is compacted all the time: Claude Code's own prompt takes up to
# 19,700 of them (2.1.330, measured; it depends on the tool set).
MINIMUM_CONTEXT = 65536
# Contexts to try below a profile's own, in tokens.
CONTEXTS = (196608, 131072, 98304, 65536, 49152, 32768, 16384)
# Bytes of weights read for one token at which a consumer's GPU (288 to 1000 GB/s) still gives 30 tokens/s or more.
MAXIMUM_READ = 8 * GIB
# Seconds that the first answer of a session may take on a machine without a GPU.
MAXIMUM_PROMPT_SECONDS = 120
# Tokens a second below which nobody waits for an answer of a machine without a GPU.
MINIMUM_DECODE = 8
# Bytes that stay free on the models' disk (placement.SPARE is the same).
DISK_SPARE = GIB


@dataclass(frozen=True)
class Model:
    """A profile with what is known of its model.

    ``weights`` and ``projector``: bytes of the files. ``embedding``: bytes of the vocabulary's tensor, where a header
    was read.
    """

    profile: Profile
    architecture: Architecture | None
    weights: int | None
    projector: int = 0
    embedding: int | None = None

    @property
    def context(self) -> int:
        """The context that the profile asks for, in tokens."""
        own = self.architecture.context_length if self.architecture else None
        return self.profile.ctx_size or own or MINIMUM_CONTEXT

    @property
    def floor(self) -> int:
        """The smallest context that is of use, in tokens."""
        return min(self.context, MINIMUM_CONTEXT)

    def serving(self, context: int, **options: str) -> Serving:
        """How llama-server serves a context. ``options`` win over the profile's."""
        return Serving.of({"parallel": "1", **self.profile.options, **options}, context)

    def needs(self, context: int, **options: str) -> Estimate | None:
        """The memory for a context; None where nothing is known of the model. ``options`` win over the profile's."""
        if self.architecture is None or self.weights is None:
            return None
        serving = self.serving(context, **options)
        try:
            return estimate(
                self.architecture, self.weights, serving, embedding=self.embedding, projector=self.projector
            )
        except ArchitectureError:
            return None

    def placed_by_hand(self, machine: Machine) -> str | None:
        """The key or flag with which the profile places its layers itself on this machine's GPUs."""
        try:
            layers = self.architecture.number("block_count") if self.architecture else None
        except ArchitectureError:
            layers = None
        return devices.placed_by_hand(self.profile, machine.gpus, layers) if machine.gpus else None

    def on_its_gpus(self, machine: Machine) -> Machine:
        """The machine with only those GPUs that the profile's flags leave to its model."""
        return replace(machine, gpus=devices.used_gpus(self.profile, machine.gpus))


@dataclass(frozen=True)
class Fit:
    """The rule's judgement of one profile.

    ``fits``: it may be chosen, with ``context`` tokens. ``reason`` is one line. ``usable``: it works when it is named;
    the rule only passes over it. ``shares``: what each GPU would hold. ``missing``: bytes it is short. ``remedies`` say
    what would make it fit, ``if_named`` what naming it would do. ``speed``: what to expect on a processor.
    """

    profile: str
    fits: bool
    reason: str
    context: int
    estimate: Estimate | None = None
    shares: tuple[Share, ...] = ()
    missing: int = 0
    usable: bool = False
    remedies: tuple[str, ...] = ()
    if_named: str = ""
    speed: str = ""

    def as_data(self) -> dict[str, Any]:
        """For JSON: ``fits``, ``reason``, and the bytes that it needs, ``memory`` in all and ``parts`` of it as in
        Estimate, None when unknown."""
        estimate = self.estimate
        known = {"memory": estimate.total, "parts": asdict(estimate)} if estimate else {"memory": None, "parts": None}
        return {"fits": self.fits, "reason": self.reason, **known}

    def lines(self) -> list[str]:
        """For people: the judgement, the memory it needs beside what the GPUs have, what would help."""
        result = [f"{self.profile}: {self.reason}{'; name it to use it' if self.usable else ''}"]
        if self.estimate is not None:
            result.append(f"  needs {self.estimate.line()} for {self.context:,} tokens")
        result += [f"  {self.speed}"] if self.speed else []
        result += [f"  {share.name}: {gib(share.needed)} of {gib(share.memory)}" for share in self.shares]
        result += [f"  would fit: {remedy}" for remedy in (*self.remedies, self.if_named) if remedy]
        return result


# --- memory -----------------------------------------------------------------------------------------------------------


def _gpu_room(model: Model, gpus: Sequence[Gpu]) -> list[tuple[str, int, int]]:
    """Name, memory and margin, in bytes, of each GPU whose memory is known."""
    own = [int(number) for number in (model.profile.fit_target or "").split(",") if number]
    if len(own) == 1:
        own *= len(gpus)
    room = []
    for index, gpu in enumerate(gpus):
        margin = reserved_mib(gpu)
        if index < len(own):
            margin = own[index] + (DESKTOP_MIB if has_screen(gpu) else 0)
        if gpu.memory_mib:
            room.append((gpu.name, gpu.memory_mib * MIB, margin * MIB))
    return room


def _missing(model: Model, machine: Machine, context: int, **options: str) -> int | None:
    """Bytes that are missing for a context (0 or less: it fits); None where nothing is known of the model."""
    needed = model.needs(context, **options)
    if needed is None:
        return None
    if machine.measured:
        return shares(needed, _gpu_room(model, machine.gpus))[1]
    return needed.total - machine.memory


def largest_context(model: Model, machine: Machine, floor: int, **options: str) -> int | None:
    """The largest context in tokens that fits, from ``floor`` up to the profile's own; None when none does."""
    for context in (model.context, *(size for size in CONTEXTS if size < model.context)):
        missing = _missing(model, machine, context, **options)
        if context >= floor and missing is not None and missing <= 0:
            return context
    return None


def fits_wholly(model: Model, machine: Machine, context: int) -> bool:
    """Whether a model with a context of so many tokens lies wholly on GPUs, as far as is known."""
    if model.placed_by_hand(machine) is not None:
        return False
    machine = model.on_its_gpus(machine)
    missing = _missing(model, machine, context)
    return bool(machine.measured) and missing is not None and missing <= 0


def context_to_serve(model: Model, machine: Machine) -> int | None:
    """The context in tokens for a profile that is used whatever the rule says; None for the profile's own.

    It is the largest that fits, or else the smallest that is of use. It is the profile's own where nothing is known of
    the model, or the profile itself places its layers.
    """
    profile = model.profile
    by_hand = profile.fit is not None or profile.n_gpu_layers is not None or model.placed_by_hand(machine) is not None
    if by_hand or model.needs(model.context) is None:
        return None
    machine = model.on_its_gpus(machine)
    if machine.unmeasured and not machine.measured:
        return model.floor
    return largest_context(model, machine, model.floor) or model.floor


def models_at_once(models: Sequence[Model], machine: Machine) -> int:
    """How many of these models, whichever they are, fit in memory together, each with its context and prompt cache.

    It is 1 where the sum is not certain: several GPUs, a GPU whose memory is not known, a model that is placed by hand,
    lies partly in main memory or has a draft model, a cache without a limit.
    """
    if len(machine.gpus) > 1 or machine.unmeasured:
        return 1
    # Bytes of main memory and of the GPU that each model takes, and the room on the GPU.
    main, device, rooms = [], [], []
    for model in models:
        needed, options = model.needs(model.context), model.profile.options
        cache = int(options["cache-ram"]) * MIB if "cache-ram" in options else machine.prompt_cache
        if needed is None or cache < 0 or "model-draft" in options or model.placed_by_hand(machine) is not None:
            return 1
        for _, memory, margin in _gpu_room(model, machine.gpus):
            rooms.append(memory - margin)
        main.append(cache + (needed.embedding if machine.gpus else needed.total))
        device.append(needed.on_gpu + needed.compute + GPU_CONTEXT_MIB * MIB)
    if any(gpu.memory_mib == machine.memory // MIB for gpu in machine.gpus):
        # This GPU has no memory of its own (capacity.with_memory).
        main = [of_main + of_device for of_main, of_device in zip(main, device, strict=True)]
    room = min(rooms, default=sum(device))
    for count in range(len(models), 1, -1):
        largest = [sum(sorted(each, reverse=True)[:count]) for each in (main, device)]
        if largest[0] <= machine.memory and largest[1] <= room:
            return count
    return 1


# --- what would help --------------------------------------------------------------------------------------------------


def _remedies(model: Model, machine: Machine) -> tuple[str, ...]:
    """What would make a profile fit: a smaller context, a smaller cache, else more memory."""
    result = []
    smaller = largest_context(model, machine, 0)
    if smaller is not None and smaller < model.context:
        result.append(f"CTX_SIZE = {smaller}")
    if model.profile.options.get("cache-type-k", "f16") not in ("q8_0", "q4_0"):
        q8 = {"cache-type-k": "q8_0", "cache-type-v": "q8_0"}
        context = largest_context(model, machine, MINIMUM_CONTEXT, **q8)
        if context is not None:
            result.append(f"cache-type-k = q8_0 and cache-type-v = q8_0 with CTX_SIZE = {context}")
    return tuple(result)


def _if_named(model: Model, machine: Machine) -> str:
    """What naming a profile of experts would do that no smaller context makes fit; empty when it would not help."""
    architecture, weights = model.architecture, model.weights
    if not machine.measured or architecture is None or weights is None or not architecture.experts_used:
        return ""
    moved = _missing(model, machine, model.floor) or 0
    if moved > min(int(weights * architecture.expert_share), machine.memory):
        return ""
    return (
        f"named in default_profile, with CTX_SIZE = {model.floor}: --fit on then keeps about {gib(moved)} of its "
        "experts in main memory, which is several times slower"
    )


def _more_memory(model: Model, machine: Machine) -> tuple[str, ...]:
    """How much memory a profile needs for the smallest context that is of use.

    That is the memory of GPUs without a screen, or of the container for a profile that needs no GPU.
    """
    needed = model.needs(model.floor)
    minimum = (model.profile.minimum_vram_mib or 0) * MIB
    if needed is not None and not machine.measured and not minimum:
        return (f"server_memory_mib = {-(-needed.total // MIB) + SPARE_MIB}, if the machine has that much",)
    if needed is not None:
        minimum = needed.on_gpu + needed.compute + (GPU_CONTEXT_MIB + HEADLESS_MARGIN_MIB) * MIB
    return (f"a GPU with {gib(minimum)} or more (several: a little more in all)",) if minimum else ()


# --- the judgement ----------------------------------------------------------------------------------------------------


def judge(model: Model, machine: Machine) -> Fit:
    """Whether the rule lets a profile be chosen on a machine, and why."""
    name, needed = model.profile.id, model.needs(model.context)
    flag = model.placed_by_hand(machine)
    if flag is not None:
        reason = f"not judged: it places its layers by hand ({flag})"
        return Fit(name, False, reason, model.context, needed, usable=True)
    machine = model.on_its_gpus(machine)
    if needed is None:
        return _judge_unknown(model, machine)
    context = largest_context(model, machine, model.floor)
    if context is None:
        return _too_big(model, machine)
    needed = model.needs(context)
    smaller = "" if context == model.context else f" (its CTX_SIZE of {model.context:,} does not fit)"
    slow, usable = _speed_problem(model, machine)
    problem = slow or _disk_problem(model, machine)
    gpus = " + ".join(gpu.name for gpu in machine.measured)
    where = f"wholly on {gpus}" if gpus else "in memory"
    reason = problem + smaller if problem else f"fits {where} with {context:,} tokens of context{smaller}"
    usable = usable and problem is not None
    speed = _speed(model, machine)
    line = speed.line() if speed else ""
    held = _shares(model, machine, needed)
    return Fit(name, not problem, reason, context, needed, held, usable=usable, speed=line)


def _shares(model: Model, machine: Machine, needed: Estimate | None) -> tuple[Share, ...]:
    """What each GPU would hold; nothing without GPUs."""
    return tuple(shares(needed, _gpu_room(model, machine.gpus))[0]) if machine.measured and needed else ()


def _too_big(model: Model, machine: Machine) -> Fit:
    """The judgement of a profile that does not fit with any context of use."""
    needed = model.needs(model.floor)
    missing = _missing(model, machine, model.floor) or 0
    remedies = _remedies(model, machine)
    where = "on the GPU" if len(machine.measured) == 1 else "on the GPUs" if machine.measured else "in memory"
    return Fit(
        profile=model.profile.id,
        fits=False,
        reason=f"does not fit {where}: {gib(missing)} short at {model.floor:,} tokens of context",
        context=model.floor,
        estimate=needed,
        shares=_shares(model, machine, needed),
        missing=missing,
        remedies=remedies or _more_memory(model, machine),
        if_named="" if remedies else _if_named(model, machine),
    )


def _speed_problem(model: Model, machine: Machine) -> tuple[str, bool]:
    """Why a profile that fits is too slow to be chosen, empty when it is not; and whether it is usable all the same."""
    architecture = model.architecture
    if architecture is None or model.weights is None:
        return "", False
    total, active = architecture.parameters
    if machine.measured:
        read = model.weights * active // total if total else model.weights
        if read > MAXIMUM_READ:
            return f"fits, but reads {gib(read)} of weights for each token (at most {gib(MAXIMUM_READ)})", True
        return "", False
    speed = expected(architecture, model.weights, machine.processor, model.serving(model.context), _prompt(model))
    seconds = speed.prompt / speed.prefill
    if seconds > MAXIMUM_PROMPT_SECONDS:
        return (
            f"too slow without a GPU: about {seconds:.0f} s to read Claude Code's prompt of {speed.prompt:,} tokens on "
            f"{machine.processor.cores} cores (at most {MAXIMUM_PROMPT_SECONDS})"
        ), False
    if speed.decode < MINIMUM_DECODE:
        return (f"too slow without a GPU: about {speed.decode:.1f} tokens a second (at least {MINIMUM_DECODE})"), False
    if model.profile.minimum_vram_mib and not model.profile.cpu:
        return f"meant for GPUs (MIN_VRAM); it fits in memory, about {seconds:.0f} s to read the prompt", True
    return "", False


def _prompt(model: Model) -> int:
    """Tokens of a session's first request with the profile's tool set."""
    return (tool_set(model.profile.tools) or SETS[DEFAULT]).tokens


def _speed(model: Model, machine: Machine) -> Speed | None:
    """What to expect on a machine without a GPU; None on others, or where nothing is known of the model."""
    if machine.measured or model.architecture is None or model.weights is None:
        return None
    serving = model.serving(model.context)
    return expected(model.architecture, model.weights, machine.processor, serving, _prompt(model))


def _disk_problem(model: Model, machine: Machine) -> str | None:
    """Why the model cannot be downloaded; None when it can, or when the free space is not known."""
    if machine.disk_free is None:
        return None
    placed, profile = machine.placed or {}, model.profile
    missing = sum(max((file.size or 0) - placed.get(file.name, 0), 0) for file in profile.files)
    if profile.about_size and any(file.size is None for file in profile.files):
        missing = max(profile.about_size - sum(placed.get(file.name, 0) for file in profile.files), 0)
    if missing and missing + DISK_SPARE > machine.disk_free:
        return (
            f"no room on the disk of model_dir: {gib(missing)} to download and {gib(DISK_SPARE)} spare, "
            f"{gib(machine.disk_free)} free"
        )
    return None


def _judge_unknown(model: Model, machine: Machine) -> Fit:
    """The judgement of a profile whose model's shape is not known: MIN_VRAM decides, if there is one."""
    minimum, name = model.profile.minimum_vram_mib, model.profile.id
    if minimum is None:
        why = "it has neither ARCHITECTURE nor MIN_VRAM, and its file is not on the disk"
        if model.architecture is not None:
            why = "its file is not on the disk, and it has neither SIZE nor ABOUT_SIZE"
        return Fit(name, False, f"not judged: {why}", 0, usable=True)
    available = machine.memory // MIB
    if machine.measured:
        # MIN_VRAM is meant for GPUs without a screen.
        available = sum((gpu.memory_mib or 0) - reserved_mib(gpu) + HEADLESS_MARGIN_MIB for gpu in machine.measured)
    if available < minimum:
        missing = (minimum - available) * MIB
        reason = f"less memory than its MIN_VRAM: {gib(missing)} short"
        return Fit(name, False, reason, model.context, missing=missing, remedies=_more_memory(model, machine))
    if not machine.measured:
        return Fit(name, False, "not judged without a GPU: its ARCHITECTURE is not known", 0, usable=True)
    problem = _disk_problem(model, machine)
    return Fit(name, problem is None, problem or "fits by its MIN_VRAM", model.context)
