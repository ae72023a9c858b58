"""The estimate of a processor's speed against what was measured (docs/performance.md, "Processors")."""

from __future__ import annotations

import pytest

from claude_local.models.architecture import shipped
from claude_local.models.memory import Serving
from claude_local.models.speed import Processor, Speed, expected

F16, Q8 = Serving(32768), Serving(32768, key_type="q8_0", value_type="q8_0")


def speed(shape: str, gb: float, cores: int, prompt: int, serving: Serving = F16) -> Speed:
    processor = Processor(cores, wide=True, bandwidth=38e9 if cores == 1 else 77e9)
    return expected(shipped()[shape], int(gb * 1e9), processor, serving, prompt)


@pytest.mark.parametrize(
    ("shape", "gb", "cores", "prompt", "reads"),
    [
        ("Qwen3-Coder-30B-A3B", 18.6, 1, 1024, 21.8),
        ("Qwen3-Coder-30B-A3B", 18.6, 2, 2048, 32),
        ("Qwen3.6-35B-A3B", 21.1, 1, 1024, 15.8),
        ("Qwen3.6-35B-A3B", 21.1, 1, 4000, 13.2),
        ("gpt-oss-20b", 12.0, 1, 1024, 13.9),
        ("Qwen3.5-9B", 5.3, 1, 1024, 14.8),
        ("Qwen3.5-4B", 2.4, 1, 1024, 26.2),
        ("Qwen2.5-Coder-1.5B", 1.1, 1, 1024, 82.2),
        ("Qwen2.5-Coder-1.5B", 1.1, 2, 4874, 113),
    ],
)
def test_a_prompt_is_read_within_30_percent_of_the_estimate(
    shape: str, gb: float, cores: int, prompt: int, reads: float
) -> None:
    assert speed(shape, gb, cores, prompt).prefill == pytest.approx(reads, rel=0.3)


@pytest.mark.parametrize(("shape", "ratio"), [("Qwen2.5-Coder-1.5B", 26.4 / 46.6), ("Qwen3-Coder-30B-A3B", 6.6 / 12.2)])
def test_a_cache_in_q8_0_is_read_as_much_slower_as_was_measured(shape: str, ratio: float) -> None:
    slow, fast = (speed(shape, 10, 1, 2048, serving) for serving in (Q8, F16))
    assert slow.prefill / fast.prefill == pytest.approx(ratio, rel=0.3) and slow.decode < fast.decode
    assert not Serving(1, key_type="q8_0").tiled and not Serving(1, key_type="bf16", value_type="bf16").tiled


@pytest.mark.parametrize(
    ("shape", "gb", "prompt", "reads"),
    [
        ("Qwen2.5-Coder-1.5B", 1.117, 512, 51.9),
        ("Qwen2.5-Coder-1.5B", 1.117, 4096, 31.1),
        ("Qwen2.5-Coder-0.5B", 0.491, 512, 114.3),
        ("Qwen2.5-Coder-0.5B", 0.491, 4096, 72.3),
        ("Qwen2.5-Coder-0.5B", 0.491, 7168, 53.2),
    ],
)
def test_on_a_busy_machine_all_lengths_lose_the_same_share(shape: str, gb: float, prompt: int, reads: float) -> None:
    assert reads / speed(shape, gb, 1, prompt).prefill == pytest.approx(0.63, rel=0.1)


def test_a_longer_prompt_costs_more_for_each_token_unless_the_window_slides() -> None:
    def slower(shape: str) -> float:
        return speed(shape, 10, 2, 16384).prefill / speed(shape, 10, 2, 512).prefill

    assert slower("Qwen2.5-Coder-1.5B") < 0.5 < slower("gpt-oss-20b")
    assert shipped()["gpt-oss-20b"].attention(16384) < 0.51 * 16384 * shipped()["gpt-oss-20b"].attention(1)
    assert shipped()["GLM-4.7-Flash"].attention(1) > 0
