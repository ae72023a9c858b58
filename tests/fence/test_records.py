"""The stand-in for dataclasses that the launcher's start can afford."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from claude_local.fence.records import dataclass, field

PROJECT = Path(__file__).resolve().parents[2]


@dataclass
class Basket:
    owner: str
    fruit: list[str] = field(default_factory=list)
    paid: bool = False


@dataclass(frozen=True)
class Price:
    euros: int = 3


def test_fields_are_given_by_place_or_by_name_and_have_defaults() -> None:
    assert vars(Basket("ann")) == {"owner": "ann", "fruit": [], "paid": False}
    assert Basket("ann", ["fig"], paid=True) == Basket(fruit=["fig"], paid=True, owner="ann")
    assert Basket("ann") != Basket("bob") and Basket("ann") != "ann"
    assert repr(Price()) == "Price(euros=3)"


def test_no_two_objects_share_a_list() -> None:
    first, second = Basket("ann"), Basket("ann")
    first.fruit.append("fig")
    assert second.fruit == []


def test_what_is_frozen_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="euros"):
        Price().euros = 4  # type: ignore[misc]
    assert {Price(), Price(3), Price(4)} == {Price(3), Price(4)}
    with pytest.raises(TypeError, match="unhashable"):
        hash(Basket("ann"))


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), (("ann", [], True, 4), {}), (("ann",), {"owner": "bob"}), (("ann",), {"colour": "red"})],
    ids=["too few", "too many", "twice", "unknown"],
)
def test_wrong_fields_are_refused(values: tuple[object, ...], named: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="Basket"):
        Basket(*values, **named)  # type: ignore[arg-type]


def read_in(modules: str) -> set[str]:
    """What Python has read in after these modules of the fence's."""
    program = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); from claude_local.fence import {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_launcher_does_without_what_takes_long_to_read_in() -> None:
    slow = {"dataclasses", "inspect", "typing", "argparse", "subprocess", "pathlib"}
    before = read_in("launch")
    assert "claude_local.fence.plan" in before and not before & {*slow, "threading", "ctypes"}
    # And these while bubblewrap works, which takes about as long.
    assert not read_in("launch, remount, mount_check, proxy, relay, watch") & slow
