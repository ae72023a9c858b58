"""Our patches of llama.cpp say what they are for and when they can go. That they apply is shown by every build."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PATCHES = sorted((Path(__file__).parents[2] / "files" / "image" / "patches").glob("*.patch"))
CONFORMANCE = Path(__file__).parents[1] / "conformance" / "test_requests.py"


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_patch_says_what_it_changes_which_tests_need_it_and_when_to_drop_it(path: Path) -> None:
    header = path.read_text().partition("\n---\n")[0]
    assert re.search(r"^Tests: tests/conformance", header, re.M) and "Drop when" in header
    assert CONFORMANCE.exists()


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_patch_stays_small(path: Path) -> None:
    added = [line for line in path.read_text().splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert len(added) <= 120
