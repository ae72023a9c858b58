"""Which profile a machine should use: the rule behind ``default_profile = "auto"``. Pure.

docs/decisions/0009-choosing-a-profile.md says it in full. In short: the first profile, in the order of models.conf, that

* has its weights, the cache of at least MINIMUM_CONTEXT tokens and its compute buffer wholly on the GPUs and reads at
  most MAXIMUM_READ of its weights for each token; or, where there is no GPU, has no MIN_VRAM, is wholly in the memory
  that the container may have and reads Claude Code's prompt within MAXIMUM_PROMPT_SECONDS;
* finds room on the models' disk.

Everything that the rule looks at is a total (memory of a GPU, not what is free now): a machine that was deployed once
must not choose otherwise the next time because the first model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from claude_local.hardware.machine import Gpu
from claude_local.models import devices
from claude_local.models.architecture import Architecture, ArchitectureError
from claude_local.models.memory import GPU_CONTEXT_MIB, MIB, Estimate, Serving, Share, estimate, gib, shares
from claude_local.models.profiles import Profile

GIB = 1 << 30

# Tokens of context below which a coding session is compacted all the time: Claude Code's own prompt takes 11,600 to
# 19,800 of them (2.1.330, measured).
MINIMUM_CONTEXT = 65536
# Contexts to try below a profile's own, in tokens.
CONTEXTS = (196608, 131072, 98304, 65536, 49152, 32768, 16384)
# Bytes of weights read for one token at which a consumer's GPU (288 to 1000 GB/s) still gives 30 tokens/s or more.
MAXIMUM_READ = 8 * GIB
# Seconds until the first answer of a session may come on a machine without a GPU.
MAXIMUM_PROMPT_SECONDS = 120
# Parameters times tokens a second that one core works through while it reads a prompt. Measured: 1.54e9 parameters at 66
# tokens/s on 2 cores, AVX2 build (native: 83).
CORE_PARAMETERS = 50e9
# Tokens of Claude Code's prompt: with four tools, and with all of them (2.1.330, Qwen2.5's tokenizer).
FEW_TOOLS_PROMPT, ALL_TOOLS_PROMPT = 2962, 11597
# MiB that llama-server leaves free when it loads a model (FIT_TARGET), on a GPU that drives a screen and on one that does
# not. Decision 0009 has the sum that these three come to.
DISPLAY_MARGIN_MIB, HEADLESS_MARGIN_MIB = 192, 128
# The same beside a screen for a model that does not fit wholly: --fit fills the GPU up to it (llama-server's default).
OVERFLOW_MARGIN_MIB = 1024
# MiB that the rule keeps for the desktop of a GPU that drives a screen, beside the margin.
DESKTOP_MIB = 1024
# Bytes that stay free on the models' disk (models/placement.py keeps as much).
DISK_SPARE = GIB

# Ids of the hand-made setup that meant something else than their name says.
OLD_IDS = {
    "qwen3-coder-ud-q5": (
        "qwen3-coder-next-ud-q5",
        "qwen3-coder-ud-q5 was Qwen3-Coder-Next (80B) in the hand-made setup, here qwen3-coder-next-ud-q5; "
        "the 30B model is qwen3-coder-30b-ud-q5",
    ),
}


@dataclass(frozen=True)
class Machine:
    """What the rule looks at. Bytes; ``gpus`` are those that the image's variant can use, all of them, in llama-server's
    order (its device 0 is the first). ``disk_free`` on the disk of model_dir, None when nobody says; ``placed`` maps a
    model file's name to its bytes there."""

    gpus: tuple[Gpu, ...] = ()
    cores: int = 1
    memory: int = 0
    disk_free: int | None = None
    placed: Mapping[str, int] | None = None

    @property
    def measured(self) -> tuple[Gpu, ...]:
        """The GPUs whose memory is known: the rule counts on these only."""
        return tuple(gpu for gpu in self.gpus if gpu.memory_mib)

    @property
    def unmeasured(self) -> str:
        """What to say of GPUs whose memory nobody tells (Intel's); empty without any."""
        names = ", ".join(gpu.name for gpu in self.gpus if not gpu.memory_mib)
        return f"the memory of {names} is not known" if names else ""


def disk_free(path: str, mounts: Mapping[str, int]) -> int | None:
    """Free bytes of the file system that holds ``path`` (or would); ``mounts``: mount point -> free bytes."""
    holding = [mount for mount in mounts if (path + "/").startswith(mount.rstrip("/") + "/")]
    return mounts[max(holding, key=len)] if holding else None


def with_memory(gpus: Sequence[Gpu], memory: int) -> tuple[Gpu, ...]:
    """The GPUs, each in its place. NVIDIA's that tell of no memory share the machine's (GB10): ``memory`` bytes."""
    return tuple(
        replace(gpu, memory_mib=memory // MIB) if gpu.memory_mib is None and gpu.vendor == "nvidia" else gpu
        for gpu in gpus
    )


def has_screen(gpu: Gpu) -> bool:
    """Whether a screen hangs on a GPU; one of which nobody says counts as if."""
    return gpu.display is not False


def reserved_mib(gpu: Gpu) -> int:
    """MiB of a GPU that the rule leaves to others: the margin and, beside a screen, the desktop."""
    return DESKTOP_MIB + DISPLAY_MARGIN_MIB if has_screen(gpu) else HEADLESS_MARGIN_MIB


def fit_target(gpus: Sequence[Gpu], *, wholly: bool) -> str | None:
    """FIT_TARGET for these GPUs, ``128,192``; None without any. ``wholly``: the rule found that the model fits on them.

    llama-server compares it with what is free when it loads the model. Then the desktop has taken its part already, and a
    margin as big as the desktop's reserve would move experts to main memory that fit. A model that does not fit is filled
    up to the margin, so there it is what the desktop gets that starts later.
    """
    screen = DISPLAY_MARGIN_MIB if wholly else OVERFLOW_MARGIN_MIB
    return ",".join(str(screen if has_screen(gpu) else HEADLESS_MARGIN_MIB) for gpu in gpus) or None


@dataclass(frozen=True)
class Model:
    """A profile with what is known of its model. ``weights`` and ``projector``: bytes of the files; ``embedding``: of the
    vocabulary's tensor, where a header was read."""

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

    def needs(self, context: int, **options: str) -> Estimate | None:
        """The estimate for a context; None where nothing is known of the model. ``options`` win over the profile's."""
        if self.architecture is None or self.weights is None:
            return None
        serving = Serving.of({"parallel": "1", **self.profile.options, **options}, context)
        try:
            return estimate(
                self.architecture, self.weights, serving, embedding=self.embedding, projector=self.projector
            )
        except ArchitectureError:
            return None


@dataclass(frozen=True)
class Fit:
    """What the rule says of one profile. ``fits``: it may be chosen, with ``context`` tokens. ``reason`` is one line;
    ``name_it``: it works, the rule only passes over it. ``remedies`` say what would make it fit, ``named`` what naming
    it would do. ``shares``: what each GPU would hold. ``missing``: bytes that lack."""

    profile: str
    fits: bool
    reason: str
    context: int
    estimate: Estimate | None = None
    shares: tuple[Share, ...] = ()
    missing: int = 0
    name_it: bool = False
    remedies: tuple[str, ...] = ()
    named: str = ""

    def lines(self) -> list[str]:
        """For people: the verdict, the estimate beside what is there, what would help."""
        result = [f"{self.profile}: {self.reason}{'; name it to use it' if self.name_it else ''}"]
        if self.estimate is not None:
            result.append(f"  needs {self.estimate.line()} for {self.context:,} tokens")
        result += [f"  {share.name}: {gib(share.needed)} of {gib(share.there)}" for share in self.shares]
        result += [f"  would fit: {remedy}" for remedy in (*self.remedies, self.named) if remedy]
        return result


def _gpu_room(model: Model, gpus: Sequence[Gpu]) -> list[tuple[str, int, int]]:
    """Name, memory and what is left to others, in bytes, of each GPU whose memory is known."""
    own = [int(number) for number in (model.profile.fit_target or "").split(",") if number]
    if len(own) == 1:
        own *= len(gpus)
    room = []
    for index, gpu in enumerate(gpus):
        left = reserved_mib(gpu)
        if index < len(own):
            left = own[index] + (DESKTOP_MIB if has_screen(gpu) else 0)
        if gpu.memory_mib:
            room.append((gpu.name, gpu.memory_mib * MIB, left * MIB))
    return room


def _lacking(model: Model, there: Machine, context: int, **options: str) -> int | None:
    """Bytes that lack for a context (0 or less: it fits); None where nothing is known."""
    wanted = model.needs(context, **options)
    if wanted is None:
        return None
    if there.measured:
        return shares(wanted, _gpu_room(model, there.gpus))[1]
    return wanted.total - there.memory


def _seen(model: Model, there: Machine) -> Machine:
    """The machine with those GPUs only that the profile's flags leave its model."""
    return replace(there, gpus=devices.used(model.profile, there.gpus))


def _by_hand(model: Model, there: Machine) -> str | None:
    """The key or flag by which the profile places its layers itself on this machine's GPUs."""
    try:
        layers = model.architecture.number("block_count") if model.architecture else None
    except ArchitectureError:
        layers = None
    return devices.by_hand(model.profile, there.gpus, layers) if there.gpus else None


def fits_wholly(model: Model, there: Machine, context: int) -> bool:
    """Whether a model with a context of so many tokens lies wholly on GPUs, by what is known."""
    if _by_hand(model, there) is not None:
        return False
    there = _seen(model, there)
    lacking = _lacking(model, there, context)
    return bool(there.measured) and lacking is not None and lacking <= 0


def largest_context(model: Model, there: Machine, floor: int, **options: str) -> int | None:
    """The biggest context in tokens, at most the profile's own and at least ``floor``, that fits; None when none does."""
    for context in (model.context, *(size for size in CONTEXTS if size < model.context)):
        lacking = _lacking(model, there, context, **options)
        if context >= floor and lacking is not None and lacking <= 0:
            return context
    return None


def _remedies(model: Model, there: Machine) -> tuple[tuple[str, ...], str]:
    """What would make a profile fit that does not: a smaller context, a smaller cache, else more memory; and, where the
    first two do not help, what naming it would do, which moves experts into main memory."""
    result, named = [], ""
    smaller = largest_context(model, there, 0)
    if smaller is not None and smaller < model.context:
        result.append(f"CTX_SIZE = {smaller}")
    q8 = {"cache-type-k": "q8_0", "cache-type-v": "q8_0"}
    if model.profile.options.get("cache-type-k", "f16") not in ("q8_0", "q4_0"):
        context = largest_context(model, there, MINIMUM_CONTEXT, **q8)
        if context is not None:
            result.append(f"cache-type-k = q8_0 and cache-type-v = q8_0 with CTX_SIZE = {context}")
    architecture, weights = model.architecture, model.weights
    if not result and there.measured and architecture is not None and weights is not None and architecture.experts_used:
        experts = int(weights * architecture.expert_share)
        context = min(model.context, MINIMUM_CONTEXT)
        away = _lacking(model, there, context) or 0
        if away <= min(experts, there.memory):
            named = (
                f"named in default_profile, with CTX_SIZE = {context}: --fit on then keeps about {gib(away)} of its "
                "experts in main memory, which is several times slower"
            )
    return tuple(result) or _more_memory(model, there), named


def _more_memory(model: Model, there: Machine) -> tuple[str, ...]:
    """How much memory a profile wants with the least context that is of use: of GPUs without a screen, or, where it is meant
    to do without any, of the container."""
    wanted = model.needs(min(model.context, MINIMUM_CONTEXT))
    minimum = (model.profile.minimum_vram_mib or 0) * MIB
    if wanted is not None and not there.measured and not minimum:
        return (f"server_memory_mib = {-(-wanted.total // MIB)}, where the machine has as much",)
    if wanted is not None:
        minimum = wanted.on_gpu + wanted.compute + (GPU_CONTEXT_MIB + HEADLESS_MARGIN_MIB) * MIB
    return (f"a GPU with {gib(minimum)} or more (several: a little more in all)",) if minimum else ()


def _speed_problem(model: Model, there: Machine) -> tuple[str, bool]:
    """Why a profile that fits is too slow to be chosen by itself, nothing when it is not; and whether it is of use all the
    same."""
    architecture = model.architecture
    if architecture is None or model.weights is None:
        return "", False
    total, active = architecture.parameters
    if there.measured:
        read = model.weights * active // total if total else model.weights
        if read > MAXIMUM_READ:
            return f"fits, but reads {gib(read)} of weights for each token (at most {gib(MAXIMUM_READ)})", True
        return "", False
    prompt = FEW_TOOLS_PROMPT if model.profile.tools else ALL_TOOLS_PROMPT
    seconds = prompt * active / (CORE_PARAMETERS * there.cores)
    if seconds > MAXIMUM_PROMPT_SECONDS:
        return (
            f"too slow without a GPU: about {seconds:.0f} s to read Claude Code's prompt of {prompt:,} tokens on "
            f"{there.cores} cores (at most {MAXIMUM_PROMPT_SECONDS})"
        ), False
    if model.profile.minimum_vram_mib:
        return f"meant for GPUs (MIN_VRAM); it fits in memory, about {seconds:.0f} s to read the prompt", True
    return "", False


def _disk_problem(model: Model, there: Machine) -> str | None:
    if there.disk_free is None:
        return None
    placed = there.placed or {}
    files = model.profile.files
    known = all(file.size is not None for file in files)
    missing = sum(max((file.size or 0) - placed.get(file.name, 0), 0) for file in files)
    if not known and model.profile.about_size:
        missing = max(model.profile.about_size - sum(placed.get(file.name, 0) for file in files), 0)
    if missing and missing + DISK_SPARE > there.disk_free:
        return (
            f"no room on the disk of model_dir: {gib(missing)} to fetch and {gib(DISK_SPARE)} spare, "
            f"{gib(there.disk_free)} free"
        )
    return None


def judge(model: Model, there: Machine) -> Fit:
    """What the rule says of one profile on a machine."""
    name = model.profile.id
    floor = min(model.context, MINIMUM_CONTEXT)
    wanted = model.needs(model.context)
    by_hand = _by_hand(model, there)
    if by_hand is not None:
        reason = f"not judged: it places its layers by hand ({by_hand})"
        return Fit(name, False, reason, model.context, wanted, name_it=True)
    there = _seen(model, there)
    if wanted is None:
        return _judge_unknown(model, there)
    context = largest_context(model, there, floor)
    shown = context or floor
    seen = model.needs(shown)
    divided: tuple[Share, ...] = ()
    if there.measured and seen is not None:
        divided = tuple(shares(seen, _gpu_room(model, there.gpus))[0])
    if context is None:
        missing = _lacking(model, there, floor) or 0
        remedies, named = _remedies(model, there)
        where = "on the GPU" if len(there.measured) == 1 else "on the GPUs" if there.measured else "in memory"
        return Fit(
            profile=name,
            fits=False,
            reason=f"does not fit {where}: {gib(missing)} lack at {floor:,} tokens of context",
            context=shown,
            estimate=seen,
            shares=divided,
            missing=missing,
            remedies=remedies,
            named=named,
        )
    less = "" if context == model.context else f" (its CTX_SIZE of {model.context:,} does not fit)"
    slow, name_it = _speed_problem(model, there)
    problem = slow or _disk_problem(model, there)
    if problem is not None:
        return Fit(name, False, problem + less, context, seen, divided, name_it=name_it)
    where = "wholly on " + " + ".join(gpu.name for gpu in there.measured) if there.measured else "in memory"
    return Fit(name, True, f"fits {where} with {context:,} tokens of context{less}", context, seen, divided)


def _judge_unknown(model: Model, there: Machine) -> Fit:
    """A profile of whose model nothing is known but MIN_VRAM, if that."""
    minimum = model.profile.minimum_vram_mib
    name = model.profile.id
    if minimum is None:
        why = "neither ARCHITECTURE nor MIN_VRAM nor its file is there"
        if model.architecture is not None:
            why = "its file is not there, and neither SIZE nor ABOUT_SIZE tells how large it is"
        return Fit(name, False, f"not judged: {why}", 0, name_it=True)
    there_mib = there.memory // MIB
    if there.measured:
        # MIN_VRAM is meant for GPUs without a screen.
        there_mib = sum((gpu.memory_mib or 0) - reserved_mib(gpu) + HEADLESS_MARGIN_MIB for gpu in there.measured)
    if there_mib < minimum:
        missing = (minimum - there_mib) * MIB
        reason = f"its MIN_VRAM is not there: {gib(missing)} lack"
        more = _more_memory(model, there)
        return Fit(name, False, reason, model.context, missing=missing, remedies=more)
    if not there.measured:
        return Fit(name, False, "not judged without a GPU: its ARCHITECTURE is not known", 0, name_it=True)
    problem = _disk_problem(model, there)
    return Fit(name, problem is None, problem or "fits by its MIN_VRAM", model.context)


@dataclass(frozen=True)
class ProfileChoice:
    """The profile that plain ``claude-local`` uses. ``context``: tokens, None for the profile's own. ``verdicts``: of
    every profile that was looked at, in order. ``chosen``: whether the rule found it (else it was named, or nothing
    fits and it is the smallest). ``notes``: what of the placed profiles was left out on this machine."""

    profile: str
    context: int | None
    chosen: bool
    reason: str
    verdicts: tuple[Fit, ...]
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The reason, the numbers of the profile and the notes, for the end of a run."""
        mine = next((verdict for verdict in self.verdicts if verdict.profile == self.profile), None)
        lines = [self.reason]
        return lines + (mine.lines()[1:] if mine is not None else []) + list(self.notes)


def choose(models: Sequence[Model], there: Machine) -> ProfileChoice:
    """The first profile that fits; when none does, the one that needs the least. ``models`` must not be empty."""
    verdicts = tuple(judge(model, there) for model in models)
    first = next((verdict for verdict in verdicts if verdict.fits), None)
    if first is not None:
        before = zip(models, verdicts[: verdicts.index(first)])  # noqa: B905 - the verdicts end earlier
        # Without a GPU that all of those for GPUs are passed over goes without saying.
        passed = [v.profile for model, v in before if there.measured or not model.profile.minimum_vram_mib]
        better = f"; preferred, but not for this machine: {', '.join(passed)}" if passed else ""
        reason = f"{first.profile}: {first.reason}{better}{_not_counted(there)}"
        return ProfileChoice(first.profile, first.context or None, True, reason, verdicts)
    least = min(models, key=lambda m: (m.weights is None, m.weights or m.profile.about_size or m.profile.size))
    verdict = next(each for each in verdicts if each.profile == least.profile.id)
    reason = f"{least.profile.id}: no profile fits this machine well, this one needs the least "
    reason += f"({verdict.reason}){_not_counted(there)}"
    return ProfileChoice(least.profile.id, largest_context(least, _seen(least, there), 0), False, reason, verdicts)


def _not_counted(there: Machine) -> str:
    """What the rule says of GPUs that it knows no memory of."""
    if not there.unmeasured:
        return ""
    if there.measured:
        return f"; {there.unmeasured}, so the rule does not count on it"
    return f"; {there.unmeasured}, so this was chosen as if there were no GPU: name a profile in default_profile"


def named(model: Model, there: Machine, others: Sequence[Model] = ()) -> ProfileChoice:
    """The verdict on a profile that the user named: it is used whatever the rule says, with ``context_to_serve``. Where it
    does not fit, the first of ``others`` that does is told."""
    verdict = judge(model, there)
    context = context_to_serve(model, there)
    reason = f"{verdict.profile}: named; {verdict.reason}"
    if there.unmeasured and not there.measured:
        # What would hold for the processor alone says nothing of this machine.
        reason = f"{verdict.profile}: named; {there.unmeasured}, so nobody can say beforehand what fits"
        reason += f"; served with {context:,} tokens" if context is not None else ""
        shown = context or model.context
        needs = model.needs(shown)
        return ProfileChoice(model.profile.id, context, False, reason, (Fit(verdict.profile, False, "", shown, needs),))
    if verdict.missing and context is not None:
        rest = (
            "what lacks goes to main memory (--fit on), which is several times slower"
            if there.measured
            else "slow if at all"
        )
        reason += f"; served with {context:,} tokens, {rest}"
    if verdict.missing:
        fitting = next((each.profile for each in (judge(other, there) for other in others) if each.fits), None)
        instead = (f"default_profile = {fitting}",) if fitting is not None else ()
        verdict = replace(verdict, remedies=(*verdict.remedies, *instead))
    return ProfileChoice(model.profile.id, context, False, reason, (replace(verdict, named=""),))


def context_to_serve(model: Model, there: Machine) -> int | None:
    """The tokens of context to give a profile that is used whatever the rule says: the biggest that fits, or the least
    that is of use (also where nobody tells the GPU's memory). None for its own: where nothing is known of the model, or
    the profile says itself what goes where."""
    profile = model.profile
    by_hand = profile.fit is not None or profile.n_gpu_layers is not None or _by_hand(model, there) is not None
    if by_hand or model.needs(model.context) is None:
        return None
    there = _seen(model, there)
    floor = min(model.context, MINIMUM_CONTEXT)
    if there.unmeasured and not there.measured:
        return floor
    return largest_context(model, there, floor) or floor
