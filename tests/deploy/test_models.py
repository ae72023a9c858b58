"""Placing models through pyinfra: one cheap look, and a streamed run only when something is missing."""

import json
import subprocess
from pathlib import Path
from typing import Any

from pyinfra.api import StringCommand

from claude_local.deploy.facts.models import PlacementCheck, Placements
from claude_local.deploy.operations import known
from claude_local.deploy.operations.models import place
from tests.deploy.strict_host import StrictHost, fact_on_this_machine, run
from tests.deploy.this_machine import runtime_python

PLAN: dict[str, Any] = {
    "model_dir": "/home/o'neil/models",
    "search_dirs": [],
    "hub": "https://hub.example",
    "placements_path": "/home/o'neil/models.json",
    "profiles": [{"id": "small", "model": "a b.gguf", "mmproj": None, "files": [{"name": "a b.gguf"}]}],
}
PYTHON = "/home/o'neil/venv/bin/python"


def test_models_in_place_are_left_alone(monkeypatch: Any) -> None:
    host = StrictHost({"PlacementCheck": {"ok": True, "files": [], "placements": {"profiles": {}}}})
    assert run(monkeypatch, place, host, python=PYTHON, plan=PLAN) == []
    assert known.ask(Placements, path=PLAN["placements_path"]) == {"profiles": {}}, "it needs no command of its own"
    assert host.noop_reason == "the models are in place: small"


def test_anything_else_is_placed_with_its_output_shown(monkeypatch: Any) -> None:
    for seen in (None, {"ok": False, "files": []}):
        host = StrictHost({"PlacementCheck": seen})
        (command,) = run(monkeypatch, place, host, python=PYTHON, plan=PLAN)
        assert "claude_local.models.placement place" in command
        assert host.sudo == [False]


def test_a_failure_says_why(monkeypatch: Any) -> None:
    host = StrictHost({"PlacementCheck": None})
    host.succeeds = False
    host.output = [
        "a.gguf  1 / 2 MiB",
        "error: a.gguf of profile small: no source gives it:",
        "  hub x",
        "    HTTP 404",
    ]
    run(monkeypatch, place, host, python=PYTHON, plan=PLAN)
    assert host.logged == [
        "The models could not be placed:\n  a.gguf of profile small: no source gives it:\n    hub x\n      HTTP 404"
    ]


def test_without_a_runtime_the_fact_has_its_default_and_the_run_names_the_stage(monkeypatch: Any) -> None:
    assert fact_on_this_machine(PlacementCheck(), python="/nowhere/python", plan=PLAN) is None

    def really(command: StringCommand, print_output: bool = False, **_: Any) -> Any:
        done = subprocess.run(["sh", "-c", command.get_raw_value()], capture_output=True, text=True, timeout=30)
        return done.returncode == 0, [type("Line", (), {"line": line}) for line in done.stdout.splitlines()]

    host = StrictHost({"PlacementCheck": None})
    host.run_shell_command = really  # type: ignore[method-assign]
    run(monkeypatch, place, host, python="/nowhere/python", plan=PLAN)
    assert host.logged == ["The models could not be placed:\n  the runtime is missing; run tasks/runtime.py first"]


def test_the_plan_reaches_the_program_whatever_characters_it_holds(tmp_path: Path, monkeypatch: Any) -> None:
    python = runtime_python(tmp_path)
    # Nothing that the caller has on PYTHONPATH gets into it.
    (tmp_path / "argparse.py").write_text("raise RuntimeError('the caller has an old argparse')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    folder = tmp_path / "o'neil $HOME `id` %s"
    folder.mkdir()
    plan = {**PLAN, "model_dir": str(folder), "placements_path": str(folder / "models.json")}
    seen = fact_on_this_machine(PlacementCheck(), python=python, plan=plan)
    assert seen is not None and seen["ok"] is False
    assert seen["files"][0]["path"] == str(folder / "a b.gguf")
    assert seen["files"][0]["state"] == "missing"


def test_placements_are_read_and_default_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "models.json"
    assert fact_on_this_machine(Placements(), path=str(path)) == {}
    path.write_text("{broken")
    assert fact_on_this_machine(Placements(), path=str(path)) == {}
    path.write_text(json.dumps({"files": {}, "profiles": {"a": {"model": "/m/a.gguf"}}}, indent=1))
    assert fact_on_this_machine(Placements(), path=str(path))["profiles"] == {"a": {"model": "/m/a.gguf"}}
