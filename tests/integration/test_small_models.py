"""What the real small models answer to questions about a repository: nothing that only the template's examples say."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.example_words import TELLING

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

DEFAULT = "qwen2.5-coder-1.5b"
# The first is README's own example; both models told of the examples when they were asked what was said before, and the
# 0.5B where it answered the last one without looking.
ABOUT = ("What does this repository do?", "What is this project about?")
QUESTIONS = (*ABOUT, "What did I ask you before?", "Explain this codebase.")


@pytest.fixture(scope="module")
def repository() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="claude-local-small-models-", dir=Path.home()))
    (folder / "README.md").write_text("# Samphire\n\nPredicts how high the water in Saint-Malo will rise.\n")
    (folder / "samphire.py").write_text("def height(moon):\n    return moon.pull * 12\n")
    subprocess.run(["git", "init", "--quiet", folder], check=True, timeout=60)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("profile", [DEFAULT, "qwen2.5-coder-0.5b"])
def test_an_answer_is_from_the_files_and_never_from_the_examples(profile: str, repository: Path) -> None:
    wrapper = str(Path.home() / "bin/claude-local")
    for question in QUESTIONS:
        done = subprocess.run(
            [wrapper, "--model", profile, "-p", question],
            cwd=repository, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        print(f"{profile}: {question} -> {done.stdout.strip()!r}", flush=True)
        assert done.returncode == 0 and done.stdout.strip(), done.stderr
        quoted = TELLING & {word.rstrip(".") for word in re.findall(r"[\w./*]+", done.stdout.lower())}
        assert not quoted, f"{question} -> {done.stdout}"
        # The 0.5B is often wrong about what it reads ("about the files in the directory"), which is not the template's.
        assert profile != DEFAULT or question not in ABOUT or "Saint-Malo" in done.stdout, (
            f"{question} -> {done.stdout}"
        )
