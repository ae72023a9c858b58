"""Merging our defaults, our last defaults and the file on disk: the user's changes survive."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.claude.json_merge import BrokenJson, dump, merge, parse
from claude_local.claude.settings_json import user_settings

keys = st.sampled_from(["a", "b", "c", "permissions", "deny"])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(0, 2), st.sampled_from(["x", "y"]), st.lists(st.integers(0, 1), max_size=2)
)
objects = st.recursive(
    st.dictionaries(keys, scalars, max_size=3),
    lambda inner: st.dictionaries(keys, st.one_of(scalars, inner), max_size=3),
)


def leaves(value: dict[str, Any], at: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Key path -> value of everything that is not an object."""
    result: dict[tuple[str, ...], Any] = {}
    for key, inner in value.items():
        result |= leaves(inner, (*at, key)) if isinstance(inner, dict) else {(*at, key): inner}
    return result


def as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@given(ours=objects)
def test_a_new_file_holds_our_defaults(ours: dict[str, Any]) -> None:
    assert merge(ours, {}, {}) == ours


@given(ours=objects, applied=objects)
def test_an_unchanged_file_follows_our_new_defaults(ours: dict[str, Any], applied: dict[str, Any]) -> None:
    assert leaves(merge(ours, applied, applied)) == leaves(ours)


@given(ours=objects, current=objects)
def test_values_from_before_the_first_deploy_stay(ours: dict[str, Any], current: dict[str, Any]) -> None:
    merged = leaves(merge(ours, {}, current))
    for path, value in leaves(current).items():
        assert as_json(merged[path]) == as_json(value)


@given(ours=objects, applied=objects, current=objects)
def test_changes_of_the_user_stay(ours: dict[str, Any], applied: dict[str, Any], current: dict[str, Any]) -> None:
    merged, last = leaves(merge(ours, applied, current)), leaves(applied)
    for path, value in leaves(current).items():
        if as_json(last.get(path, "not applied")) != as_json(value):
            assert as_json(merged[path]) == as_json(value)


@given(ours=objects, applied=objects, current=objects)
def test_a_second_merge_changes_nothing(ours: dict[str, Any], applied: dict[str, Any], current: dict[str, Any]) -> None:
    once = merge(ours, applied, current)
    assert as_json(merge(ours, ours, once)) == as_json(once)
    assert list(merge(ours, ours, once)) == list(once)


@given(ours=objects, applied=objects, current=objects, path=st.lists(keys, min_size=1, max_size=2))
def test_an_enforced_path_is_always_ours(
    ours: dict[str, Any], applied: dict[str, Any], current: dict[str, Any], path: list[str]
) -> None:
    merged = leaves(merge(ours, applied, current, [".".join(path)]))
    for at, value in leaves(ours).items():
        if at[: len(path)] == tuple(path):
            assert as_json(merged[at]) == as_json(value)


@given(ours=objects, applied=objects, current=objects)
def test_the_order_on_disk_is_kept(ours: dict[str, Any], applied: dict[str, Any], current: dict[str, Any]) -> None:
    merged = list(merge(ours, applied, current))
    assert [key for key in merged if key in current] == [key for key in current if key in merged]


def test_a_deletion_by_the_user_survives() -> None:
    ours = user_settings("plan")
    current = user_settings("plan")
    del current["permissions"]["defaultMode"], current["$schema"]
    assert merge(ours, ours, current) == current
    del current["permissions"], current["respondToBashCommands"]
    assert merge(ours, ours, current) == {}


def test_an_enforced_key_comes_back_even_without_its_group() -> None:
    ours = user_settings("plan")
    enforced = ["permissions.disableAutoMode"]
    assert merge(ours, ours, {"model": "x"}, enforced) == {"model": "x", "permissions": {"disableAutoMode": "disable"}}
    assert merge(ours, ours, {"permissions": None}, enforced) == {"permissions": {"disableAutoMode": "disable"}}


def test_a_changed_default_reaches_a_user_who_did_not_touch_it() -> None:
    plan, ask = user_settings("plan"), user_settings("default")
    assert merge(ask, plan, plan)["permissions"]["defaultMode"] == "default"
    mine = user_settings("acceptEdits")
    assert merge(ask, plan, mine)["permissions"]["defaultMode"] == "acceptEdits"


def test_a_dropped_default_goes_unless_the_user_changed_it() -> None:
    assert merge({}, {"a": 1, "group": {"b": 2}}, {"a": 1, "group": {"b": 2}, "mine": 3}) == {"mine": 3}
    assert merge({}, {"a": 1}, {"a": 7}) == {"a": 7}


@pytest.mark.parametrize("text", ['{"a": 1', "[1]", "null", "{'a': 1}", '{"a": 1} x', "[" * 100_000])
def test_a_broken_file_raises_broken_json(text: str) -> None:
    with pytest.raises(BrokenJson):
        parse(text)


def test_an_empty_file_and_a_byte_order_mark_are_accepted() -> None:
    assert parse("  \n") == {}
    assert parse('\ufeff{"a": 1}') == {"a": 1}


def test_dump_and_parse_keep_umlauts() -> None:
    assert parse(dump({"ä": "☃"})) == {"ä": "☃"}
    assert "ä" in dump({"ä": 1})
