"""What counts as slower than the last time, and where runs are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_local.bench.history import last, losses, save


def run(**changes: Any) -> dict[str, Any]:
    return {
        "when": "2026-11-29T10:00:00+00:00", "profile": "small", "build": "b1", "load_seconds": 3.0,
        "first_answer": {"tokens": 3324, "cold_seconds": 40.0, "warm_seconds": 2.0, "warm_cached": 3196},
        "speeds": [{"tokens": 512, "prefill": 100.0, "decode": 20.0}], **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("now", "lost"),
    [
        (run(), []),
        (run(speeds=[{"tokens": 512, "prefill": 91.0, "decode": 18.1}]), []),
        (run(speeds=[{"tokens": 512, "prefill": 89.0, "decode": 20.0}]), ["prefill at 512"]),
        (run(speeds=[{"tokens": 512, "prefill": 120.0, "decode": 17.0}]), ["decode at 512"]),
        (run(speeds=[{"tokens": 4096, "prefill": 10.0, "decode": 1.0}]), []),
        (run(load_seconds=3.5), []),
        (run(load_seconds=3.6), ["the load"]),
        (run(first_answer={"tokens": 3324, "cold_seconds": 41.0, "warm_seconds": 40.0}), ["a warm first answer"]),
        (run(first_answer={"tokens": 5047, "cold_seconds": 80.0, "warm_seconds": 40.0}), []),
        (run(first_answer=None), []),
    ],
)
def test_more_than_ten_percent_is_a_loss(now: dict[str, Any], lost: list[str]) -> None:
    found = losses(run(), now)
    assert len(found) == len(lost) and all(line.startswith(what) for line, what in zip(found, lost, strict=True))


def test_a_run_is_kept_for_each_profile_and_build(tmp_path: Path) -> None:
    assert last(tmp_path / "none", "small") is None
    save(tmp_path, run())
    save(tmp_path, run(when="2026-11-30T10:00:00+00:00", build="b2"))
    save(tmp_path, run(when="2026-12-01T10:00:00+00:00", profile="large/../x"))
    newest = last(tmp_path, "small")
    assert newest is not None and newest["build"] == "b2", "an update of llama.cpp is compared with what was before"
    save(tmp_path, run(when="2026-12-02T10:00:00+00:00", load_seconds=9.0))
    again = last(tmp_path, "small")
    assert again is not None and again["load_seconds"] == 9.0
    assert len(list(tmp_path.iterdir())) == 3
    (tmp_path / "small--b9.json").write_text("{damaged")
    assert last(tmp_path, "small") == again
