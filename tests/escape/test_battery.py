"""Every attempt that we know, in three ways: docs/fence.md says what both layers, and each alone, let through.

The attempts are real: without any fence each of them works here, or the reason why it cannot is found out by looking.
``-s`` shows the table; CLAUDE_LOCAL_ESCAPE_TABLE names a file that gets it too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.escape import runner
from tests.escape.attempt import ROOT, USER, attempts_of
from tests.escape.expected import expected
from tests.escape.lab import CANNOT, STOPPED, THROUGH

pytestmark = [
    pytest.mark.integration,
    pytest.mark.usefixtures("claude_code"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make the namespaces that the battery runs in"),
]

WAYS = ("both", "outer", "inner", "none")


class Battery:
    """The outcomes of one account in each way."""

    def __init__(self, kind: str, ways: dict[str, runner.Results]) -> None:
        self.kind, self.ways = kind, ways
        self.allowed = {each.name for each in attempts_of(kind) if each.allowed}
        self.table = runner.table(kind, ways)

    def through(self, way: str) -> dict[str, str]:
        """What got out, with the evidence."""
        return {
            name: found["evidence"]
            for name, found in self.ways[way].items()
            if found["outcome"] == THROUGH and name not in self.allowed
        }


@pytest.fixture(scope="module", params=[USER, ROOT])
def battery(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Battery]:
    kind = request.param
    with runner.prepared(kind) as (somebody, account):
        found = Battery(kind, {way: runner.run_way(somebody, account, way) for way in WAYS})
    print(f"\n{found.table}")
    place = Path(os.environ.get("CLAUDE_LOCAL_ESCAPE_TABLE") or tmp_path_factory.mktemp("escape") / "table.md")
    with place.open("a", encoding="utf-8") as file:
        file.write(found.table + "\n")
    yield found


def test_there_are_more_than_forty_attempts_and_all_were_made(battery: Battery) -> None:
    names = [each.name for each in attempts_of(battery.kind)]
    assert len(names) - len(battery.allowed) >= 40
    for way, found in battery.ways.items():
        assert list(found) == names, way


@pytest.mark.parametrize("way", WAYS)
def test_a_session_can_do_its_work(battery: Battery, way: str) -> None:
    found = {name: battery.ways[way][name] for name in battery.allowed}
    assert {name: words["said"] for name, words in found.items() if words["outcome"] != THROUGH} == {}


@pytest.mark.parametrize("way", ["both", "outer", "inner"])
def test_a_fence_lets_through_what_is_written_down_and_nothing_else(battery: Battery, way: str) -> None:
    found, wanted = battery.through(way), expected(way, battery.kind)
    assert {name: found[name] for name in found if name not in wanted} == {}, (
        "gets through; expected.py does not say so"
    )
    said = battery.ways[way]
    stopped = {name: said[name]["said"] for name in wanted if said[name]["outcome"] == STOPPED}
    assert stopped == {}, "is stopped; expected.py says that it gets through"


def test_every_attempt_works_where_there_is_no_fence(battery: Battery) -> None:
    stopped = {name: found["said"] for name, found in battery.ways["none"].items() if found["outcome"] == STOPPED}
    assert stopped == {}, "an attempt that never works proves nothing"
    reasons = {name: found["evidence"] for name, found in battery.ways["none"].items() if found["outcome"] == CANNOT}
    print(json.dumps(reasons, indent=1))
    assert len(reasons) <= len(battery.ways["none"]) // 10
