"""The rows about the fence: green for a session that stays inside, red for their own fault. Sessions are made up."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from claude_local.fence.config import FenceConfig, dump
from claude_local.verify import fence_rows, fence_session, fence_terminal, network
from claude_local.verify.catalogue import catalogue
from claude_local.verify.checks import Failed, Skipped
from claude_local.verify.fence_session import FenceSession, sections
from claude_local.verify.fence_terminal import PromptResult
from claude_local.verify.listener import Listener, PortTaken
from claude_local.verify.processes import Finished
from claude_local.verify.session import Session, parse_events
from claude_local.verify.temporary_home import TemporaryHome
from claude_local.verify.workbench import Workbench
from tests.verify.verify_lab import deployed, write

IN_SESSION = [name.removeprefix("fence.") for name in (check.id for check in fence_rows.checks())][:-2]
REASON = "user namespaces are switched off"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Play:
    """A session of Claude Code as the backend sees one. ``said``: sections of Bash's report in place of the good ones.

    ``answers``: tool results (text, is_error) by the call's id. ``traces``: what it leaves on disk, below the temporary
    home. ``shows``: the names of decoys that Bash or Read (``read_shows``) get to see. ``visits``: it calls elsewhere.
    """

    def __init__(
        self, *, said: dict[str, str] | None = None, answers: dict[str, tuple[str, bool]] | None = None,
        traces: dict[str, str] | None = None, shows: str = "", read_shows: str = "", visits: bool = False,
        inside: bool = True, turns: int = 99,
    ) -> None:  # fmt: skip
        self.said, self.answers, self.traces = said or {}, answers or {}, traces or {}
        self.shows, self.read_shows, self.visits, self.inside, self.turns = shows, read_shows, visits, inside, turns

    def __call__(
        self, place: TemporaryHome, *arguments: str, timeout: float, server: str | None = None, watched: bool = False,
        folder: Path | None = None, variables: dict[str, str] | None = None,
    ) -> Session:  # fmt: skip
        assert server is not None and folder is not None
        workspace = place.root / folder.relative_to(place.home)
        script = (workspace / "verify-fence.sh").read_text()
        messages: list[dict[str, Any]] = [{"role": "user", "content": "go"}]
        for _ in range(self.turns):
            body = {"model": "claude-local", "max_tokens": 9, "tools": [{"name": "Bash"}], "messages": messages}
            answer = requests.post(f"{server}/v1/messages", json=body, timeout=10).json()
            messages.append({"role": "assistant", "content": answer["content"]})
            results = [self.result(place, workspace, script, block, variables or {})
                       for block in answer["content"] if block["type"] == "tool_use"]  # fmt: skip
            if not results:
                break
            messages.append({"role": "user", "content": results})
        for name, words in self.traces.items():
            write(place.root / name, words)
        text = json.dumps({"type": "result", "result": "All have run.", "is_error": False})
        return Session(Finished(0, text, "", 1.0), parse_events(text), None)

    def result(
        self, place: TemporaryHome, workspace: Path, script: str, block: dict[str, Any], variables: dict[str, str]
    ) -> dict[str, Any]:
        name = block["id"]
        said, bad = self.answers.get(name, ("EROFS: read-only file system", True))
        if name == "bash":
            said, bad = self.bash(place, workspace, script, variables), False
        elif name == "write-inside" and name not in self.answers:
            (workspace / "written.txt").write_text(block["input"]["content"])
            said, bad = "created", False
        elif name.startswith("read-") and self.read_shows and block["input"]["file_path"].endswith(self.read_shows):
            decoy = place.root / Path(block["input"]["file_path"]).relative_to(place.home)
            said, bad = decoy.read_text(), False
        return {"type": "tool_result", "tool_use_id": name, "content": said, "is_error": bad}

    def bash(self, place: TemporaryHome, workspace: Path, script: str, variables: dict[str, str]) -> str:
        elsewhere = script.partition("ELSEWHERE=(")[2].partition(")")[0]
        manager = script.partition("MANAGER=(")[2].partition(")")[0].split()[-1]
        server = script.partition("SERVER=(")[2].partition(")")[0].split()[-1]
        if self.visits:
            requests.get(elsewhere, timeout=5)
        home = place.home
        shown = (place.root / self.shows).read_text() if self.shows and self.shows not in variables else ""
        good = {
            "layers": "outer+inner",
            "process": "NoNewPrivs:\t1\nSeccomp:\t2",
            "inside": f"wrote {workspace}/inside.txt\nwrote /tmp/x",
            "outside": f"refused {home}/verify-outside.txt\nwrote {home}/.claude/verify-new",
            "secrets": f"cat: no such file\n{shown}{variables.get(self.shows, '')}",
            "server": requests.get(server, timeout=5).text + " HTTP 200",
            "manager": requests.post(manager, timeout=5).text + " HTTP 200",
            "elsewhere": "Connection blocked by network allowlist",
            "sudo": 'sudo: The "no new privileges" flag is set',
            "sockets": "",
            "processes": "claude\nbash",
            "guarded": "refused .envrc",
            "end": "",
        }
        if self.inside:
            (workspace / "inside.txt").write_text("planted\n")
        report = {**good, **self.said}
        (workspace / "verify-fence.out").write_text("".join(f"@@ {name}\n{text}\n" for name, text in report.items()))
        return "(Bash completed with no output)"


Stage = Callable[..., Workbench]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    def make(play: Play | None = None, **config: Any) -> Workbench:
        monkeypatch.setattr(TemporaryHome, "claude", lambda self, *a, **k: (play or Play())(self, *a, **k))
        monkeypatch.setattr(network, "strace_works", lambda directory: False)
        monkeypatch.setattr(fence_session, "sockets", lambda: [])
        bench = deployed(tmp_path / "home", server_port=free_port(), manager_port=free_port())
        write(bench.paths.fence_config, dump(FenceConfig(**config)))
        return bench

    return make


def run_row(bench: Workbench, name: str) -> str:
    return next(check for check in catalogue(bench.parameters) if check.id == f"fence.{name}").run(bench)


def test_a_session_that_stays_inside_passes_every_row(stage: Stage) -> None:
    with stage() as bench:
        assert all(run_row(bench, name) for name in IN_SESSION)


INSIDE = "verify-fence/"


@pytest.mark.parametrize(
    ("name", "play", "words"),
    [
        ("layers", Play(said={"layers": ""}), "behind 'no known layer'"),
        ("layers", Play(said={"layers": "inner"}), "behind 'inner', but fence.json says 'outer+inner'"),
        ("locked", Play(said={"process": "NoNewPrivs:\t0\nSeccomp:\t0"}), "without a sandbox"),
        ("locked", Play(said={"process": "NoNewPrivs:\t1\nSeccomp:\t0"}), "without a sandbox"),
        ("locked", Play(said={"outside": "wrote {home}/.claude-local/verify-new"}), "switch the sandbox"),
        ("bash-writes", Play(said={"inside": "refused x"}), "cannot write in the workspace"),
        ("bash-writes", Play(inside=False), "cannot write in the workspace"),
        ("bash-writes", Play(said={"outside": "wrote {home}/verify-outside.txt"}), "writes outside"),
        ("bash-writes", Play(traces={"verify-outside.txt": "x"}), "verify-outside.txt"),
        ("bash-writes", Play(traces={"verify-startup.sh": "x"}), "verify-startup.sh"),
        ("bash-writes", Play(traces={".claude-local/verify-new": "x"}), ".claude-local/verify-new"),
        ("file-writes", Play(answers={"write-inside": ("EROFS", True)}), "Write cannot write in the workspace: EROFS"),
        (
            "file-writes",
            Play(answers={"write-dots": ("created", False)}),
            "Write (write-dots) reports that it wrote outside",
        ),
        ("file-writes", Play(answers={"edit-old": ("done", False)}), "Edit (edit-old) reports that it wrote outside"),
        ("file-writes", Play(traces={"verify-startup.sh": "# changed"}), "verify-startup.sh"),
        ("bash-secrets", Play(shows=".ssh/id_ed25519"), "Bash reads .ssh/id_ed25519"),
        ("bash-secrets", Play(shows="VERIFY_API_TOKEN"), "Bash reads VERIFY_API_TOKEN"),
        ("bash-secrets", Play(said={"secrets": "t" * 43}), "Bash reads the API token"),
        ("read-secrets", Play(read_shows=".aws/credentials"), "Read reads .aws/credentials"),
        ("read-secrets", Play(read_shows=".claude/.credentials.json"), "Read reads ~/.claude"),
        ("read-secrets", Play(answers={"read-0": ("you haven't granted it yet", True)}), "asked for permission"),
        ("claude-server", Play(turns=3), "3 requests reached the server"),
        ("bash-server", Play(said={"server": "curl: (7) Failed to connect"}), "does not reach llama-server"),
        ("bash-manager", Play(said={"manager": "Connection blocked by network allowlist HTTP 403"}), "management API"),
        ("bash-elsewhere", Play(visits=True), "1 connections"),
        ("sudo", Play(said={"sudo": "0"}), "sudo works"),
        ("sockets", Play(said={"sockets": "reached /run/docker.sock"}), "can talk to /run/docker.sock"),
        ("processes", Play(said={"processes": "python {word}"}), "other processes"),
        ("guarded", Play(traces={INSIDE + ".git/hooks/pre-commit": "x"}), "planted or changed .git/hooks/pre-commit"),
        ("guarded", Play(traces={INSIDE + ".git/config": "x"}), ".git/config"),
        ("guarded", Play(traces={INSIDE + ".claude/settings.json": "{}"}), ".claude/settings.json"),
        ("guarded", Play(traces={INSIDE + ".envrc": "x"}), ".envrc"),
        ("guarded", Play(traces={INSIDE + ".bashrc": ""}), "left .bashrc"),
        ("claude-home", Play(traces={".claude/daemon/x": "x"}), "changed .claude/daemon"),
        ("claude-home", Play(traces={".claude/settings.json": "{}"}), "changed .claude/settings.json"),
    ],
)
def test_each_row_is_red_for_its_own_fault(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, name: str, play: Play, words: str
) -> None:
    bash = play.bash

    def filled(place: TemporaryHome, workspace: Path, script: str, variables: dict[str, str]) -> str:
        for section, text in play.said.items():
            play.said[section] = text.replace("{home}", str(place.home))
            if "{word}" in text:
                play.said[section] = text.replace("{word}", neighbours_word())
        return bash(place, workspace, script, variables)

    monkeypatch.setattr(play, "bash", filled)
    with stage(play) as bench, pytest.raises(Failed) as caught:
        run_row(bench, name)
    assert words in caught.value.what


def neighbours_word() -> str:
    """The word that the process beside the session has on its command line, as a session could only see it in /proc."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (folder / "cmdline").read_bytes().split(b"\0")
            mine = f"PPid:\t{os.getpid()}\n" in (folder / "status").read_text()
            if mine and b"import time; time.sleep(120)" in line:
                return line[-2].decode()
    raise AssertionError("verify started no process beside the session")


@pytest.mark.parametrize(
    ("config", "outcome", "words"),
    [
        ({"layers": ("inner",), "reason": REASON}, Skipped, f"one layer only, inner .*{REASON}"),
        ({"layers": ("inner",)}, Failed, "the outer layer is off and fence.json gives no reason"),
        ({"layers": (), "reason": REASON}, Failed, f"no fence works on this machine: {REASON}"),
    ],
)
def test_a_missing_layer_is_reported(
    stage: Stage, config: dict[str, Any], outcome: type[Exception], words: str
) -> None:
    with stage(Play(said={"layers": "inner"}), **config) as bench, pytest.raises(outcome, match=words):
        run_row(bench, "layers")


def test_what_only_a_missing_layer_could_keep_is_a_remark(stage: Stage) -> None:
    faulty = Play(traces={".claude/ssh/x": "x"}, said={"sudo": "0"})
    with stage(faulty, layers=("inner",), reason=REASON) as bench:
        with pytest.raises(Skipped, match=f"not without the outer layer .{REASON}.: the session changed .claude/ssh"):
            run_row(bench, "claude-home")
        with pytest.raises(Failed, match="sudo works"):
            run_row(bench, "sudo")


def test_without_any_layer_no_session_is_started(stage: Stage) -> None:
    with stage(Play(turns=0), layers=(), reason=REASON) as bench, pytest.raises(Skipped, match=r"see fence\.layers"):
        run_row(bench, "sudo")


@pytest.mark.parametrize(("text", "words"), [(None, "was never set up"), ("{", "cannot be used")])
def test_without_a_usable_fence_json_the_rows_fail(stage: Stage, text: str | None, words: str) -> None:
    with stage() as bench:
        path = Path(bench.paths.fence_config)
        path.unlink() if text is None else path.write_text(text)
        with pytest.raises(Failed, match=words):
            run_row(bench, "layers")


def test_what_the_user_made_visible_is_no_secret_and_what_they_hid_is_one(stage: Stage, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with stage(visible=(str(home / ".kube"),), hidden=(str(home / "diary"), "/elsewhere")) as bench:
        names = fence_session.fence_session(bench).decoys
    assert "diary/verify-decoy" in names and ".ssh/id_ed25519" in names
    assert not [name for name in names if name.startswith((".kube", "/", ".."))]


def test_a_manager_that_runs_is_asked_instead_of_a_stand_in(stage: Stage) -> None:
    with stage() as bench, Listener("the real one", bench.parameters.manager_port) as manager:
        run: FenceSession = fence_session.fence_session(bench)
        assert run.manager.curl == [f"http://127.0.0.1:{manager.port}/status"]
        assert "(a stand-in for the test)" not in run_row(bench, "bash-manager")
        assert "(a stand-in for the test)" in run_row(bench, "bash-server")


def test_a_listener_counts_who_came_and_gives_the_port_back() -> None:
    with Listener("hello") as listener:
        assert requests.post(f"http://127.0.0.1:{listener.port}/switch", timeout=5).text == "hello\n"
        with pytest.raises(PortTaken):
            Listener("", listener.port)
        assert listener.connections == 1
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{listener.port}/", timeout=5)


def test_a_report_is_cut_into_its_sections() -> None:
    assert sections("noise\n@@ one\na\n\nb\n@@ two\n") == {"one": ["a", "", "b"], "two": []}


@pytest.mark.parametrize(
    ("name", "result", "words"),
    [
        ("prompt", PromptResult(asked=["default", "plan"]), ""),
        ("prompt", PromptResult(asked=["plan"], ran=["default"]), "ran without a question in default mode"),
        ("prompt", PromptResult(asked=["plan"]), "asked in plan mode only"),
        ("status-line", PromptResult(status_line="fenced · Small"), ""),
        ("status-line", PromptResult(status_line=""), "instead of 'fenced'"),
        ("status-line", PromptResult(status_line="fenced by one layer of two (outer)"), "instead of 'fenced'"),
        ("status-line", PromptResult(status_line="NO FENCE · Small"), "instead of 'fenced'"),
    ],
)
def test_the_terminals_rows(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, name: str, result: PromptResult, words: str
) -> None:
    monkeypatch.setattr(fence_rows, "prompt_result", lambda bench: result)
    with stage() as bench:
        if not words:
            assert run_row(bench, name)
        else:
            with pytest.raises(Failed, match=words):
                run_row(bench, name)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("  fenced · Small", True),
        ("  fenced by one layer of two (outer)", True),
        ("  NO FENCE · x", True),
        ("~/verify-fence", False),
    ],
)
def test_the_status_line_is_not_mistaken_for_the_folders_name(line: str, found: bool) -> None:
    assert bool(fence_terminal.STATUS.search(line)) is found
