"""A stage that is run alone before the runtime is there says which one comes first."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import StringCommand

from claude_local.deploy.operations import claude, image
from claude_local.paths import Paths
from tests.deploy.strict_host import StrictHost, run
from tests.deploy.test_claude import installations
from tests.deploy.test_image import CLIENT, images, planned


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("stage", ["image", "claude"])
def test_without_the_runtime_the_stage_that_makes_it_is_named(
    stage: str, shell: str, tmp_path: Path, monkeypatch: Any
) -> None:
    def really(command: StringCommand, print_output: bool = False, **_: Any) -> Any:
        words = [shell, "-c", command.get_raw_value()]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode == 0, [type("Line", (), {"line": line}) for line in done.stdout.splitlines()]

    paths = Paths(home=str(tmp_path), model_dir="/m", bin_dir="/b")
    host = StrictHost(
        {"ClaudeInstallations": installations(), "DockerClient": CLIENT, "DockerImage": images(), "LlamaSource": False}
    )
    host.run_shell_command = really  # type: ignore[method-assign]
    if stage == "image":
        run(monkeypatch, image.source, host, image=planned(), paths=paths)
    else:
        wanted = {"tested": "2.1.330", "minimum": "2.1.330", "arch": "x86_64", "paths": paths}
        run(monkeypatch, claude.install, host, source="npm", **wanted)
    assert host.logged == ["the runtime is missing; run tasks/runtime.py first"]
