"""What the dashboard makes of numbers: speeds, seconds left, memory, states. No terminal."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from claude_local.dashboard import panels
from claude_local.dashboard.files import Files
from claude_local.dashboard.machine import MIB, Gpu, gpu_parts, host_parts, look, parse_gpu
from claude_local.dashboard.picture import Picture
from claude_local.dashboard.signs import bar, locale_is_ascii, to_ascii
from claude_local.dashboard.slots import SlotWatch
from claude_local.models.memory import Estimate
from claude_local.paths import Paths
from tests.dashboard.scenes import GPUS, HOST, LOG, slot

GIB = 1 << 30
NEEDS = Estimate(8 * GIB, 0, 2 * GIB, GIB)


def test_seconds_left_come_from_the_speed_of_the_batches_so_far() -> None:
    watch = SlotWatch()
    (first,) = watch.look([slot(prompt=12900, cached=4100)], 10)
    assert (first.read, first.cached, first.seconds_left) == (4100, 4100, None)
    watch.look([slot(prompt=12900, cached=4100, processed=2000)], 12)
    (later,) = watch.look([slot(prompt=12900, cached=4100, processed=2000)], 13)
    assert later.read == 6100 and later.seconds_left == pytest.approx((12900 - 6100) / 1000 - 1)
    (late,) = watch.look([slot(prompt=12900, cached=4100, processed=2000)], 99)
    assert late.seconds_left is None


def test_a_new_prompt_is_timed_from_its_own_start_at_the_speed_of_the_last_one() -> None:
    watch = SlotWatch()
    watch.look([slot(prompt=1000)], 0)
    watch.look([slot(prompt=1000, processed=1000)], 2)
    (new,) = watch.look([slot(prompt=5000)], 50)
    assert new.seconds_left == 10


def test_each_model_has_a_speed_of_its_own() -> None:
    watch = SlotWatch()
    for model, seconds in (("a", 1), ("b", 10)):
        watch.look([slot(prompt=1000, model=model)], 0)
        watch.look([slot(prompt=1000, processed=1000, model=model)], seconds)
    both = watch.look([slot(prompt=5000, model="a"), slot(prompt=5000, model="b")], 50)
    assert [each.seconds_left for each in both] == [5, 50]


def test_the_slots_of_two_models_are_told_apart() -> None:
    picture = Picture(Files(Paths(home="/h", model_dir="/m", bin_dir="/b")))
    picture.status = {"state": "ready", "model": "a", "model_name": "A", "ctx_size": 1000}
    reads = slot(prompt=900, processed=40, model="b")
    picture.take("metrics", {"slots": [slot(False, prompt=100, model="a"), reads]}, 0)
    text = panels.sessions(picture, 60).plain
    assert text.startswith("a\nthe slot is idle\nb\nreads") and "40 / 900" in text
    assert "100 used (10%)" in panels.model(picture, 60).plain
    picture.take("metrics", {"slots": [reads]}, 0)
    assert panels.sessions(picture, 60).plain.startswith("reads")


def test_the_speed_of_an_answer_is_that_of_its_tokens() -> None:
    watch = SlotWatch()
    watch.look([slot(prompt=10, processed=10, decoded=5)], 1)
    assert watch.look([slot(prompt=10, processed=10, decoded=85)], 3)[0].decode == 40
    assert watch.look([slot(False)], 4)[0].decode is None


def test_nvidia_smis_lines_are_gpus_and_nothing_else_is() -> None:
    assert parse_gpu(GPUS[0]) == Gpu(0, "RTX 4090", 19482 * MIB, 24564 * MIB, 87, 64, 318.42, 450)
    laptop = parse_gpu("1, NVIDIA RTX, 10, 20, [N/A], 50, [N/A], [Not Supported]")
    assert laptop and (laptop.load, laptop.power, laptop.limit) == (None, None, None)
    assert parse_gpu("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.") is None


def test_a_models_memory_is_divided_over_the_gpus_and_the_rest_is_others() -> None:
    gpus = [Gpu(number, "", 10 * GIB, total * GIB, None, None, None, None) for number, total in enumerate((24, 8))]
    large, small = (gpu_parts(gpu, gpus, NEEDS) for gpu in gpus)
    assert (large.weights, large.cache, large.compute) == (6 * GIB, 3 * GIB // 2, GIB)
    assert large.others == 10 * GIB - 17 * GIB // 2 and large.free == 14 * GIB
    assert (small.weights, small.others) == (2 * GIB, 10 * GIB - 7 * GIB // 2)
    unloaded = gpu_parts(gpus[0], gpus, None)
    assert (unloaded.weights, unloaded.others) == (0, 10 * GIB)


def test_every_model_in_memory_is_counted_and_named() -> None:
    picture = Picture(Files(Paths(home="/h", model_dir="/m", bin_dir="/b")))
    picture.status = {"state": "ready", "model": "a", "model_name": "A", "ctx_size": None}
    states = {"a": "loaded", "b": "loaded", "c": "sleeping", "d": "unloaded"}
    picture.models = [
        {"id": name, "active": name == "a", "state": state, "fit": {"parts": asdict(NEEDS)}}
        for name, state in states.items()
    ]
    assert picture.loaded == Estimate(16 * GIB, 0, 4 * GIB, 2 * GIB)
    assert "also in memory: b\n" in panels.model(picture, 60).plain + "\n"
    picture.lost("it is gone")
    assert picture.loaded is None and "in memory" not in panels.model(picture, 60).plain


def test_no_more_is_shown_than_is_in_use() -> None:
    gpu = Gpu(0, "", 5 * GIB, 24 * GIB, None, None, None, None)
    parts = gpu_parts(gpu, [gpu], NEEDS)
    assert (
        parts.weights + parts.cache + parts.compute + parts.others == 5 * GIB
        and parts.others < 8
        and parts.free == 19 * GIB
    )
    assert host_parts(HOST, NEEDS).others == HOST.used - NEEDS.total


def proc(folder: Path, busy: int, idle: int, processes: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 1\n")
    (folder / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 600 kB\n")
    for number, (name, status) in enumerate(processes.items(), 1):
        (folder / str(number)).mkdir(exist_ok=True)
        (folder / str(number) / "comm").write_text(f"{name}\n")
        (folder / str(number) / "status").write_text(status)
    return folder


def test_the_machine_is_read_from_proc(tmp_path: Path) -> None:
    before = look(None, proc(tmp_path / "a", 100, 100, {"sh": ""}))
    assert not before.docker and before.used == 400 * 1024
    processes = {"dockerd": "", "llama-server": "VmRSS: 9 kB\nRssFile:\t     50 kB\n"}
    after = look(before, proc(tmp_path / "a", 130, 110, processes))
    assert after.docker and after.cpu == 0.75
    assert (after.mapped, after.used) == (50 * 1024, 450 * 1024)


def test_files_that_change_are_read_anew_and_damaged_ones_show_nothing(tmp_path: Path) -> None:
    files = Files(Paths(home=str(tmp_path), model_dir=str(tmp_path), bin_dir=str(tmp_path)))
    files.read()
    assert (files.fence, files.verify, files.refusals) == (None, {}, [])
    report = Path(files.paths.verify_report)
    report.parent.mkdir(parents=True)
    Path(files.paths.fence_config).write_text('{"layers": ["outer"]}')
    transcript = tmp_path / ".claude-local/projects/x/a.jsonl"
    transcript.parent.mkdir(parents=True)
    said = {"type": "tool_result", "content": "deny network-outbound pypi.org:443 (host is not on the allow list)"}
    record = {"timestamp": "2026-11-29T20:00:00Z", "cwd": "/w", "message": {"content": [said]}}
    transcript.write_text(json.dumps(record) + "\n")
    report.write_text('{"ok": true, "rows": [1]}')
    files.read()
    assert files.fence and files.fence.layers == ("outer",) and files.verify["ok"]
    assert [each.what for each in files.refusals] == ["pypi.org:443 (setting fence_domains)"]
    report.write_text("{")
    os.utime(report, (1, 1))
    files.read()
    assert files.verify["ok"]


def test_turns_of_the_log_are_shown_with_cached_computed_and_the_cause_of_a_miss(tmp_path: Path) -> None:
    picture = Picture(Files(Paths(str(tmp_path), str(tmp_path), str(tmp_path))))
    for line in LOG:
        picture.take("log", {"line": line}, 0)
    text = panels.sessions(picture, 60).plain
    assert "✓   12,510       212   1,204" in text and "▲        0    11,620     312" in text
    assert text.count("↳") == 2 and "after a load" in text and "new conversation" in text


def test_bars_are_as_wide_as_asked_and_differ_without_colour() -> None:
    text = bar(20, (0.5, "█", "red"), (0.25, "▓", "blue")).plain
    assert text == "██████████▓▓▓▓▓·····"
    assert bar(7, (2.0, "█", "")).plain == "█" * 7


def test_ascii_keeps_the_width_and_the_parts_of_a_bar_apart() -> None:
    assert len(set(to_ascii("█▓▒░·"))) == 5 and to_ascii("● 模型 é") == "* ???? ?"
    assert to_ascii("╭─ log ─╮").isascii()


@pytest.mark.parametrize(
    ("variables", "ascii_only"),
    [
        (["LANG=de_DE.UTF-8"], False),
        (["LANG=en_US.utf8", "LC_ALL=C"], True),
        (["LANG=C", "LC_CTYPE=C.UTF-8"], False),
        (["LANG=POSIX"], True),
        ([], True),
    ],
)
def test_the_locale_says_whether_the_terminal_shows_unicode(
    tmp_path: Path, variables: list[str], ascii_only: bool
) -> None:
    environment = tmp_path / "environ"
    environment.write_text("\0".join([*variables, "X=1", ""]))
    assert locale_is_ascii(environment) == ascii_only
