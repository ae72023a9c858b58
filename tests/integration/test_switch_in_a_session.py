"""A terminal session that changes its model: by /model, by /switch and by curl. The next turn is answered by the new
model with the whole conversation, and the line below the prompt follows."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_local.verify import model_choice_rows
from claude_local.verify.checks import Failed
from claude_local.verify.scripted_backend import text, tool_use
from claude_local.verify.workbench import Workbench
from tests.integration.fenced_home import TOKEN, Person, person
from tests.integration.tty import Tty
from tests.integration.two_profiles import two_profiles
from tests.verify.verify_lab import parameters

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("claude_code")]


@pytest.fixture(scope="module")
def who() -> Iterator[Person]:
    with person("root", "") as somebody:
        yield somebody


def curl(profile: str) -> dict[str, Any]:
    """A call of the Bash tool that switches to ``profile``."""
    url = "http://127.0.0.1:$CLAUDE_LOCAL_MANAGER/switch"
    return tool_use("Bash", {"command": f'curl -s -X POST {url} -d \'{{"model": "{profile}"}}\''})


def terminal(who: Person, work: Path, *arguments: str) -> Tty:
    env = who.environment() | {"PWD": str(work)}
    env.pop("CLAUDE_LOCAL_SERVER", None)
    return Tty([who.paths.wrapper, *arguments], env=env, cwd=str(work), become=who.become)


def test_model_switch_and_curl_each_bring_another_model_with_the_whole_conversation(
    who: Person, tmp_path: Path
) -> None:
    work = who.workspace("switching")
    turns = [
        text("Answer one."), text("Answer two."), curl("small"), text("Answer three."),
        text("Answer four."), text("Answer five."),
    ]  # fmt: skip
    with two_profiles(who, tmp_path, turns) as backend, terminal(who, work, "--allowedTools", "Bash") as tty:
        tty.wait_for_prompt()
        tty.type("first question")
        tty.wait_for("Answer one.")
        tty.wait_for("of 64k tokens")
        tty.type("/switch")
        tty.wait_for("* large")
        tty.type("/switch small")
        tty.wait_for("small answers from now on")
        assert "32,768 tokens of context" in tty.text and "after 65,536" in re.sub(r"\s+", " ", tty.text)
        tty.wait_for("of 32k tokens")
        assert "Small Coder ·" in tty.text and len(backend.main_requests) == 1, "no model answers the command"
        tty.type("second question")
        tty.wait_for("Answer two.")
        tty.type("/switch large")
        tty.wait_for("large answers from now on")
        tty.type("third question")
        tty.wait_for("Answer three.")
        tty.wait_for("Small Coder ·")
        tty.type("fourth question")
        tty.wait_for("Answer four.")
        tty.type("/model large")
        tty.wait_for("Yes, switch to Large Coder")
        tty.press_until("\r", lambda: "Set model to Large Coder" in tty.text, "the choice")
        tty.wait_for("new sessions use that while it is set")  # not what it has just saved as a default
        tty.type("fifth question")
        tty.wait_for("Answer five.")
        tty.wait_for("Large Coder ·")
    assert backend.answered == ["large", "small", "large", "small", "small", "large"]
    told = json.dumps(backend.main_requests[-1]["body"]["messages"])
    order = [told.index(f"{word} question") for word in ("first", "second", "third", "fourth", "fifth")]
    assert order == sorted(order) and "Answer one." in told
    assert "previous_ctx_size" in told, "what curl was told"


def run(who: Person, work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``claude-local`` on the home's own server."""
    env = who.environment() | {"PWD": str(work)}
    env.pop("CLAUDE_LOCAL_SERVER", None)
    return who.run([who.paths.wrapper, *arguments], work, env)


def printed(who: Person, work: Path, *arguments: str) -> str:
    """``claude-local -p`` on the home's own server."""
    done = run(who, work, "-p", "go", "--allowedTools", "Bash,Read", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_session_that_switches_ten_times_loses_nothing(who: Person, tmp_path: Path) -> None:
    turns = [curl(profile) for _ in range(5) for profile in ("small", "large")]
    with two_profiles(who, tmp_path, [*turns, text("The end.")]) as backend:
        assert printed(who, who.workspace("ten")) == "The end.\n"
    assert backend.answered == ["large", "small"] * 5 + ["large"]
    told = json.dumps(backend.main_requests[-1]["body"]["messages"])
    assert told.count("previous_ctx_size") == 10 and backend.refused == 0


def reads(work: Path, count: int, lines: int = 280) -> list[dict[str, Any]]:
    """Calls of the Read tool, one for each new file, with 10 tokens a line."""
    calls = []
    for number in range(count):
        (work / f"f{number}").write_text(f"a line of text that stands here {number}\n" * lines)
        calls.append(tool_use("Read", {"file_path": str(work / f"f{number}")}))
    return calls


def test_a_conversation_that_the_new_window_cannot_take_is_compacted_before_the_switch(
    who: Person, tmp_path: Path
) -> None:
    """1.9 windows. If the switch went through, Claude Code (2.1.330) could never get it into the small one."""
    work = who.workspace("too-long")
    turns = [*reads(work, 13, 430), text("All is read."), text("The small one goes on.")]
    with (
        two_profiles(who, tmp_path, turns) as backend,
        terminal(who, work, "--tools", "Bash,Read", "--allowedTools", "Read") as tty,
    ):

        def tokens() -> int:
            (session,) = backend.manager.get("/sessions").json()["sessions"]
            return session["tokens"] or 0

        tty.wait_for_prompt()
        tty.type("read them")
        tty.wait_for("All is read.", seconds=60)
        tty.wait(lambda: tokens() > 55_000, "the length of the conversation at the management API")
        tty.type("/switch small")
        tty.wait_for("small takes 32,768 tokens")
        refused = backend.manager.post("/switch", {"model": "small"}, token=TOKEN)
        assert refused.status_code == 409 and f"the session in {work} has " in refused.json()["error"]
        tty.type("/model small")
        tty.wait_for("/compact it first")
        tty.press_until("\x1b", lambda: "Kept model" in tty.text, "the former model")
        tty.type("/compact")
        tty.wait(lambda: tokens() < 32_768, "the shorter conversation at the management API")
        tty.type("/switch small")
        tty.wait_for("small answers from now on")
        tty.type("go on")
        tty.wait_for("The small one goes on.")
    assert backend.answered[-1] == "small" and backend.summaries == 1 and backend.refused == 0


def test_a_conversation_goes_on_with_a_small_model_after_the_fix_that_the_refusal_names(
    who: Person, tmp_path: Path
) -> None:
    """Without the refusal, Claude Code (2.1.330) compacts twice and ends with: Prompt is too long."""
    work = who.workspace("goes-on")
    turns = [*reads(work, 13, 430), text("All is read."), text("The small one goes on.")]
    with two_profiles(who, tmp_path, turns) as backend:
        few = ("--tools", "Bash,Read")
        printed(who, work, *few)
        small = ("--continue", "--model", "small", *few)
        asked = len(backend.requests)
        refused = run(who, work, "-p", "go on", *small)
        assert refused.returncode == 1 and "small takes 32,768 tokens, but this conversation has" in refused.stderr
        assert len(backend.requests) == asked
        fix = re.search(r"Fix: claude-local (.*?)    ", refused.stderr)
        assert fix and run(who, work, *fix[1].split(), *few).returncode == 0
        assert printed(who, work, *small) == "The small one goes on.\n"
    assert backend.answered[-1] == "small" and backend.summaries == 1 and backend.refused == 0


def test_a_smaller_window_is_reported_and_the_conversation_compacted(who: Person, tmp_path: Path) -> None:
    work = who.workspace("smaller")
    turns = [*reads(work, 15), curl("small"), text("All is read.")]
    with two_profiles(who, tmp_path, turns) as backend:
        assert printed(who, work, "--tools", "Bash,Read") == "All is read.\n"
    assert backend.answered == ["large"] * 16 + ["small"] and backend.refused and backend.summaries
    reported = json.dumps([request["body"] for request in backend.main_requests])
    assert '"previous_ctx_size' in reported.replace("\\", "")


def test_verifys_rows_find_the_profiles_in_model_and_a_name_that_is_not_served(
    who: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in who.environment().items():
        monkeypatch.setenv(name, value)
    names, model_list = model_choice_rows.checks()
    with (
        two_profiles(who, tmp_path, []) as backend,
        Workbench(parameters(who.home, server_port=backend.port)) as bench,
    ):
        backend.models = ["claude-local", "small", "large"]
        assert "claude-local" in names.run(bench) and "Small Coder, Large Coder" in model_list.run(bench)
        backend.models = ["small", "large"]
        with pytest.raises(Failed, match="asks for claude-local"):
            names.run(bench)


def test_a_session_learns_the_profiles_of_others_and_not_where_they_work(who: Person, tmp_path: Path) -> None:
    """Its own record stands for that of another session."""
    work = who.workspace("known-to-nobody")
    state = who.paths.state
    looks = (
        "curl -s http://127.0.0.1:$CLAUDE_LOCAL_MANAGER/sessions > told.json;"
        f" cat {state}/sessions/* {state}/fence/* > seen.txt 2>&1; true"
    )
    with two_profiles(who, tmp_path, [tool_use("Bash", {"command": looks}), text("Done.")]):
        printed(who, work)
    (session,) = json.loads((work / "told.json").read_text())["sessions"]
    assert session.keys() == {"profile", "own", "since", "tokens"} and session["profile"] == "large"
    assert "No such file" in (work / "seen.txt").read_text()
