"""The launcher's options, and what it reads in Claude Code's own arguments."""

from __future__ import annotations

import pytest

from claude_local.fence.messages import printable
from claude_local.fence.options import Options, added_directories, asks_for_worktree, parse_arguments


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], []),
        (["--add-dir", "a"], ["a"]),
        (["--add-dir", "a", "b c", "-p", "x"], ["a", "b c"]),
        (["--add-dir=a", "x"], ["a"]),
        (["--add-dir", "a", "--model", "m", "--add-dir", "b"], ["a", "b"]),
        (["-p", "x", "--", "--add-dir", "a"], []),
        (["--add-dir", "a", "--", "b"], ["a"]),
        (["--add-dir"], []),
        (["--add-directory", "a"], []),
    ],
)
def test_added_directories_are_read_as_claude_reads_them(words: list[str], expected: list[str]) -> None:
    assert list(added_directories(words)) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["-w"], True), (["--worktree", "x"], True), (["--worktree=x"], True), (["-p", "x"], False), (["--work"], False)],
)
def test_a_new_worktree_is_recognised(words: list[str], expected: bool) -> None:
    assert asks_for_worktree(words) is expected


def test_everything_after_the_first_two_dashes_is_the_command() -> None:
    options = parse_arguments(
        ["--config", "c", "--home", "h", "--own", "a", "--own", "b", "--", "/claude", "--config", "x", "--", "y"],
        Options,
    )
    assert options.command == ["/claude", "--config", "x", "--", "y"], Options
    assert (options.config, options.own, options.unfenced) == ("c", ["a", "b"], False)


def test_an_unknown_option_is_refused_with_a_fix(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse_arguments(["--config", "c", "--no-such-option", "x", "--", "/claude"], Options)
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "--no-such-option" in said and "Fix: ./provision" in said


def test_control_characters_are_escaped_in_messages() -> None:
    assert printable("a é\x1b[2J\n\u202e") == "a é\\x1b[2J\\n\\u202e"
