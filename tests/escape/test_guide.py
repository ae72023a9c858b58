"""docs/fence.md lists exactly what one layer alone lets through in the battery."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.escape.attempt import REGISTER, ROOT, attempts_of
from tests.escape.expected import EXPECTED, EXPECTED_FOR_ROOT, TITLES, families, guide_section

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "fence.md"
HEADING = "## What one layer alone lets through"


def section() -> str:
    text = GUIDE.read_text(encoding="utf-8")
    assert HEADING in text, f"docs/fence.md has no section {HEADING!r}"
    return text.partition(HEADING)[2].partition("\n## ")[0]


@pytest.mark.parametrize("way", TITLES)
def test_the_guide_names_every_family_that_one_layer_lets_through(way: str) -> None:
    later = [title for other, title in TITLES.items() if other != way]
    part = section().partition(TITLES[way])[2]
    for title in later:
        part = part.partition(title)[0]
    missing = [family for family in families(way) if f"* {family}:" not in part]
    assert missing == []


def test_the_guides_list_is_the_batterys() -> None:
    assert guide_section() in section(), "put in what `python -m tests.escape.expected` prints"


def test_what_is_expected_to_get_through_is_an_attempt() -> None:
    attempts_of(ROOT)
    for table in (EXPECTED, EXPECTED_FOR_ROOT):
        assert [name for names in table.values() for name in names if name not in REGISTER] == []
