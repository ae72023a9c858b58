"""The installed llama-local in ~/bin, on the runtime's own Python."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.integration.machine import HOME

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]


def test_the_installed_command_describes_this_machine() -> None:
    words = [str(HOME / "bin" / "llama-local"), "hardware", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd="/", env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0 and done.stderr == "", done.stderr
    found = json.loads(done.stdout)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024**2
    assert found["hardware"]["memory_mib"] == memory
    assert found["verdict"]["variant"] in ("cpu", "cuda", "vulkan") and found["verdict"]["reason"]
