"""Choosing a Claude Code by its version, and the warnings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.claude.versions import PINS, ClaudeCodeError, Installation, choose, compare, parse_version, platform

versions = st.lists(st.integers(0, 400), min_size=2, max_size=4).map(lambda parts: ".".join(map(str, parts)))


@given(one=versions, other=versions)
def test_comparing_is_antisymmetric_and_numeric(one: str, other: str) -> None:
    assert compare(one, other) == -compare(other, one)
    assert compare(one, one + ".0") == 0
    assert compare(one + ".1", one) == 1


@pytest.mark.parametrize(("one", "other"), [("2.1.330", "2.1.99"), ("2.10.0", "2.9.9"), ("3.0", "2.99.99")])
def test_numbers_are_compared_as_numbers(one: str, other: str) -> None:
    assert compare(one, other) == 1


@pytest.mark.parametrize(
    ("output", "numbers"),
    [
        ("2.1.330 (Claude Code)", (2, 1, 330)),
        ("v2.1", (2, 1)),
        ("2.1.330-beta.1", (2, 1, 330)),
        ("claude: command not found", None),
        ("", None),
        ("2", None),
    ],
)
def test_version_output_is_parsed(output: str, numbers: tuple[int, ...] | None) -> None:
    assert parse_version(output) == numbers


def test_the_tested_version_is_used_without_a_warning() -> None:
    here = Installation("/x/claude", "2.1.330")
    choice = choose([here], "2.1.330", "2.1.330")
    assert choice.use == here and choice.warning is None


def test_a_newer_version_is_used_and_the_warning_names_both() -> None:
    choice = choose([Installation("/x/claude", "2.2.0")], "2.1.330", "2.1.300")
    assert choice.use is not None and choice.warning is not None
    assert "2.2.0" in choice.warning and "2.1.330" in choice.warning


def test_an_older_one_that_still_works_is_used_with_a_warning() -> None:
    choice = choose([Installation("/x/claude", "2.1.310")], "2.1.330", "2.1.300")
    assert choice.use is not None and choice.warning is not None and "2.1.310" in choice.warning


def test_a_too_old_one_stays_and_ours_is_installed_beside_it() -> None:
    choice = choose([Installation("/x/claude", "2.1.197")], "2.1.330", "2.1.330")
    assert choice.use is None
    assert choice.warning is not None and "2.1.197" in choice.warning and "beside" in choice.warning


def test_a_too_old_one_in_front_does_not_hide_a_good_one() -> None:
    good = Installation("/versions/2.1.330", "2.1.330")
    assert choose([Installation("/x/claude", "2.1.197"), good], "2.1.330", "2.1.330").use == good


def test_an_installation_that_does_not_run_is_ignored() -> None:
    assert choose([Installation("/x/claude", None)], "2.1.330", "2.1.330").use is None
    assert choose([], "2.1.330", "2.1.330") == choose([Installation("/x", "nonsense")], "2.1.330", "2.1.330")


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ClaudeCodeError, match="older than claude_minimum_version"):
        choose([], "2.1.300", "2.1.330")


def test_each_pin_is_a_sha256_with_a_size_and_two_sources() -> None:
    for version, platforms in PINS.items():
        for binary in platforms.values():
            assert len(binary.sha256) == 64 and int(binary.sha256, 16) and binary.size > 300_000_000
            assert binary.url(version).endswith(f"/{version}/{binary.name}/claude")
            assert binary.npm_package == f"@anthropic-ai/claude-code-{binary.name}"


def test_a_version_or_architecture_without_a_pin_is_refused() -> None:
    with pytest.raises(ClaudeCodeError, match=r"9\.9\.9.*known: 2\.1\.330"):
        platform("9.9.9", "x86_64")
    with pytest.raises(ClaudeCodeError, match="riscv64.*x86_64, aarch64"):
        platform("2.1.330", "riscv64")
