"""What ./provision runs again: the quick rows, and those about what has changed since they passed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_local.verify import __main__ as program
from claude_local.verify import passed
from claude_local.verify.catalogue import catalogue
from claude_local.verify.checks import Check, Row
from claude_local.verify.passed import Passed
from claude_local.verify.workbench import Workbench
from tests.verify.verify_lab import altered, deployed, docker_answers, write

GROUPS = ("messages.stream", "fence.sudo", "scripted.read", "claude.chat")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A deployed home whose every row has passed."""
    bench = deployed(tmp_path)
    write(Path(bench.paths.lib) / "claude_local/one.py", "1\n")
    write(bench.paths.claude, "binary")
    remember(bench, "PASS")
    return tmp_path


def remember(bench: Workbench, status: str, only: str = "") -> None:
    checks = catalogue(bench.parameters)
    rows = [Row(check.id, check.title, status, "", "", 0.1) for check in checks if only in check.id]
    Passed(bench).remember(checks, rows)


def due(home: Path, **changed: str) -> list[str]:
    """The rows of GROUPS that a run on this home would run."""
    bench = deployed(home, **changed) if changed else Workbench(deployed(home).parameters)
    ids = Passed(bench).due(catalogue(bench.parameters))
    assert {"tool.bwrap", "container.port", "token", "claude.version", "server.health", "messages.plain"} <= set(ids)
    return [name for name in GROUPS if name in ids]


def test_after_a_full_pass_only_the_quick_rows_run(home: Path) -> None:
    assert due(home) == []


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        (lambda paths: Path(paths.lib, "claude_local/one.py").write_text("2\n"), GROUPS),
        (lambda paths: write(paths.claude, "newer binary"), GROUPS[1:]),
        (lambda paths: write(f"{paths.home}/bwrap", "another bubblewrap"), GROUPS[1:]),
        (lambda paths: write(Path(paths.lib, "claude_local/__pycache__/one.pyc"), "x"), ()),
    ],
    ids=["runtime", "claude-code", "bubblewrap", "bytecode"],
)
def test_a_change_brings_back_the_rows_about_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[..., object], rows: tuple[str, ...]
) -> None:
    bench = deployed(home)
    monkeypatch.setattr(passed.shutil, "which", lambda name: str(home / name))
    remember(bench, "PASS")
    change(bench.paths)
    assert due(home) == list(rows)


def test_a_change_of_the_settings_brings_back_the_sessions(home: Path) -> None:
    ours = deployed(home)
    text = Path(ours.paths.settings).read_text()
    write(ours.paths.settings, text.replace("{", '{"mine": 1, ', 1))
    bench = Workbench(ours.parameters)
    ids = Passed(bench).due(catalogue(bench.parameters))
    assert [name for name in GROUPS if name in ids] == ["fence.sudo", "scripted.read", "claude.chat"]


def test_another_container_brings_back_the_rows_about_the_server(home: Path) -> None:
    other = docker_answers(altered("Config.Labels", {"claude-local.config": "another"}))
    assert due(home, docker=other) == ["messages.stream", "claude.chat"]


def test_a_row_that_failed_brings_back_all_that_share_its_sessions(home: Path) -> None:
    remember(deployed(home), "FAIL", only="fence.sudo")
    assert due(home) == ["fence.sudo", "scripted.read"]


def test_without_a_record_or_with_a_damaged_one_every_row_runs(home: Path) -> None:
    record = Path(deployed(home).paths.verify_passed)
    for text in ("{ oops", "[]"):
        record.write_text(text)
        assert due(home) == list(GROUPS)
    record.unlink()
    assert due(home) == list(GROUPS)


def test_the_program_says_how_many_rows_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [
        Check("quick", "Q", lambda bench: "good"),
        Check("slow", "S", lambda bench: "good", needs=("quick",), about=("programs",)),
    ]
    monkeypatch.setattr(program, "catalogue", lambda parameters: checks)
    bench = deployed(tmp_path)
    file = tmp_path / "parameters.json"
    file.write_text(json.dumps({**bench.parameters.__dict__}))
    shown = []
    for arguments in (["--changed"], ["--changed"], []):
        assert program.main(["--parameters", str(file), *arguments]) == 0
        shown.append(capsys.readouterr().out)
    assert ["slow" in text for text in shown] == [True, False, True]
    assert "1 more passed before" in shown[1] and "./provision verify" in shown[1]
    assert json.loads(Path(bench.paths.verify_report).read_text())["changed"] is False
