"""What the tab key offers. tests/integration/test_shells.py presses it in real shells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from claude_local.cli.commands import COMMANDS
from claude_local.cli.completion import scripts
from claude_local.paths import Paths
from tests.cli.test_command_line import PROJECT, llama_local


@pytest.fixture
def home(tmp_path: Path) -> Path:
    file = Path(Paths(home=str(tmp_path), model_dir="", bin_dir="").profiles)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"default": "small", "profiles": {"small": {}, "smaller": {}, "large": {}}}))
    return tmp_path


def offered(home: Path, line: str) -> list[str]:
    """What bash offers at the end of the line."""
    done = llama_local(
        HOME=str(home), _LLAMA_LOCAL_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(line.count(" "))
    )
    assert done.stderr == ""
    return [entry.partition(",")[2] for entry in done.stdout.split()]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("llama-local switch ", ["small", "smaller", "large"]),
        ("llama-local start sm", ["small", "smaller"]),
        ("llama-local st", ["status", "start", "stop"]),
        ("llama-local ", list(COMMANDS)),
        ("llama-local models pr", ["prune"]),
        ("llama-local models prune --u", ["--unfinished"]),
    ],
)
def test_commands_options_and_profiles_are_offered(home: Path, line: str, names: list[str]) -> None:
    assert offered(home, line) == names


@pytest.mark.parametrize("text", [None, "", "{", '{"profiles": null}'])
def test_without_profiles_nothing_is_offered(home: Path, text: str | None) -> None:
    file = Path(Paths(home=str(home), model_dir="", bin_dir="").profiles)
    file.unlink()
    if text is not None:
        file.write_text(text)
    assert offered(home, "llama-local switch ") == []


def test_the_shipped_scripts_are_clicks_own() -> None:
    """After an update of click: python -m claude_local.cli.completion files/completion."""
    shipped = {path.suffix[1:]: path.read_text() for path in (PROJECT / "files" / "completion").glob("llama-local.*")}
    assert shipped == scripts()
