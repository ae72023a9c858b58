"""The rows with the scripted backend, and those about the user's login: each is red for its own fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from claude_local.fence.config import FenceConfig, dump
from claude_local.verify import credentials_rows, processes
from claude_local.verify.checks import Failed, Skipped
from claude_local.verify.session import Session
from claude_local.verify.temporary_home import TemporaryHome
from claude_local.verify.workbench import Workbench
from tests.verify.played import Play, events, played, run_row, says, talked
from tests.verify.verify_lab import write

TOOLS = ("Glob", "Read", "Write")


def scripted_play(
    *, tools: tuple[str, ...] = TOOLS, leak: str = "", leaves: str = "", breaks: str = "", writes: bool = True
) -> Play:
    """A session that behaves like Claude Code towards the scripted backend; the arguments are its faults."""

    def play(place: TemporaryHome, arguments: tuple[str, ...], server: str | None) -> Session:
        assert server is not None
        messages: list[dict[str, Any]] = [{"role": "user", "content": "go"}]
        offered = [{"name": name, "input_schema": {"type": "object"}} for name in tools]
        secret = place.login.secrets[("access", "refresh", "key").index(leak)] if leak else "harmless"
        for _ in range(4):
            body = {"model": "claude-local", "max_tokens": 9, "tools": offered, "messages": messages}
            answer = requests.post(f"{server}/v1/messages", json=body, headers={"X-Api-Key": secret}, timeout=10).json()
            messages.append({"role": "assistant", "content": answer["content"]})
            results = []
            for block in answer["content"]:
                if block["type"] == "tool_use" and block["name"] in tools:
                    results.append({"type": "tool_result", "tool_use_id": block["id"], **work(place, block)})
            if not results:
                break
            messages.append({"role": "user", "content": results})
        if leaves:
            write(place.root / leaves, "x")
        return played(events("All done."), peers=talked(("127.0.0.1", int(server.rpartition(":")[2]))))

    def work(place: TemporaryHome, block: dict[str, Any]) -> dict[str, Any]:
        name, given = block["name"], block["input"]
        if name == breaks:
            return {"content": "EROFS: read-only file system", "is_error": True}
        if name == "Glob":
            return {"content": "\n".join(str(path) for path in place.workspace.glob(given["pattern"]))}
        target = place.root / Path(given["file_path"]).relative_to(place.home)
        if name == "Read":
            return {"content": [{"type": "text", "text": target.read_text()}]}
        if writes:
            target.write_text(given["content"])
        return {"content": "created"}

    return play


@pytest.mark.parametrize("name", ["scripted.glob", "scripted.read", "scripted.write", "credentials.planted"])
def test_the_scripted_rows_pass(stage: Callable[[Play], Workbench], name: str) -> None:
    with stage(scripted_play()) as bench:
        assert run_row(bench, name)


@pytest.mark.parametrize(
    ("name", "play", "words"),
    [
        ("scripted.glob", scripted_play(breaks="Glob"), "Glob failed: EROFS"),
        ("scripted.read", scripted_play(breaks="Read"), "Read failed"),
        ("scripted.write", scripted_play(breaks="Write"), "Write failed"),
        ("scripted.write", scripted_play(writes=False), "written.txt on disk is None"),
        ("scripted.glob", says("I ended early."), "never ran"),
        ("scripted.glob", lambda *a: played([], status=1, err="claude-local: no claude"), "no claude"),
        ("credentials.planted", scripted_play(leak="access"), "holds a planted cloud secret"),
        ("credentials.planted", scripted_play(leak="refresh"), "holds a planted cloud secret"),
        ("credentials.planted", scripted_play(leak="key"), "holds a planted cloud secret"),
        ("credentials.planted", scripted_play(leaves=".claude/projects/x.jsonl"), "sessions left .claude/projects"),
        ("credentials.planted", scripted_play(leaves=".claude/.credentials.json"), "a session changed ~/.claude"),
        ("credentials.planted", scripted_play(leaves=".claude.json"), "a session changed ~/.claude"),
        ("credentials.planted", scripted_play(leaves=".claude/ssh/known_hosts"), "sessions left"),
    ],
)
def test_each_scripted_row_is_red_for_its_own_fault(
    stage: Callable[[Play], Workbench], name: str, play: Play, words: str
) -> None:
    with stage(play) as bench, pytest.raises(Failed) as caught:
        run_row(bench, name)
    assert words in caught.value.what


def test_a_tool_that_the_profile_does_not_offer_is_skipped(stage: Callable[[Play], Workbench]) -> None:
    with stage(scripted_play(tools=("Read", "Edit"))) as bench, pytest.raises(Skipped, match="no Glob"):
        run_row(bench, "scripted.glob")


def test_the_sandboxs_empty_stubs_are_accepted_only_without_the_outer_fence(stage: Callable[[Play], Workbench]) -> None:
    def stub(place: TemporaryHome, arguments: tuple[str, ...], server: str | None) -> Session:
        found = scripted_play()(place, arguments, server)
        (place.root / ".claude/ssh").mkdir()
        return found

    with stage(stub) as bench:
        with pytest.raises(Failed, match=r"sessions left \.claude/ssh in ~/\.claude"):
            run_row(bench, "credentials.planted")
        write(bench.paths.fence_config, dump(FenceConfig(layers=("inner",), reason="no user namespaces")))
        assert "but the sandbox's empty .claude/ssh" in run_row(bench, "credentials.planted")


def test_the_users_own_login_is_compared_over_the_whole_run(
    stage: Callable[[Play], Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    with stage(says("Done.")) as bench:
        own = Path(bench.paths.home)
        write(own / ".claude/settings.json", "{}")
        credentials_rows.remember_own_login(bench)
        assert "2 files and directories" in run_row(bench, "credentials.own")
        monkeypatch.setattr(processes, "others_named", lambda name, marker: [])
        bench._values["other claudes"] = ([], None)
        write(own / ".claude.json", "{}")
        with pytest.raises(Failed, match=r"1 changes in ~/.claude: \+ "):
            run_row(bench, "credentials.own")
        monkeypatch.setattr(processes, "others_named", lambda name, marker: [42])
        with pytest.raises(Skipped, match="process 42"):
            run_row(bench, "credentials.own")
