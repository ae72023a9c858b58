"""llama-local verify: the checks with the settings that the last deploy left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from claude_local.paths import Paths
from claude_local.verify.__main__ import keep
from claude_local.verify.parameters import parse
from tests.cli.documented import example, lacks
from tests.cli.test_command_line import PROJECT, llama_local
from tests.verify.verify_lab import parameters


def test_it_takes_the_settings_of_the_last_deploy_and_asks_docker_itself(tmp_path: Path) -> None:
    done = llama_local("verify", "--list", HOME=str(tmp_path))
    assert done.returncode == 1 and done.stderr.endswith("  Fix: ./provision verify\n")
    given = parameters(tmp_path, docker="what the deploying connection asked for")
    keep(given)
    path = Path(Paths(home=str(tmp_path), model_dir="", bin_dir="").verify_parameters)
    assert parse(path.read_text()) == replace(given, docker=None)
    assert path.stat().st_mode & 0o777 == 0o600
    done = llama_local("verify", "--list", "--only", "model.*", HOME=str(tmp_path))
    assert done.returncode == 0 and {line.split(".")[0] for line in done.stdout.splitlines()} == {"model"}
    told = json.loads(llama_local("verify", "--list", "--only", "model.*", "--json", HOME=str(tmp_path)).stdout)
    assert [each["id"] for each in told] == [line.split()[0] for line in done.stdout.splitlines()]
    unknown = llama_local("verify", "--list", "--only", "nothing.*", HOME=str(tmp_path))
    assert unknown.returncode == 2 and unknown.stderr.splitlines()[1:] == ["  Fix: llama-local verify --list"]


def test_a_reader_of_the_list_may_end_first(tmp_path: Path) -> None:
    keep(parameters(tmp_path))
    reader, writer = os.pipe()
    os.close(reader)
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "HOME": str(tmp_path)}
    words = [sys.executable, "-m", "claude_local.cli", "verify", "--list"]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120, env=env)
    os.close(writer)
    assert done.stderr == ""


def test_json_is_the_report_and_the_rows_go_to_stderr(tmp_path: Path) -> None:
    given = parameters(tmp_path)
    keep(given)
    done = llama_local("verify", "--json", "--only", "token", HOME=str(tmp_path))
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1) and "FAIL" in done.stderr
    assert lacks(example("verify"), report) == []
