"""llama-local update: what a newer checkout would change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from claude_local.checkout import describe
from claude_local.cli.__main__ import main
from claude_local.hardware.machine import Hardware
from claude_local.paths import Paths
from tests.cli.documented import example, lacks
from tests.cli.test_command_line import PROJECT

IMAGE = ("files/image/Dockerfile", "files/image/patches/0010-cache-reuse.patch", "files/image/web-ui.tar.xz")
DATA = ("files/bash-env.sh", "templates/claude-local")
PACKAGE = ("claude_local/paths.py", "claude_local/deploy/limit.py")
FILES = (*IMAGE, *DATA, *PACKAGE, "pyproject.toml", "group_data/all.py", "models.conf")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that was deployed to this home."""
    home, checkout = tmp_path / "home", tmp_path / "checkout"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("claude_local.cli.update.probe_hardware", Hardware)
    for name in FILES:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, checkout / name)
    paths = Paths(home=str(home), model_dir="", bin_dir="")
    shutil.copytree(checkout / "claude_local", Path(paths.lib, "claude_local"), ignore=shutil.ignore_patterns("deploy"))
    Path(paths.profiles).parent.mkdir(parents=True)
    deployed = {**describe(checkout), "checkout": str(checkout), "variant": "cpu", "image_variant": "auto"}
    Path(paths.profiles).write_text(json.dumps({"default": "x", "profiles": {}, "deployed": deployed}))
    return checkout


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["update", "--json", *arguments]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_right_after_a_deploy_nothing_would_change(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys) == {"checkout": str(checkout), "changes": [], "programs": []}
    assert main(["update"]) == 0 and str(checkout) in capsys.readouterr().out


def test_versions_models_and_programs_of_a_newer_checkout(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replace(checkout / "pyproject.toml", 'version = "', 'version = "9')
    replace(checkout / "group_data/all.py", "image_llama_build = 1", "image_llama_build = 2")
    replace(checkout / "group_data/all.py", 'claude_version = "2', 'claude_version = "3')
    replace(checkout / "models.conf", "[qwen2.5-coder-0.5b]", "[another]")
    digest = "4bb93f0a0221ef4ff963ca9094df629c8dfdfabc3b4fdd85c1a2e4c0624fce36"
    replace(checkout / "models.conf", digest, digest[::-1])
    (checkout / "claude_local/paths.py").write_text("new")
    (checkout / "claude_local/new.py").write_text("new")
    (checkout / "claude_local/deploy/limit.py").write_text("it stays on the controller")
    answer = told(capsys)
    assert {each["what"]: each["then"][:1] for each in answer["changes"][:3]} == {
        "project": "9", "llama.cpp": "2", "Claude Code": "3",
    }  # fmt: skip
    assert {each["then"] for each in answer["changes"][3:]} == {
        "another is new", "qwen2.5-coder-0.5b is gone", "qwen3-coder-next-ud-q4 has other files",
    }  # fmt: skip
    assert answer["programs"] == ["new.py", "paths.py"]
    assert lacks(example("update"), answer) == []
    assert main(["update", str(checkout)]) == 0
    shown = capsys.readouterr().out
    assert "2 files differ" in shown and shown.endswith(f"To deploy: cd {checkout} && ./provision\n")


def test_other_hardware_makes_another_image(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(Paths(home=str(checkout.parent / "home"), model_dir="", bin_dir="").profiles)
    replace(path, '"variant": "cpu"', '"variant": "cuda"')
    (change,) = told(capsys)["changes"]
    assert (change["what"], change["now"]) == ("image", "cuda") and change["then"].startswith("cpu (")


@pytest.mark.parametrize(
    ("name", "old", "new", "built"),
    [
        ("Dockerfile", "AS runtime\n", "AS runtime\nENV NEW=1\n", True),
        ("patches/0010-cache-reuse.patch", "n_cache_reuse", "n_cache_used", True),
        ("Dockerfile", "AS runtime\n", "AS runtime\n# a comment\n", False),
        ("Dockerfile", "AS runtime-vulkan\n", "AS runtime-vulkan\nENV NEW=1\n", False),  # another variant's
    ],
)
def test_an_image_that_would_be_built_anew(
    checkout: Path, capsys: pytest.CaptureFixture[str], name: str, old: str, new: str, built: bool
) -> None:
    replace(checkout / "files/image" / name, old, new)
    answer = told(capsys)
    assert [(each["what"], each["now"]) for each in answer["changes"]] == ([("image", "cpu")] if built else [])
    assert answer["programs"] == []


def test_scripts_and_templates_count_as_programs(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "files/bash-env.sh").write_text("new")
    (checkout / "templates/claude-local").unlink()
    answer = told(capsys)
    assert (answer["changes"], answer["programs"]) == ([], ["files/bash-env.sh", "templates/claude-local"])


def test_a_record_of_an_earlier_version_says_nothing_of_images(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(Paths(home=str(checkout.parent / "home"), model_dir="", bin_dir="").profiles)
    record = json.loads(path.read_text())
    del record["deployed"]["images"], record["deployed"]["data"]
    path.write_text(json.dumps(record))
    assert told(capsys)["changes"] == []


def test_a_directory_without_the_project_is_named(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["update", str(checkout.parent)]) == 1
    problem, fix = capsys.readouterr().err.splitlines()
    assert str(checkout.parent) in problem and fix.startswith("  Fix: llama-local update DIRECTORY")
    replace(checkout / "group_data/all.py", "claude_version =", "claude_release =")
    assert main(["update"]) == 1
    assert "cannot read" in capsys.readouterr().err


def test_before_a_deploy_has_recorded_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["update"]) == 1 and capsys.readouterr().err.endswith("  Fix: ./provision\n")
