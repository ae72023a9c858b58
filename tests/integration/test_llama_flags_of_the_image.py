"""claude_local/server/flags.json matches the llama-server in this machine's image."""

from __future__ import annotations

import json
import subprocess

import pytest

from claude_local.server import flags as llama_flags
from tests.integration.machine import docker

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

CONTAINER = "claude-local-server"


def test_flags_json_matches_the_built_servers_help() -> None:
    words = [docker(), "exec", CONTAINER, "/opt/llama/llama-server"]
    said = subprocess.run([*words, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    kept = json.loads(llama_flags.DATA.read_text())
    assert llama_flags.parse_help(said) == kept["flags"]
    version = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert f"build {kept['build']}," in version.stdout + version.stderr
