"""claude_local/server/flags.json against the llama-server that was built here."""

from __future__ import annotations

import json
import subprocess

import pytest

from claude_local.server import flags as llama_flags
from tests.integration.machine import docker

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

CONTAINER = "claude-local-server"


def test_the_data_file_is_what_the_built_server_says_of_itself() -> None:
    words = [docker(), "exec", CONTAINER, "/opt/llama/llama-server"]
    said = subprocess.run([*words, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    kept = json.loads(llama_flags.DATA.read_text())
    assert llama_flags.parse_help(said) == kept["flags"]
    version = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert f"build {kept['build']}," in version.stdout + version.stderr
