"""files/bash-env.sh, which a shell reads before each command of a session."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

BASH_ENV = Path(__file__).parents[2] / "files" / "bash-env.sh"


@pytest.mark.parametrize("path", ["{}:/usr/bin:/bin", "/usr/bin:{}:/bin", "/usr/bin:/bin:{}", "/usr/bin:/bin"])
def test_commands_get_a_path_without_the_sandboxs_own_programs(tmp_path: Path, path: str) -> None:
    own = tmp_path / "sandbox bin"
    done = subprocess.run(
        ["/bin/sh", "-c", f'. "{BASH_ENV}"; printf %s "$PATH"'], capture_output=True, text=True, check=True, timeout=10,
        env={"PATH": path.format(own), "CLAUDE_LOCAL_SANDBOX_BIN": str(own)},
    )  # fmt: skip
    assert done.stdout == "/usr/bin:/bin"
