"""default_profile = "auto": which of the shipped profiles a machine gets, and what it is told."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_local.hardware.machine import Gpu
from claude_local.models import choice, fit, profiles
from claude_local.models.architecture import shipped
from claude_local.models.capacity import HEADLESS_MARGIN_MIB, SPARE_MIB, Machine, disk_free, fit_target, with_memory
from claude_local.models.choice import for_gpus, model_of
from claude_local.models.fit import GIB
from claude_local.models.memory import GPU_CONTEXT_MIB, MIB
from claude_local.models.speed import Processor

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = profiles.parse((ROOT / "models.conf").read_text(encoding="utf-8"))
SMALL = ["qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b"]


def gpu(mib: int, display: bool | None = False) -> Gpu:
    return Gpu("nvidia", f"card{mib}", mib, driver="580.1", display=display)


def machine(
    *gpus: Gpu, cores: int = 2, memory: int = 48, disk: float | None = 500, wide: bool = True, gbs: float = 60
) -> Machine:
    """``memory``: GiB of the container. ``gbs``: GB a second of main memory."""
    processor = Processor(cores, wide, gbs * 1e9)
    return Machine(gpus, memory * GIB, None if disk is None else int(disk * GIB), {}, processor)


def select(computer: Machine, default: str = "auto", requested: list[str] | None = None) -> choice.Selection:
    return choice.select(default, requested or [], SHIPPED, computer)


@pytest.mark.parametrize(
    ("computer", "profile", "context"),
    [
        (machine(cores=2, memory=18), "qwen2.5-coder-1.5b", 32768),
        (machine(cores=2, memory=18, disk=1.8), "qwen2.5-coder-0.5b", 32768),
        (machine(cores=1, memory=3), "qwen2.5-coder-1.5b", 32768),
        (machine(gpu(8188, True)), "qwen3.5-9b-q4", 65536),
        (machine(gpu(12288)), "qwen3.5-9b-q4", 262144),
        (machine(gpu(8151, True)), "qwen3.5-9b-q4", 65536),
        (machine(gpu(16303, True)), "gpt-oss-20b", 98304),
        (machine(gpu(16303)), "gpt-oss-20b", 131072),
        (machine(gpu(20475, True)), "qwen3.6-35b-a3b-ud-iq4", 131072),
        (machine(gpu(20475)), "qwen3.6-35b-a3b-ud-iq4", 196608),
        (machine(gpu(24564)), "qwen3.6-35b-a3b-ud-q4", 196608),
        (machine(gpu(24564, True)), "qwen3.6-35b-a3b-ud-q4", 98304),
        (machine(gpu(24564), gpu(16303, True)), "qwen3.6-35b-a3b-ud-q4", 262144),
        (machine(gpu(81920)), "qwen3.6-35b-a3b-ud-q4", 262144),
    ],
)
def test_each_size_of_machine_gets_its_profile(computer: Machine, profile: str, context: int) -> None:
    chosen = select(computer).choice
    assert (chosen.profile, chosen.context, chosen.chosen) == (profile, context, True)


GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
DECISION = (ROOT / "docs" / "decisions" / "0009-choosing-a-profile.md").read_text(encoding="utf-8")
# Label in the decision's table -> cores, AVX-512 or the like, GB/s, GB of main memory; and the profile.
PROCESSORS = {
    "2 cores, AVX-512, 24 GB": (2, True, 70, 24, "qwen2.5-coder-1.5b"),
    "4 cores, AVX2, 8 GB": (4, False, 25, 8, "qwen2.5-coder-1.5b"),
    "4 cores, AVX-512, 16 GB": (4, True, 40, 16, "qwen3.5-4b-q4"),
    "8 cores, AVX2, 16 GB": (8, False, 40, 16, "qwen3.5-4b-q4"),
    "16 cores, AVX-512, 16 GB": (16, True, 60, 16, "qwen3.5-9b-q4"),
    "8 cores, AVX2, 32 GB": (8, False, 40, 32, "qwen3.6-35b-a3b-direct"),
    "8 cores, AVX-512, 64 GB": (8, True, 65, 64, "qwen3.6-35b-a3b-direct"),
    "16 cores, AVX-512, 128 GB": (16, True, 65, 128, "qwen3-coder-next-ud-q4"),
}


@pytest.mark.parametrize("label", PROCESSORS)
def test_a_machine_without_a_gpu_gets_what_its_processor_can_run(label: str) -> None:
    cores, wide, gbs, memory, profile = PROCESSORS[label]
    # The kernel reports some 3 % less than the modules have; the container may have three quarters.
    computer = machine(cores=cores, wide=wide, gbs=gbs, memory=0)
    chosen = select(replace(computer, memory=int(memory * GIB * 0.97 * 0.75) - SPARE_MIB * MIB)).choice
    assert chosen.profile == profile and chosen.chosen
    text = next(line for line in chosen.lines() if "expected on this processor" in line)
    reads, writes, seconds = (int(number) for number in re.findall(r"(\d+)(?: and| tokens| s)", text))
    assert f"| {label} | `{profile}` | {chosen.context:,} | {reads} | {writes} | {seconds} s |" in DECISION


def test_without_a_gpu_the_cache_is_in_f16_where_that_leaves_a_context_of_use() -> None:
    name = "qwen3.6-35b-a3b-direct"
    wide, narrow = (select(machine(cores=16, memory=memory)) for memory in (23, 22))
    assert wide.profiles[name].ctx_size == 98304 and "cache-type-k" not in wide.profiles[name].options
    note = f"{name}: its KV cache is in f16 here, because a processor reads prompts faster with it"
    assert note in wide.choice.lines() and note not in narrow.choice.lines()
    # In less memory, q8_0 stays, and the estimate counts what it costs.
    assert narrow.profiles[name].options["cache-type-v"] == "q8_0"
    reads = [next(fit.speed for fit in each.choice.fits if fit.profile == name) for each in (wide, narrow)]
    assert "reads 194 " in reads[0] and "reads 142 " in reads[1]
    # A GPU reads both equally fast, and a type of your own that is as fast is yours.
    assert select(machine(gpu(24564))).profiles["qwen3.6-35b-a3b-ud-q4"].options["cache-type-k"] == "q8_0"
    own = replace(SHIPPED[name], flags={"ctk": "f32", "ctv": "f32"})
    assert choice.select(name, [], {name: own}, machine(memory=60)).profiles[name].options["cache-type-k"] == "f32"


def test_the_prompt_cache_in_memory_takes_what_the_model_leaves_and_no_more() -> None:
    computer = replace(machine(cores=16, memory=23), prompt_cache=6 * GIB)
    served = select(computer).profiles
    big = model_of(served["qwen3-coder-30b-q4"])
    left = computer.memory - big.needs(big.context).total
    assert served["qwen3-coder-30b-q4"].options["cache-ram"] == str(left // MIB) and left < 6 * GIB
    assert "cache-ram" not in served["qwen2.5-coder-1.5b"].options, "all of it is left"
    named = replace(SHIPPED["qwen3-coder-30b-q4"], flags={"cache-ram": "77"})
    assert choice.for_machine(model_of(named), computer, None).options["cache-ram"] == "77"
    on_gpus = select(replace(machine(gpu(24564), memory=3), prompt_cache=GIB)).profiles
    assert not [name for name, profile in on_gpus.items() if "cache-ram" in profile.options]


# What nvidia-smi counts on cards of so many GB.
MIB_OF = {4: 4096, 6: 6144, 8: 8151, 10: 10240, 12: 12282, 16: 16303, 20: 20475, 24: 24564, 32: 32607, 40: 40960}
MIB_OF |= {48: 49140, 64: 65536, 80: 81559}
# Label in the guide's table -> the cards of machines, in GB.
GPU_ROWS = {
    "a GPU of less than 6 GB": [(4,)],
    "6 GB": [(6,)],
    "8 to 12 GB": [(8,), (10,), (12,)],
    "16 GB": [(16,)],
    "20 GB": [(20,)],
    "24 to 48 GB": [(24,), (32,), (40,), (48,), (24, 16)],
    "56 GB and more": [(24, 32), (32, 24), (64,), (80,)],
}
# Label in the guide's table -> machines without a GPU: GB of main memory, cores, AVX-512 or the like, GB/s.
CPU_ROWS = {
    "no GPU, few cores or slow memory": [(8, 4, False, 25), (32, 2, False, 40)],
    "no GPU, 8 or 16 GB of memory, 4 cores with AVX-512 or 8 with AVX2": [
        (memory, cores, cores == 4, 40) for memory in (8, 16) for cores in (4, 8)
    ],
    "no GPU, 16 GB of memory, 8 cores with AVX2, and DDR5": [(16, 8, False, 60)],
    "no GPU, 24 GB of memory, 8 cores with AVX2": [(24, 8, False, 40)],
    "no GPU, 32 GB of memory, 6 cores with AVX2": [(32, 6, False, 40)],
    "no GPU, 64 GB of memory, 6 cores with AVX2": [(64, 6, False, 40)],
    "no GPU, 128 GB of memory, 8 cores with AVX2": [(128, 8, False, 40)],
}


def guide_row(label: str) -> tuple[str, list[str]]:
    """The profile that a class of machines gets, and the alternatives."""
    (line,) = (line for line in GUIDE.splitlines() if line.startswith(f"| {label} | "))
    _, gets, worth = line.strip("|").split("|")
    return gets.strip().strip("`"), re.findall("`(.+?)`", worth)


@pytest.mark.parametrize("label", GPU_ROWS)
@pytest.mark.parametrize("screen", [None, 0, -1])
def test_the_guides_table_is_what_the_rule_gives(label: str, screen: int | None) -> None:
    for sizes in GPU_ROWS[label]:
        cards = [gpu(MIB_OF[size]) for size in sizes]
        if screen is not None:
            cards[screen] = replace(cards[screen], display=True)
        assert select(machine(*cards)).choice.profile == guide_row(label)[0], sizes


@pytest.mark.parametrize("label", CPU_ROWS)
def test_the_guides_table_of_processors_is_what_the_rule_gives(label: str) -> None:
    for memory, cores, wide, gbs in CPU_ROWS[label]:
        limit = int(memory * GIB * 0.97 * 0.75)
        computer = replace(machine(cores=cores, wide=wide, gbs=gbs), memory=limit - SPARE_MIB * MIB)
        assert select(computer).choice.profile == guide_row(label)[0], (memory, cores)


def test_every_profile_is_for_some_machine_and_every_machine_has_two_alternatives_at_most() -> None:
    rows = [guide_row(label) for label in (*GPU_ROWS, *CPU_ROWS)]
    assert all(len(worth) <= 2 for _, worth in rows)
    assert {name for gets, worth in rows for name in (gets, *worth)} == set(SHIPPED)


def test_the_profiles_that_the_guide_recommends_fit() -> None:
    def fits(profile: str, *sizes: int, screen: bool = True) -> bool:
        computer = machine(*(gpu(MIB_OF[size], screen) for size in sizes))
        return fit.fits_wholly(model_of(SHIPPED[profile]), computer, fit.MINIMUM_CONTEXT)

    for profile in guide_row("24 to 48 GB")[1]:
        assert fits(profile, 24)
    for profile in guide_row("56 GB and more")[1]:
        assert fits(profile, 24, 32) and fits(profile, 64)
    assert "without a screen `gemma-4-26b-a4b-ud-q4`" in GUIDE
    assert fits("gemma-4-26b-a4b-ud-q4", 20, screen=False) and not fits("gemma-4-26b-a4b-ud-q4", 20)


def test_the_guides_table_of_profiles_is_models_conf() -> None:
    table = GUIDE.split("| profile | window | tools | template | tokens/s |\n", 1)[1].split("\n\n", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]
    said = {name: row[1:4] for row in rows for name in re.findall("`([^-`].*?)`", row[0])}
    assert set(said) == set(SHIPPED) - {"qwen3.6-35b-a3b-direct"}  # in the row of its file
    for name, (window, tools, template) in said.items():
        profile = SHIPPED[name]
        assert window == f"{profile.ctx_size:,}" and tools == (profile.tools or "standard"), name
        assert template == f"`{str(profile.chat_template).removesuffix('.jinja')}`", name


def test_the_guides_example_is_judged_without_its_file() -> None:
    example = GUIDE.split("```ini\n", 1)[1].split("```", 1)[0].replace("OWNER/REPO@COMMIT", "o/r@" + "0" * 40)
    known = profiles.parse(example)
    judged_fit = fit.judge(model_of(known["my-model"]), machine(gpu(32607)))
    assert judged_fit.estimate is not None and judged_fit.fits
    with pytest.raises(profiles.ProfilesError, match="40 hex digits"):
        profiles.parse(example.replace("0" * 40, "main"))


def test_without_a_gpu_the_small_profiles_are_placed_too() -> None:
    assert list(select(machine(cores=2, memory=18)).placed) == SMALL
    # Many cores and much memory: the big one comes first, and the small ones beside it.
    assert list(select(machine(cores=16, memory=23)).placed) == ["qwen3.6-35b-a3b-direct", *SMALL]
    assert list(select(machine(gpu(16303))).placed) == ["gpt-oss-20b"]
    # Room for the default but not for both.
    assert list(select(machine(cores=2, memory=18, disk=2.2)).placed) == SMALL[:1]


def test_a_file_on_the_disk_needs_no_room() -> None:
    full = machine(cores=2, memory=18, disk=1.2)
    computer = replace(full, placed={"qwen2.5-coder-1.5b-instruct-q4_k_m.gguf": 1117320768})
    assert select(full).choice.profile == "qwen2.5-coder-0.5b"
    assert select(computer).choice.profile == "qwen2.5-coder-1.5b"


def test_named_profiles_limit_the_choice_and_all_of_them_are_placed() -> None:
    computer = machine(cores=2, memory=18)
    assert list(select(computer, requested=["qwen2.5-coder-0.5b"]).placed) == ["qwen2.5-coder-0.5b"]
    both = select(computer, requested=["gpt-oss-20b", "qwen2.5-coder-0.5b"])
    assert list(both.placed) == ["qwen2.5-coder-0.5b", "gpt-oss-20b"]
    assert list(select(computer, "qwen2.5-coder-0.5b", ["gpt-oss-20b"]).placed) == ["qwen2.5-coder-0.5b", "gpt-oss-20b"]


def test_a_named_profile_is_used_and_the_run_says_what_is_missing() -> None:
    chosen = select(machine(gpu(16303)), "qwen3.6-35b-a3b-ud-q4").choice
    assert chosen.profile == "qwen3.6-35b-a3b-ud-q4" and not chosen.chosen
    assert "GiB short" in chosen.reason
    text = "\n".join(chosen.lines())
    assert "served with 65,536 tokens, the rest goes to main memory" in text and "card16303" in text
    assert "name it" not in text and "named in default_profile" not in text


def test_every_profile_gets_the_context_that_fits_unless_it_places_its_layers() -> None:
    computer, dense = machine(gpu(24564, True)), "qwen3.8-27b-ud-q4"
    assert select(computer, dense).profiles[dense].ctx_size == 131072
    assert "(its CTX_SIZE of 262,144 does not fit)" in select(computer, dense).choice.reason
    # One that was asked for besides the default, and one that does not fit at all.
    assert select(computer, requested=["gpt-oss-20b", dense]).profiles[dense].ctx_size == 131072
    assert select(machine(gpu(16303)), dense).profiles[dense].ctx_size == 65536
    for hand in ({"fit": "on"}, {"n_gpu_layers": "40"}, {"extra_args": ("--n-cpu-moe", "8")}):
        profile = replace(SHIPPED[dense], **hand)  # type: ignore[arg-type]
        selected = choice.select(dense, (), {**SHIPPED, dense: profile}, computer)
        assert selected.profiles[dense].ctx_size == 262144, hand


def test_a_profile_of_unknown_size_names_the_missing_key() -> None:
    source = replace(SHIPPED["gpt-oss-20b"].files[0], size=None)
    judged_fit = fit.judge(
        model_of(replace(SHIPPED["gpt-oss-20b"], files=(source,), minimum_vram_mib=None)), machine(gpu(24564))
    )
    assert not judged_fit.fits and "neither SIZE nor ABOUT_SIZE" in judged_fit.reason


def test_a_profile_that_does_not_fit_says_by_how_much_and_what_would() -> None:
    fits = {v.profile: v for v in select(machine(gpu(24564, True))).choice.fits}
    big, coder = fits["qwen3-coder-next-ud-q4"], fit.judge(model_of(SHIPPED["qwen3-coder-30b-q4"]), machine(gpu(20475)))
    assert not big.fits and big.missing > 20 * GIB
    assert f"{big.missing / GIB:.1f} GiB short" in big.reason
    assert coder.remedies == ("CTX_SIZE = 32768",)
    # With f16, the same coder's cache is twice as big: then a smaller cache is what helps on a 24 GB card.
    wide = replace(SHIPPED["qwen3-coder-30b-q4"], flags={})
    judgement = fit.judge(model_of(wide), machine(gpu(23000)))
    assert not judgement.fits and any("cache-type-k = q8_0" in remedy for remedy in judgement.remedies)


@pytest.mark.parametrize(
    ("computer", "profile", "would_fit"),
    [
        (
            machine(gpu(20475)), "qwen3-coder-30b-q4",
            ["CTX_SIZE = 32768", "default_profile = qwen3.6-35b-a3b-ud-iq4"],
        ),
        # Where no context and no cache is small enough, how much memory it wants.
        (
            machine(gpu(16303)), "qwen3-coder-next-ud-q4",
            ["a GPU with 48.6 GiB or more", "default_profile = gpt-oss-20b"],
        ),
        (
            machine(cores=2, memory=4), "qwen3-coder-next-ud-q4",
            ["a GPU with 48.6 GiB or more", "default_profile = qwen2.5-coder-1.5b"],
        ),
        (machine(memory=1), "qwen2.5-coder-1.5b", ["server_memory_mib = 2574", "default_profile = qwen2.5-coder-0.5b"]),
        (machine(gpu(24564)), "gemma-4-26b-a4b-ud-q4", []),
    ],
)  # fmt: skip
def test_the_run_prints_what_would_fit_in_the_place_of_a_named_profile(
    computer: Machine, profile: str, would_fit: list[str]
) -> None:
    lines = [line for line in select(computer, profile).choice.lines() if "would fit" in line]
    assert len(lines) == len(would_fit)
    for line, remedy in zip(lines, would_fit, strict=True):
        assert line.startswith(f"  would fit: {remedy}")


def test_a_gpu_of_the_size_that_is_named_is_big_enough() -> None:
    for name, profile in SHIPPED.items():
        judged_fit = fit.judge(model_of(profile), machine(gpu(2048)))
        (remedy,) = judged_fit.remedies or ("a GPU with 0 GiB",)
        mib = math.ceil((float(remedy.split()[3]) + 0.05) * 1024)
        assert judged_fit.fits or not fit.judge(model_of(profile), machine(gpu(mib))).missing, (name, remedy)


def test_when_nothing_fits_the_run_says_how_much_would() -> None:
    assert select(machine(gpu(1000))).choice.lines()[-1].startswith("  would fit: a GPU with 1.7 GiB or more")
    own = profiles.parse("[own]\nMODEL = a.gguf\nMIN_VRAM = 20 GiB\n")
    (line,) = choice.select("own", [], own, machine(gpu(16303))).choice.lines()[1:]
    assert line.startswith("  would fit: a GPU with 20.0 GiB or more")


def test_a_dense_model_that_fits_must_be_named() -> None:
    fits = {v.profile: v for v in select(machine(gpu(24564))).choice.fits}
    assert not fits["qwen3.8-27b-ud-q4"].fits
    assert "for each token" in fits["qwen3.8-27b-ud-q4"].reason


def test_without_a_gpu_a_model_that_reads_the_prompt_too_slowly_is_passed_over() -> None:
    big = replace(SHIPPED["gpt-oss-20b"], minimum_vram_mib=None)
    few, many = (fit.judge(model_of(big), machine(cores=cores)) for cores in (2, 16))
    assert not few.fits and "too slow without a GPU: about 172 s" in few.reason
    assert many.fits
    slow_memory = fit.judge(model_of(big), machine(cores=16, gbs=8))
    assert not slow_memory.fits and "tokens a second (at least 8)" in slow_memory.reason
    # A smaller tool set, a shorter prompt. It must be the profile's.
    assert fit.judge(model_of(replace(big, tools="none")), machine(cores=2)).fits


def test_the_reason_names_the_profiles_that_were_preferred() -> None:
    assert "preferred" not in select(machine(cores=2, memory=18)).choice.reason
    assert "preferred, but not for this machine: qwen3.6-35b-a3b-ud-q4" in select(machine(gpu(16303))).choice.reason


def test_margins_follow_the_screens() -> None:
    cards = [gpu(1, False), gpu(1, True), gpu(1, None)]
    assert fit_target(cards, wholly=True) == "128,192,192"
    # What --fit fills up beside a screen leaves the desktop llama-server's own margin.
    assert fit_target(cards, wholly=False) == "128,1024,1024"
    assert fit_target([], wholly=True) is None
    computer = machine(gpu(24564), gpu(16303, True))
    mine = select(computer).profiles["gpt-oss-20b"]
    assert (mine.n_gpu_layers, mine.fit, mine.fit_target) == ("auto", "on", "128,192")
    assert select(computer).profiles["qwen3-coder-next-ud-q4"].fit_target == "128,1024"
    by_hand = replace(SHIPPED["gpt-oss-20b"], fit="off", n_gpu_layers="99")
    assert for_gpus(by_hand, computer.gpus, wholly=True) == by_hand
    assert for_gpus(by_hand, (), wholly=False) == by_hand


@pytest.mark.parametrize(
    ("nominal", "free", "profile"),
    [
        # What nvidia-smi counts, and what llama.cpp found free without a desktop (decision 0009 names the logs).
        (24576, 23860, "qwen3.6-35b-a3b-ud-q4"),
        (8188, 7546, "qwen3.5-9b-q4"),
        (8188, 7627, "qwen3.5-9b-q4"),
    ],
)
@pytest.mark.parametrize("desktop", [0, 400, 900])
def test_what_fits_wholly_passes_llama_servers_own_check_beside_a_desktop(
    nominal: int, free: int, profile: str, desktop: int
) -> None:
    selected = select(machine(gpu(nominal, True)))
    assert selected.choice.profile == profile
    mine = selected.profiles[profile]
    needed = model_of(SHIPPED[profile]).needs(mine.ctx_size or 0)
    assert needed is not None and mine.fit_target is not None
    # common/fit.cpp: free less what the model uses must be the target or more, else experts or layers move away.
    assert free - desktop - (needed.on_gpu + needed.compute) / MIB >= int(mine.fit_target)


def test_a_margin_of_the_profiles_own_is_what_the_rule_keeps_free() -> None:
    computer, wide = machine(gpu(24564)), replace(SHIPPED["qwen3.6-35b-a3b-ud-q4"], fit_target="1024")
    selected = choice.select("auto", [], {wide.id: wide}, computer)
    assert (selected.choice.context, selected.profiles[wide.id].fit_target) == (131072, "1024")
    narrow = replace(wide, fit_target="128,1024")  # one for each GPU: the second is for one that is not there
    assert choice.select("auto", [], {wide.id: narrow}, computer).choice.context == 196608


HAND = """[hand]
MODEL = GLM-4.7-Flash-Q8_0.gguf
ABOUT_SIZE = 31.84 GB
ARCHITECTURE = GLM-4.7-Flash
CTX_SIZE = 131072
cache-type-k = q8_0
cache-type-v = q8_0
"""
TWO = machine(gpu(24564), gpu(16303, True))


def judged(lines: str, computer: Machine = TWO) -> fit.Fit:
    return fit.judge(model_of(profiles.parse(HAND + lines)["hand"]), computer)


@pytest.mark.parametrize(
    ("lines", "on"),
    [
        ("", ["card24564", "card16303"]),
        ("N_GPU_LAYERS = 99\nFIT = off\n", ["card24564", "card16303"]),
        ("EXTRA_ARGS = --device CUDA1,CUDA0\n", ["card16303", "card24564"]),
        ("EXTRA_ARGS = --split-mode none --main-gpu 1\nN_GPU_LAYERS = 99\nFIT = off\n", ["card16303"]),
        ("split-mode = none\n", ["card24564"]),
        ("device = CUDA1\n", ["card16303"]),
        ("device = CUDA1,CUDA0\nsplit-mode = none\nmain-gpu = 1\n", ["card24564"]),
    ],
)
def test_the_rule_counts_only_the_gpus_that_a_profiles_flags_leave_it(lines: str, on: list[str]) -> None:
    judged_fit = judged(lines)
    assert [share.name for share in judged_fit.shares] == on
    assert judged_fit.fits == (len(on) == 2)
    if judged_fit.fits:
        assert f"wholly on {' + '.join(on)} with" in judged_fit.reason
    else:
        assert "does not fit on the GPU: " in judged_fit.reason


@pytest.mark.parametrize(
    ("lines", "flag"),
    [
        ("N_GPU_LAYERS = 10\n", "N_GPU_LAYERS"),
        ("N_GPU_LAYERS = 47\n", "N_GPU_LAYERS"),  # the layers, but not the output
        ("EXTRA_ARGS = -ot exps=CPU\n", "--override-tensor"),
        ("cpu-moe = on\n", "--cpu-moe"),
        ("EXTRA_ARGS = --n-cpu-moe 8\n", "--n-cpu-moe"),
        ("n-cpu-ffn = 8\n", "--n-cpu-ffn"),
        ("EXTRA_ARGS = --no-kv-offload\n", "--no-kv-offload"),
        ("tensor-split = 3,1\n", "--tensor-split"),
        ("split-mode = row\n", "--split-mode"),
        ("device = none\n", "--device"),
        ("split-mode = none\nmain-gpu = -1\n", "--main-gpu"),
    ],
)
def test_a_profile_that_places_its_layers_must_be_named(lines: str, flag: str) -> None:
    judged_fit = judged(lines)
    assert not judged_fit.fits
    assert judged_fit.lines()[0].endswith(f": not judged: it places its layers by hand ({flag}); name it to use it")
    known = profiles.parse(HAND + lines)
    named = choice.select("hand", [], known, TWO)
    assert named.choice.reason == f"hand: named; not judged: it places its layers by hand ({flag})"
    assert named.profiles["hand"].ctx_size == 131072


def test_flags_that_place_nothing_change_no_judgement() -> None:
    for lines in (
        "N_GPU_LAYERS = 48\n",
        "N_GPU_LAYERS = all\n",
        "cpu-moe = off\n",
        "kv-offload = on\n",
        "n-cpu-moe = 0\n",
    ):
        assert judged(lines).fits, lines
    # One GPU has nothing to split, and without any the flags are left out.
    assert judged("tensor-split = 3,1\nsplit-mode = row\n", machine(gpu(49140))).fits
    assert "not judged" not in judged("EXTRA_ARGS = -ot exps=CPU\n", machine()).reason


def test_margins_are_those_of_the_gpus_that_a_profile_uses() -> None:
    def margin(lines: str) -> str | None:
        known = profiles.parse(HAND + "MIN_VRAM = 1 GiB\n" + lines)
        return choice.select("hand", [], known, TWO).profiles["hand"].fit_target

    # llama-server takes them by position among the devices that it was given.
    assert margin("device = CUDA1,CUDA0\n") == "192,128"
    assert margin("split-mode = none\nmain-gpu = 1\n") == "1024"


def test_a_chosen_context_below_the_profiles_own_is_what_is_served() -> None:
    selected = select(machine(gpu(24564, True)))
    assert selected.profiles[selected.choice.profile].ctx_size == 98304
    assert "CTX_SIZE of 262,144 does not fit" in selected.choice.reason


def test_a_profile_of_which_nothing_is_known_goes_by_its_minimum() -> None:
    own = profiles.parse("[own]\nMODEL = a.gguf\nMIN_VRAM = 20 GiB\n[dark]\nMODEL = b.gguf\n")
    assert choice.select("auto", ["own"], own, machine(gpu(24564))).choice.chosen
    # A screen's share is no part of it.
    assert choice.select("auto", ["own"], own, machine(gpu(21000))).choice.chosen
    assert not choice.select("auto", ["own"], own, machine(gpu(21000, True))).choice.chosen
    small = choice.select("auto", [], own, machine(gpu(16303))).choice
    assert not small.chosen and {v.fits for v in small.fits} == {False}
    assert "MIN_VRAM: 4.1 GiB short" in small.fits[0].reason
    assert "neither ARCHITECTURE nor MIN_VRAM" in small.fits[1].reason


def test_a_header_on_the_machine_wins_over_no_record() -> None:
    own = profiles.parse("[own]\nMODEL = a.gguf\nCTX_SIZE = 8192\n")
    record = {
        "architecture": "qwen2",
        "vocabulary": 151936,
        "keys": dict(shipped()["Qwen2.5-Coder-1.5B"].keys),
        "tied": False,
        "embedding": 131272704,
    }
    shape = choice.shape_from(own["own"], {"a.gguf": record}, {"a.gguf": 1117320768})
    assert shape is not None and shape.weights == 1117320768
    chosen = choice.select("auto", [], own, machine(gpu(8188)), {"own": shape}).choice
    assert chosen.chosen and chosen.fits[0].estimate is not None
    assert choice.shape_from(own["own"], {}, {}) is None


@settings(deadline=None)
@given(st.lists(st.integers(0, 200_000), max_size=3), st.integers(1, 64), st.integers(1, 512), st.floats(0, 500))
def test_every_machine_gets_a_profile_and_none_that_does_not_fit(
    sizes: list[int], cores: int, memory: int, disk: float
) -> None:
    computer = machine(*(gpu(size) for size in sizes if size), cores=cores, memory=memory, disk=disk)
    selected = select(computer)
    chosen = next(v for v in selected.choice.fits if v.profile == selected.choice.profile)
    assert selected.choice.chosen == chosen.fits
    if chosen.fits:
        assert all(share.needed <= share.memory for share in chosen.shares)
    assert selected.choice.lines()


@pytest.mark.parametrize("profile", [p for p in SHIPPED.values() if p.minimum_vram_mib], ids=lambda p: str(p.id))
def test_min_vram_is_what_the_estimate_says_for_65536_tokens(profile: profiles.Profile) -> None:
    requested = model_of(profile).needs(fit.MINIMUM_CONTEXT)
    assert requested is not None and profile.minimum_vram_mib is not None
    needed = (requested.on_gpu + requested.compute) / MIB + GPU_CONTEXT_MIB + HEADLESS_MARGIN_MIB
    assert needed <= profile.minimum_vram_mib <= needed + 1024


def test_the_disk_of_a_path_is_the_nearest_mount() -> None:
    mounts = {"/": 1, "/home": 2, "/home/big": 3}
    assert disk_free("/home/big/models", mounts) == 3
    assert disk_free("/homestead", mounts) == 1
    assert disk_free("/home", {}) is None


def test_an_nvidia_gpu_without_memory_shares_the_machines() -> None:
    spark = Gpu("nvidia", "GB10", driver="580.1")
    assert with_memory([spark], 96 * GIB) == (replace(spark, memory_mib=96 * 1024),)
    assert select(machine(*with_memory([spark], 90 * GIB))).choice.profile == "qwen3.6-35b-a3b-ud-q4"


ARC = Gpu("intel", "Intel Arc A770", driver="xe", display=True, pci="0000:03:00.0")
NAVI = Gpu("amd", "Radeon RX 7900 XTX", 24560, driver="amdgpu", display=False)


def test_a_gpu_of_unknown_memory_keeps_its_place_and_its_margin() -> None:
    # llama-server counts every device: the third margin must be the third card's.
    computer = machine(*with_memory([NAVI, ARC, replace(NAVI, display=True)], 48 * GIB))
    assert [gpu.vendor for gpu in computer.gpus] == ["amd", "intel", "amd"]
    mine = select(computer).profiles["gpt-oss-20b"]
    assert mine.fit_target == "128,192,192"
    chosen = select(computer).choice
    assert "the memory of Intel Arc A770 is not known, so the rule does not count on it" in chosen.reason
    assert [share.name for share in chosen.fits[2].shares] == ["Radeon RX 7900 XTX"] * 2


def test_with_only_unmeasured_gpus_the_run_asks_for_a_named_profile() -> None:
    computer = machine(*with_memory([ARC], 48 * GIB))
    selected = select(computer)
    assert selected.choice.profile == "qwen2.5-coder-1.5b"
    assert "the memory of Intel Arc A770 is not known" in selected.choice.reason
    assert "name a profile in default_profile" in selected.choice.reason
    # It serves from the card all the same.
    assert selected.profiles["qwen2.5-coder-1.5b"].n_gpu_layers == "auto"
    named = select(computer, "gpt-oss-20b")
    assert "the memory of Intel Arc A770 is not known, so what fits cannot be computed" in named.choice.reason
    assert "served with 65,536 tokens" in named.choice.reason and "without a GPU" not in named.choice.reason
    assert named.profiles["gpt-oss-20b"].ctx_size == 65536
