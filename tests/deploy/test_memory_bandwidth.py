"""How fast the memory is: measured once, then what was remembered."""

from __future__ import annotations

from pathlib import Path

from claude_local.deploy.facts.hardware import Bandwidth, MemoryBandwidth
from tests.deploy.strict_host import fact_on_this_machine


def test_it_is_measured_where_nothing_is_remembered(tmp_path: Path) -> None:
    found = fact_on_this_machine(MemoryBandwidth(), path=str(tmp_path / "none"))
    assert found is not None and not found.stored
    assert 1e9 < found.rate < 3e12, "between an old laptop and a server with twelve channels"


def test_what_was_remembered_counts(tmp_path: Path) -> None:
    (tmp_path / "memory-bandwidth").write_text("41000000000\n")
    found = fact_on_this_machine(MemoryBandwidth(), path=str(tmp_path / "memory-bandwidth"))
    assert found == Bandwidth(41_000_000_000, stored=True)


def test_a_machine_that_cannot_measure_has_none() -> None:
    assert MemoryBandwidth().process(["measured "]) is None and MemoryBandwidth().process([]) is None
