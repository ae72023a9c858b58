"""How many models the server keeps in memory: as many as fit together, and one where that is not certain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from claude_local.deploy.workstation import _select
from claude_local.hardware.machine import Gpu, Hardware
from claude_local.hardware.variant import ImageVariant
from claude_local.models import profiles
from claude_local.models.capacity import HEADLESS_MARGIN_MIB, Machine
from claude_local.models.choice import model_of, select
from claude_local.models.fit import GIB
from claude_local.models.memory import GPU_CONTEXT_MIB, MIB, Estimate
from claude_local.models.profile import Profile
from claude_local.paths import Paths
from claude_local.settings import Settings

CONF = (Path(__file__).resolve().parents[2] / "models.conf").read_text(encoding="utf-8")
SMALL, SMALLER, LARGE = "qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", "qwen3-coder-30b-q4"
NINE, FOUR = "qwen3.5-9b-q4", "qwen3.5-4b-q4"
# Bytes of main memory for each model's prompts.
PROMPTS = GIB


def conf(name: str = "", line: str = "") -> dict[str, Profile]:
    """The shipped profiles, with one more line for the profile ``name``."""
    return profiles.parse(CONF.replace(f"[{name}]\n", f"[{name}]\n{line}\n"))


SHIPPED = conf()


def at_once(computer: Machine, *names: str, known: Mapping[str, Profile] = SHIPPED) -> int:
    return select(names[0], names[1:], known, computer).at_once


def without_gpu(memory: int) -> Machine:
    return Machine(memory=memory, prompt_cache=PROMPTS)


def with_gpus(*gpus: Gpu, memory: int = 48 * GIB) -> Machine:
    return Machine(gpus, memory, prompt_cache=PROMPTS)


def card(memory: int) -> Gpu:
    """A GPU without a screen with so many bytes for models."""
    return Gpu("nvidia", "card", -(-memory // MIB) + HEADLESS_MARGIN_MIB, driver="580.1", display=False)


def needs(name: str, computer: Machine) -> Estimate:
    """What a profile takes on a machine, with the context that it gets there."""
    profile = select(name, [], SHIPPED, computer).profiles[name]
    estimate = model_of(profile).needs(profile.ctx_size or 0)
    assert estimate is not None
    return estimate


def test_in_main_memory_both_fit_with_their_contexts_and_prompts() -> None:
    roomy = without_gpu(12 * GIB)
    both = sum(needs(name, roomy).total + PROMPTS for name in (SMALL, SMALLER))
    assert at_once(without_gpu(both), SMALL, SMALLER) == 2
    assert at_once(without_gpu(both - 1), SMALL, SMALLER) == 1
    assert at_once(roomy, SMALL) == 1, "there is one"


def test_any_two_of_the_placed_models_may_meet() -> None:
    assert at_once(without_gpu(23 * GIB), SMALL, SMALLER) == 2
    assert at_once(without_gpu(23 * GIB), SMALL, SMALLER, LARGE) == 1
    assert at_once(without_gpu(64 * GIB), SMALL, SMALLER, LARGE) == 3


def test_a_profile_with_other_caches_or_a_draft_model_counts_as_it_is() -> None:
    both = sum(needs(name, without_gpu(12 * GIB)).total + PROMPTS for name in (SMALL, SMALLER))
    known = {
        line: at_once(without_gpu(both), SMALL, SMALLER, known=conf(SMALL, line))
        for line in ("cache-ram = 1024", "cache-ram = 2048", "cache-ram = -1", "model-draft = /models/d.gguf")
    }
    assert list(known.values()) == [2, 1, 1, 1], known


def test_on_a_gpu_both_fit_with_their_contexts_buffers_and_the_drivers_part() -> None:
    roomy = with_gpus(card(80 * GIB))
    taken = [needs(name, roomy) for name in (NINE, FOUR)]
    device = sum(each.on_gpu + each.compute + GPU_CONTEXT_MIB * MIB for each in taken)
    main = sum(each.embedding + PROMPTS for each in taken)
    fitting = card(device)
    assert at_once(with_gpus(fitting), NINE, FOUR) == 2
    assert at_once(with_gpus(replace(fitting, memory_mib=(fitting.memory_mib or 0) - 1)), NINE, FOUR) == 1
    assert at_once(with_gpus(replace(fitting, display=True)), NINE, FOUR) == 1, "the desktop's part"
    assert at_once(with_gpus(fitting, memory=main), NINE, FOUR) == 2
    assert at_once(with_gpus(fitting, memory=main - 1), NINE, FOUR) == 1, "prompts lie in main memory"
    shared = (fitting.memory_mib or 0) * MIB
    assert at_once(with_gpus(fitting, memory=shared), NINE, FOUR) == 1, "it is the GPU's memory, too"


def test_a_gpu_without_memory_of_its_own_counts_the_machines_once() -> None:
    def on_a_gb10(limit_mib: int) -> int:
        settings = Settings(server_memory_mib=limit_mib, default_profile=NINE, model_profiles=[FOUR])
        chosen = ImageVariant("cuda", "a GPU", (Gpu("nvidia", "GB10", driver="580.1"),))
        paths, files = Paths(home="/home/a", model_dir="/models", bin_dir=""), {"sizes": {}, "shapes": {}}
        return _select(settings, conf(), paths, Hardware(), chosen, files, None).at_once

    assert (on_a_gb10(26_000), on_a_gb10(58_000)) == (1, 2)


def test_where_the_sum_is_not_certain_there_is_one() -> None:
    large = card(80 * GIB)
    assert at_once(with_gpus(large), NINE, FOUR) == 2
    assert at_once(with_gpus(large, large), NINE, FOUR) == 1
    assert at_once(with_gpus(replace(large, vendor="intel", memory_mib=None)), NINE, FOUR) == 1
    by_hand = conf(NINE, "n-cpu-moe = 2")
    assert at_once(with_gpus(large), NINE, FOUR, known=by_hand) == 1
