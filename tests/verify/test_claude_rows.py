"""The rows about the real model, the first start and the network: each is red for its own fault."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_local.verify import claude_rows, terminal
from claude_local.verify.checks import Failed, Skipped
from claude_local.verify.network import Destinations
from claude_local.verify.session import Session
from claude_local.verify.temporary_home import TemporaryHome
from claude_local.verify.workbench import Workbench
from tests.verify.played import Play, events, played, run_row, says, talked
from tests.verify.verify_lab import write


def secret_word(place: TemporaryHome) -> str:
    return (place.workspace / "hello.txt").read_text().split()[-1].strip(".")


def good(place: TemporaryHome, arguments: tuple[str, ...], server: str | None) -> Session:
    prompt = arguments[1]
    if "Glob" in prompt:
        return played(events("There is hello.txt.", ("Glob", {"pattern": "*.txt"}, "/w/hello.txt", False)))
    if "Read" in prompt:
        word = secret_word(place)
        return played(
            events(f"It is {word}.", ("Read", {"file_path": "hello.txt"}, f"1 The secret word is {word}.", False))
        )
    if "Create" in prompt:
        word = prompt.rstrip(".").split()[-1]
        (place.workspace / "out.txt").write_text(word)
        return played(events("Done.", ("Write", {"file_path": "out.txt", "content": word}, "created", False)))
    usage = {"input_tokens": 10, "cache_read_input_tokens": 90}
    model = {"claude-local": {"contextWindow": 4096}}
    return played(events("Paris", usage=usage, modelUsage=model), peers=talked(("127.0.0.1", 8080)))


def after(place: TemporaryHome, arguments: tuple[str, ...], usage: dict[str, int]) -> Session:
    """A good session whose first request had this usage."""
    session = good(place, arguments, None)
    first = {"type": "assistant", "message": {"content": [], "usage": usage}}
    return played([first, *session.events])


@pytest.mark.parametrize(("cached", "read", "passes"), [(3900, 400, True), (0, 4300, False)])
def test_a_session_that_reads_its_whole_prompt_again_is_a_failure(
    stage: Callable[[Play], Workbench], cached: int, read: int, passes: bool
) -> None:
    usage = {"input_tokens": read, "cache_read_input_tokens": cached}
    with stage(lambda place, arguments, server: after(place, arguments, usage)) as bench:
        run_row(bench, "claude.chat")
        with pytest.raises(Skipped):
            run_row(bench, "claude.reuse")
        run_row(bench, "claude.glob")
        if passes:
            assert "3900 were cached" in run_row(bench, "claude.reuse")
        else:
            with pytest.raises(Failed, match="read 4300 tokens"):
                run_row(bench, "claude.reuse")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("claude.chat", "small answered 'Paris' in 1 s (100 prompt tokens, 90 of them cached)"),
        ("claude.context", "agree on 4096 tokens"),
        ("claude.glob", "Glob found hello.txt"),
        ("claude.read", "Read hello.txt, answered 'It is"),
        ("claude.write", "Write: out.txt is on disk with"),
        ("claude.connections", "chat: 127.0.0.1:8080 1 times; nothing else (strace: IPv4 and IPv6)"),
    ],
)
def test_good_sessions_pass(stage: Callable[[Play], Workbench], name: str, words: str) -> None:
    with stage(good) as bench:
        bench.once("context window", lambda: 4096)
        run_row(bench, "claude.chat")
        assert words in run_row(bench, name)


@pytest.mark.parametrize(
    ("name", "play", "words"),
    [
        ("claude.chat", says(""), "without an answer"),
        ("claude.chat", lambda *a: played(events("API Error: 500", is_error=True)), "API Error: 500"),
        (
            "claude.chat",
            lambda *a: played([], status=1, err="claude-local: no server"),
            "exit 1: claude-local: no server",
        ),
        ("claude.chat", lambda *a: played([], status=None), "still running after 1 s"),
        ("claude.chat", lambda *a: played([]), "no result"),
        ("claude.glob", says("There is hello.txt."), "called no tool"),
        ("claude.glob", says("Nothing.", ("Glob", {}, "/w/hello.txt", False)), "does not name hello.txt"),
        ("claude.glob", says("hello.txt", ("Glob", {}, "hello.txt is not allowed", True)), "Glob did not find"),
        ("claude.read", says("It is pelican, or walnut."), "the secret word is"),
        ("claude.write", says("Done.", ("Write", {}, "created", False)), "out.txt on disk is None"),
    ],
)
def test_a_session_without_the_evidence_fails(
    stage: Callable[[Play], Workbench], name: str, play: Play, words: str
) -> None:
    with stage(play) as bench, pytest.raises(Failed) as caught:
        run_row(bench, name)
    assert words in caught.value.what and caught.value.fix


def test_a_file_that_another_tool_wrote_is_no_evidence_for_write(stage: Callable[[Play], Workbench]) -> None:
    def by_bash(place: TemporaryHome, arguments: tuple[str, ...], server: str | None) -> Session:
        (place.workspace / "out.txt").write_text(arguments[1])
        return played(events("Done.", ("Bash", {}, "", False)))

    with stage(by_bash) as bench, pytest.raises(Failed, match="the Write tool did not make"):
        run_row(bench, "claude.write")


def test_a_second_attempt_is_allowed_and_reported_a_third_is_not(stage: Callable[[Play], Workbench]) -> None:
    tries = []

    def clumsy(place: TemporaryHome, arguments: tuple[str, ...], server: str | None) -> Session:
        tries.append(1)
        return good(place, arguments, server) if len(tries) == 2 else played(events("I cannot."))

    with stage(clumsy) as bench:
        assert "second attempt, the first: the secret word is" in run_row(bench, "claude.read")
        with pytest.raises(Failed, match=r"^twice: "):
            run_row(bench, "claude.read")
    assert len(tries) == 4


def test_a_weak_model_of_the_users_choice_is_not_mistaken_for_a_broken_machine(
    stage: Callable[[Play], Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    with stage(says("I cannot.")) as bench:
        with pytest.raises(Failed) as caught:
            run_row(bench, "claude.write")
        assert "too weak" in caught.value.fix and "scripted" in caught.value.fix
        monkeypatch.setattr(claude_rows, "PROVEN", frozenset())
        with pytest.raises(Skipped, match="the machine works .* small is too weak: out.txt on disk is None"):
            run_row(bench, "claude.write")


@pytest.fixture(autouse=True)
def _the_labs_profile_is_known_to_use_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claude_rows, "PROVEN", frozenset({"small"}))


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        ({}, "no context window"),
        ({"claude-local": {"contextWindow": 1_000_000}}, "the server's n_ctx is 4096"),
        (
            {"claude-local": {"contextWindow": 4096}, "claude-haiku-4-5": {"contextWindow": 4096}},
            "instead of claude-local only",
        ),
    ],
)
def test_a_wrong_context_window_is_a_fault(
    stage: Callable[[Play], Workbench], usage: dict[str, Any], words: str
) -> None:
    with stage(lambda *a: played(events("Paris", modelUsage=usage))) as bench, pytest.raises(Failed, match=words):
        bench.once("context window", lambda: 4096)
        run_row(bench, "claude.context")


@pytest.mark.parametrize(
    ("peers", "words"),
    [
        (talked(("127.0.0.1", 8080), ("93.184.216.34", 443)), "93.184.216.34:443"),
        (talked(("127.0.0.1", 8080), ("10.0.0.1", 53)), "10.0.0.1:53"),
        (talked(("127.0.0.1", 8080), ("127.0.0.1", 9)), "127.0.0.1:9"),
        (talked(("127.0.0.1", 8080), ("::1", 8080)), r"\[::1\]:8080"),
        (talked(), "talked to nobody"),
        (talked(("127.0.0.1", 8080), uring=True), "io_uring"),
    ],
)
def test_every_other_peer_is_a_fault(stage: Callable[[Play], Workbench], peers: Destinations, words: str) -> None:
    with stage(lambda *a: played(events("Paris"), peers=peers)) as bench:
        run_row(bench, "claude.chat")
        with pytest.raises(Failed, match=words):
            run_row(bench, "claude.connections")


def test_without_sessions_the_connections_are_not_judged(stage: Callable[[Play], Workbench]) -> None:
    with stage(good) as bench, pytest.raises(Skipped, match="no session ran"):
        run_row(bench, "claude.connections")


# --- the terminal ---------------------------------------------------------------------------------------------------

RULE = "─" * 80
PROMPT = ["Claude Code v2.1.330", RULE, "❯\u00a0", RULE, "  ⏸ plan mode on (shift+tab to cycle)"]
TRUST = [
    " Accessing workspace:",
    " /home/u/project",
    " Quick safety check",
    " ❯ No, exit",
    "   Yes, I trust this folder",
]


def test_the_prompt_is_not_mistaken_for_the_trust_question() -> None:
    assert terminal.at_prompt(PROMPT) and not terminal.asks_for_trust(PROMPT) and terminal.question(PROMPT) is None
    assert terminal.asks_for_trust(TRUST) and not terminal.at_prompt(TRUST) and terminal.question(TRUST) is None


@pytest.mark.parametrize(
    ("screen", "what"),
    [
        ("Choose the text style that looks best with your terminal", "theme"),
        ("Select login method:", "login"),
        ("Detected a custom API key in your environment", "API key"),
        ("Make auto mode your default permission mode?", "auto mode"),
        ("Security notes:", "security notes"),
    ],
)
def test_each_first_run_question_is_recognised(screen: str, what: str) -> None:
    assert what in str(terminal.question([screen, " ❯ 1. Yes"]))


FAKE = r"""
import sys, termios, tty
tty.setraw(0)
rule = "─" * 80
def show(*lines): sys.stdout.write("\x1b[2J\x1b[H" + "\r\n".join(lines)); sys.stdout.flush()
def key(): return sys.stdin.buffer.raw.read(1).decode(errors="replace")
style = sys.argv[1]
if style == "dies": print("claude-local: llama-server is not installed\r"); sys.exit(1)
if style == "theme": show("Choose the text style that looks best"); key()
if style == "trust":
    place = 0
    while True:
        entries = enumerate(["No, exit", "Yes, I trust"])
        show("Accessing workspace:", *[("❯ " if i == place else "  ") + t for i, t in entries])
        pressed = key()
        if pressed == "\r": break
        if pressed == "B": place = min(1, place + 1)
    if place == 0: sys.exit(0)
typed, lost = "", False
while True:
    show("Claude Code", rule, "❯\u00a0" + typed, rule, "  ⏸ plan mode on (shift+tab)")
    pressed = key()
    if pressed == "\x15": typed = ""
    elif pressed == "\r":
        if style != "loses" or lost: sys.exit(0)
        lost = True
    elif style != "deaf": typed += pressed
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("style", "words"),
    [
        ("plain", "straight to the prompt, plan mode on"),
        ("trust", "straight to the prompt, after the folder-trust question (answered yes), plan mode on"),
        ("theme", "the first start asks for the theme"),
        ("loses", "straight to the prompt, plan mode on"),  # an Enter
        ("dies", "claude-local ended; the screen shows: claude-local: llama-server is not installed"),
        ("deaf", "the prompt takes no input"),
    ],
)
def test_a_first_start_is_walked_through_in_a_real_terminal(tmp_path: Path, style: str, words: str) -> None:
    program = write(tmp_path / "fake.py", FAKE)
    env = {**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    with terminal.Terminal([sys.executable, str(program), style], env=env, cwd=str(tmp_path)) as screen:
        try:
            said = claude_rows.first_start(screen)
        except Failed as failed:
            said = failed.what
    assert words in said
