"""Our patches of llama.cpp say what they are for and when they can go. That they apply is shown by every build."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATCHES = sorted((ROOT / "files" / "image" / "patches").glob("*.patch"))


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_patch_says_what_it_changes_which_tests_need_it_and_when_to_drop_it(path: Path) -> None:
    header = path.read_text().partition("\n---\n")[0]
    assert "Drop when" in header
    tests = re.search(r"^Tests: (tests/\S+?)\.? ", header, re.M)
    assert tests and (ROOT / tests[1]).exists()


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_patch_stays_small(path: Path) -> None:
    added = [line for line in path.read_text().splitlines() if line.startswith("+") and not line.startswith("+++")]
    # A file of its own disturbs no line of upstream's.
    own = sum(int(count) for count in re.findall(r"^--- /dev/null\n.*\n@@ -0,0 \+1,(\d+) @@", path.read_text(), re.M))
    assert len(added) - own <= 150 and own <= 400
