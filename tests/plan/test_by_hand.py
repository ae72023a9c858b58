"""`pyinfra INVENTORY deploy.py` as a person types it: the question before anything is done, and what stands there at
the end."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.plan.test_releases import ROOT

Start = Callable[..., Any]
QUESTION = "Press enter to execute"


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """pyinfra in a terminal, on a recorded machine; ``tmp_path/result`` says afterwards what was done to it."""
    machine = {"release": "debian-12", "repository": False, "registry": True}
    env = {**os.environ, "RECORDED_MACHINE": json.dumps(machine), "RECORDED_RESULT": str(tmp_path / "result")}

    def spawn(*words: str) -> Any:
        command = [*words[:-1], "tests/plan/recorded_inventory.py", words[-1]]
        return pexpect.spawn(
            str(Path(sys.executable).parent / "pyinfra"), command, cwd=str(ROOT), env=env, encoding="utf-8", timeout=60,
            dimensions=(60, 200),
        )  # fmt: skip

    return spawn


def changed(tmp_path: Path) -> bool:
    """Whether anything was written or installed."""
    result = json.loads((tmp_path / "result").read_text())
    return bool(result["uploads"] or result["docker"])


@pytest.mark.slow
def test_it_asks_first_and_ends_with_the_stages_their_times_and_what_to_type(start: Start, tmp_path: Path) -> None:
    terminal = start("deploy.py")
    terminal.expect("Detected changes")
    terminal.expect(QUESTION)
    terminal.sendline("")
    terminal.expect(pexpect.EOF)
    said = terminal.before
    terminal.close()
    assert terminal.exitstatus == 0, said[-3000:]
    assert changed(tmp_path)
    table = said[said.index("stage ") : said.index("model    ")].splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in table if len(line.split()) > 1}
    for stage in ("packages", "runtime", "docker", "image", "models", "server", "claude", "home", "commands"):
        assert rows[stage][0].endswith("s") and rows[stage][-1] in ("change", "changes"), stage
    assert "(qwen2.5-coder-1.5b), also placed: qwen2.5-coder-0.5b" in said
    assert "server   llama.cpp b11434 on http://127.0.0.1:8080" in said
    assert said.rstrip().endswith('Next: ~/bin/claude-local -p "Say hello"    or just: ~/bin/claude-local')


@pytest.mark.slow
@pytest.mark.parametrize("dry", [[], ["--dry"]])
def test_nothing_is_done_without_a_yes(start: Start, tmp_path: Path, dry: list[str]) -> None:
    terminal = start(*dry, "deploy.py")
    if not dry:
        terminal.expect(QUESTION)
        terminal.sendcontrol("c")
    terminal.expect(pexpect.EOF)
    terminal.close()
    if dry:
        assert not changed(tmp_path)
    else:
        assert terminal.signalstatus == signal.SIGINT, "it ended before the machine could write what was done to it"
    assert "Starting operation" not in terminal.before and "Next:" not in terminal.before


def test_each_stage_can_be_asked_about_too(start: Start, tmp_path: Path) -> None:
    terminal = start("tasks/home.py")
    terminal.expect(QUESTION)
    terminal.sendline("")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    uploads = json.loads((tmp_path / "result").read_text())["uploads"]
    assert "/home/user/.claude-local/settings.json" in uploads
