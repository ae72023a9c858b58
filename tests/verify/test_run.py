"""How verify runs its checks and reports them."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from claude_local.claude.running_sessions import RunningSession
from claude_local.server.client import LlamaClient, ServerError
from claude_local.verify import __main__ as program
from claude_local.verify import processes
from claude_local.verify.catalogue import catalogue
from claude_local.verify.checks import Check, Failed, Row, Skipped, one_line, run, select
from claude_local.verify.display import Display, totals
from claude_local.verify.parameters import ParametersError, holds, parse, value_at
from claude_local.verify.report import Reporter, as_json, write_atomically
from claude_local.verify.running_sessions import ASK, notice
from claude_local.verify.workbench import Workbench
from tests.verify.verify_lab import Silent, deployed, parameters


def passes(bench: Workbench) -> str:
    return "good"


def fails(bench: Workbench) -> str:
    raise Failed("broken", "mend it")


def skips(bench: Workbench) -> str:
    raise Skipped("not here")


def rows(tmp_path: Path, *checks: Check) -> dict[str, Row]:
    with Workbench(parameters(tmp_path)) as bench:
        return {result.id: result for result in run(checks, bench, Silent())}


def test_a_check_passes_fails_or_is_skipped_with_its_evidence(tmp_path: Path) -> None:
    found = rows(tmp_path, Check("a", "A", passes), Check("b", "B", fails), Check("c", "C", skips))
    assert [(r.status, r.evidence, r.fix) for r in found.values()] == [
        ("PASS", "good", ""), ("FAIL", "broken", "mend it"), ("SKIP", "not here", ""),
    ]  # fmt: skip


def test_a_check_whose_need_failed_is_skipped_and_names_the_first_cause(tmp_path: Path) -> None:
    found = rows(
        tmp_path, Check("a", "A", fails), Check("b", "B", passes, needs=("a",)), Check("c", "C", passes, needs=("b",)),
        Check("d", "D", skips), Check("e", "E", passes, needs=("d",)),
    )  # fmt: skip
    assert {name: (r.status, r.evidence) for name, r in found.items() if name in "bce"} == {
        "b": ("SKIP", "needs a, which failed"),
        "c": ("SKIP", "needs a, which failed"),
        "e": ("SKIP", "needs d, which was skipped"),
    }


def test_a_check_that_hangs_fails_at_its_limit_and_the_next_one_runs(tmp_path: Path) -> None:
    def hangs(bench: Workbench) -> str:
        time.sleep(120)
        return "never"

    begin = time.monotonic()
    found = rows(tmp_path, Check("a", "A", hangs, limit=0.3), Check("b", "B", passes))
    assert time.monotonic() - begin < 60
    assert found["a"].status == "FAIL" and "no result after" in found["a"].evidence
    assert found["b"].status == "PASS"


def test_a_server_that_does_not_listen_is_a_failure_with_the_command_that_starts_it(tmp_path: Path) -> None:
    def asks(bench: Workbench) -> str:
        return LlamaClient("http://127.0.0.1:9").request("GET", "/").text

    found = rows(tmp_path, Check("a", "A", asks))
    assert found["a"].status == "FAIL" and "http://127.0.0.1:9" in found["a"].evidence
    assert found["a"].fix.startswith("docker start claude-local-server")


def test_a_connection_that_breaks_is_a_failure_with_the_command_that_shows_the_log(tmp_path: Path) -> None:
    def breaks(bench: Workbench) -> str:
        raise ServerError("the connection broke", "broken")

    found = rows(tmp_path, Check("a", "A", breaks))
    assert found["a"].evidence == "the connection broke" and "docker logs" in found["a"].fix


def test_an_error_in_a_check_is_a_failure_not_a_traceback(tmp_path: Path) -> None:
    def breaks(bench: Workbench) -> str:
        return str({}["x"])

    found = rows(tmp_path, Check("a", "A", breaks), Check("b", "B", passes))
    assert found["a"].status == "FAIL" and "KeyError" in found["a"].evidence and found["a"].fix
    assert found["b"].status == "PASS"


def test_what_a_check_leaves_running_is_ended(tmp_path: Path) -> None:
    def leaves(bench: Workbench) -> str:
        child = subprocess.Popen(["sleep", "300"], env=bench.environment(), start_new_session=True)
        while child.pid not in processes.marked(bench.marker):  # its environment shows a moment after its start
            time.sleep(0.01)
        bench.on_close(lambda: child.wait(timeout=5))
        return str(child.pid)

    found = rows(tmp_path, Check("a", "A", leaves))
    assert not Path(f"/proc/{found['a'].evidence}").exists()


def test_a_value_is_made_once_and_a_failure_is_remembered_too(tmp_path: Path) -> None:
    bench, asked = Workbench(parameters(tmp_path)), []

    def look() -> str:
        asked.append(1)
        raise Failed("gone")

    for _ in range(2):
        with pytest.raises(Failed):
            bench.once("it", look)
    assert len(asked) == 1 and bench.known("it") is None


def test_evidence_is_one_clean_line() -> None:
    assert one_line("a\n\x1b[31mb\x1b[0m\t  c\x07") == "a b c"
    assert len(one_line("x" * 999)) == 400


def test_a_selection_brings_what_it_needs_in_order() -> None:
    checks = [Check("a", "", passes), Check("b", "", passes, needs=("a",)), Check("c", "", passes, needs=("b",)),
              Check("d", "", passes)]  # fmt: skip
    assert [check.id for check in select(checks, ["c"])] == ["a", "b", "c"]
    assert [check.id for check in select(checks, [])] == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match=r"'x\*'\n  Fix: llama-local verify --list"):
        select(checks, ["x*"])


def test_the_catalogue_has_unique_ids_and_every_need_stands_before(tmp_path: Path) -> None:
    earlier: set[str] = set()
    for check in catalogue(parameters(tmp_path, profiles=("small", "big"), default="big")):
        assert check.id not in earlier
        assert earlier.issuperset(check.needs), f"{check.id} needs {set(check.needs) - earlier}"
        assert check.title and check.limit > 0
        earlier.add(check.id)
    assert {"model.small", "model.big", "messages.mid-system.small", "claude.write", "scripted.write"} <= earlier


# --- the report -----------------------------------------------------------------------------------------------------

ROWS = [
    Row("a", "first", "PASS", "good", "", 0.1),
    Row("b", "second", "FAIL", "bad [brackets]", "./provision", 2.5),
    Row("c", "third", "SKIP", "needs b, which failed", "", 0.0),
]


def test_the_json_report_has_every_row_and_says_whether_all_is_well() -> None:
    document = as_json(ROWS, deep=True, only=["x"], seconds=3.21)
    assert document["ok"] is False and document["totals"] == "1 of 3 checks failed, 1 skipped"
    assert document["rows"][1] == {
        "id": "b", "title": "second", "status": "FAIL", "evidence": "bad [brackets]", "fix": "./provision",
        "seconds": 2.5,
    }  # fmt: skip
    assert as_json(ROWS[::2], deep=False, only=[], seconds=0)["ok"] is True
    assert totals(ROWS[:1]) == "1 check passed" and totals(ROWS[::2]) == "1 check passed, 1 skipped"


def test_the_report_is_replaced_whole_and_private(tmp_path: Path) -> None:
    target = tmp_path / "state" / "verify.json"
    write_atomically(target, {"ok": True})
    write_atomically(target, {"ok": False})
    assert json.loads(target.read_text()) == {"ok": False}
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(TypeError):
        write_atomically(target, {"ok": object()})
    assert json.loads(target.read_text()) == {"ok": False} and os.listdir(target.parent) == ["verify.json"]


class Terminal(io.StringIO):
    """A pseudo-terminal's width, and what was written."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.controller, self.terminal = os.openpty()
        termios.tcsetwinsize(self.terminal, (24, columns))

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.terminal

    def close(self) -> None:
        os.close(self.controller)
        os.close(self.terminal)
        super().close()

    def screen(self) -> list[str]:
        """The lines as a person sees them, without colours."""
        text = re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue())
        return [line.rpartition("\r\x1b[K")[2] for line in text.split("\n")]


LONG = "a sentence with many words " * 12


def test_in_a_log_each_row_is_one_line_with_all_evidence() -> None:
    out = io.StringIO()
    display = Display(out, 74)
    for row in [*ROWS, Row("d", "fourth", "PASS", LONG, "", 0.0)]:
        display.row(row)
    assert out.getvalue().splitlines() == [
        "PASS   1/74  a  good  (0.1 s)",
        "FAIL   2/74  b  bad [brackets]  (2.5 s)",
        "SKIP   3/74  c  needs b, which failed  (0.0 s)",
        f"PASS   4/74  d  {LONG}  (0.0 s)",
    ]


@pytest.mark.parametrize("columns", [80, 0])
@pytest.mark.parametrize("name", ["d", "messages.mid-system.qwen3.6-35b-a3b-ud-q4", "x" * 70])
def test_a_terminal_of_80_columns_or_of_unknown_size_is_never_exceeded(name: str, columns: int) -> None:
    out = Terminal(columns)
    display = Display(out, 74)
    display.row(Row(name, "fourth", "PASS", LONG, "", 12.3))
    assert max(map(len, out.screen())) <= 80 and "…" in out.getvalue()
    assert len(name) > 60 or "(12.3 s)" in out.getvalue()
    display.row(Row(name, LONG, "FAIL", LONG, "./provision    (and wait)", 0.0))
    display.running(name, LONG, 16.0)
    assert max(map(len, [*out.screen(), *"\n".join(display.closing("/state/verify.json")).splitlines()])) <= 80


def test_evidence_of_a_failure_and_with_verbose_of_every_row_is_whole() -> None:
    for status, verbose in (("FAIL", False), ("SKIP", False), ("PASS", True)):
        out = Terminal(80)
        Display(out, 1, verbose=verbose).row(Row("a", "first", status, LONG, "", 0.0))
        assert " ".join(" ".join(out.screen()).split()).endswith(LONG.strip())


def test_the_end_names_the_failures_with_their_fixes_and_nothing_else() -> None:
    display = Display(io.StringIO(), 3)
    for row in ROWS:
        display.row(row)
    assert display.closing("/state/verify.json") == [
        "All evidence: /state/verify.json",
        "1 of 3 checks failed, 1 skipped:",
        "",
        "  b: second",
        "    bad [brackets]",
        "    fix: ./provision",
    ]
    good = Display(io.StringIO(), 1)
    good.row(ROWS[0])
    assert good.closing("/state/verify.json")[-1] == "1 check passed"


def test_a_fix_can_be_copied_from_a_narrow_terminal() -> None:
    display, command = Display(Terminal(40), 1), f"touch /{'directory/' * 6}model.gguf && ./provision"
    display.row(Row("a", "first", "FAIL", "bad", f"{command}    (hashes it again)", 0.0))
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in display.closing("/state/verify.json")]
    assert lines[-2:] == [f"fix: {command}", "(hashes it again)"]


def test_a_slow_check_has_one_line_that_is_rewritten_and_erased() -> None:
    out = Terminal(80)
    display = Display(out, 3)
    for second in range(15, 30):
        display.running("slow", "reading", second)
    assert out.screen() == ["  ..  slow: reading  (29 s)"]
    display.row(ROWS[0])
    assert out.screen() == ["PASS  1/3  a  good  (0.1 s)", ""]


def test_a_slow_check_has_a_line_a_minute_in_a_log() -> None:
    out = io.StringIO()
    display = Display(out, 1)
    for second in range(15, 200):
        display.running("slow", "", second)
    assert out.getvalue().splitlines() == [f"  ..  slow  ({second} s)" for second in (15, 75, 135, 195)]


def test_only_a_check_that_takes_long_is_reported_as_running() -> None:
    running: list[tuple[str, str]] = []
    ended: list[Row] = []
    reporter = Reporter(ended.append, lambda name, detail, _: running.append((name, detail)), patience=0.2)
    reporter.started(Check("quick", "", passes))
    reporter.finished(ROWS[0])
    reporter.started(Check("slow", "", passes))
    reporter.detail("reading")
    until = time.monotonic() + 30
    while not running and time.monotonic() < until:
        time.sleep(0.02)
    reporter.finished(ROWS[1])
    count = len(running)
    time.sleep(0.3)
    assert set(running) == {("slow", "reading")} and len(running) == count and ended == ROWS[:2]


# --- sessions that would wait ---------------------------------------------------------------------------------------


def test_the_notice_names_the_sessions_and_what_they_wait_for() -> None:
    assert notice([], ("a", "b"), "/home/u") == []
    lines = notice(["/home/u/app", "/srv/x"], ("a", "b"), "/home/u")
    assert lines[0].startswith("2 claude-local sessions are running") and lines[1:3] == ["  ~/app", "  /srv/x"]
    assert any("2 models" in line for line in lines) and max(map(len, lines)) <= 80


# --- the program ----------------------------------------------------------------------------------------------------


def as_text(tmp_path: Path, **changed: Any) -> str:
    return json.dumps({**parameters(tmp_path).__dict__, "docker": None, **changed})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["they are not JSON"]),
        ("[]", ["they are a list"]),
        ('{"server_port": 80, "colour": 1}', ["colour: there is no such", "home: missing", "build: missing"]),
    ],
)
def test_every_unknown_and_missing_parameter_is_named_at_once(text: str, words: list[str]) -> None:
    with pytest.raises(ParametersError) as caught:
        parse(text)
    for each in words:
        assert any(problem.startswith(each) for problem in caught.value.problems), caught.value.problems


def test_key_paths_are_looked_up_and_an_enforced_group_may_hold_more() -> None:
    document = {"permissions": {"disableAutoMode": "disable", "allow": []}}
    assert value_at(document, "permissions.disableAutoMode") == "disable"
    assert value_at(document, "permissions.x.y") is None
    assert holds(value_at(document, "permissions"), {"disableAutoMode": "disable"})
    assert not holds(value_at(document, "permissions"), {"disableAutoMode": "x"})
    assert not holds(None, {"a": 1})


def test_the_program_shows_rows_writes_the_report_and_ends_with_a_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = deployed(tmp_path / "home")
    file = tmp_path / "parameters.json"
    file.write_text(json.dumps({**bench.parameters.__dict__}))
    only = ["--only", "settings.locks", "--only", "token", "--only", "model.*"]
    assert program.main(["--parameters", str(file), *only]) == 0
    assert capsys.readouterr().out.endswith("\n3 checks passed\n")
    Path(bench.paths.token).unlink()
    assert program.main(["--parameters", str(file), *only]) == 1
    lines = capsys.readouterr().out.splitlines()
    report = json.loads(Path(bench.paths.verify_report).read_text())
    assert [line.split()[2] for line in lines[:3]] == [row["id"] for row in report["rows"]]
    assert [(row["id"], row["status"]) for row in report["rows"]] == [
        ("model.small", "PASS"), ("token", "FAIL"), ("settings.locks", "PASS"),
    ]  # fmt: skip
    assert "1 of 3 checks failed:" in lines and lines[-1].startswith("    fix: ")


@pytest.mark.parametrize(
    ("ask", "answer", "only", "goes_on"),
    [
        ("1", "n\n", [], False), ("1", "", [], False), ("1", "\n", [], True), ("1", "Y\n", [], True),
        ("", "n\n", [], True), ("1", "n\n", ["--only", "token"], True),
    ],
)  # fmt: skip
def test_a_person_at_the_terminal_may_keep_the_model_for_the_running_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: str, answer: str, only: list[str], goes_on: bool
) -> None:
    monkeypatch.setattr(program, "running_sessions", lambda _: [RunningSession(1, "/srv/x", "", 0.0)])
    monkeypatch.setattr(program, "_run", lambda *_: 0)
    monkeypatch.setenv(ASK, ask)
    screen, keyboard = Terminal(80), Terminal(80)
    keyboard.write(answer)
    keyboard.seek(0)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stdin", keyboard)
    file = tmp_path / "parameters.json"
    file.write_text(as_text(tmp_path))
    assert program.main(["--parameters", str(file), *only]) == (0 if goes_on else 1)
    assert ("/srv/x" in screen.getvalue()) is (not only)
    assert ("Verify now?" in screen.getvalue()) is bool(ask and not only)


def test_bad_parameters_and_patterns_end_with_status_2_and_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "parameters.json"
    file.write_text("{}")
    assert program.main(["--parameters", str(file)]) == 2
    assert "home: missing" in capsys.readouterr().err
    file.write_text(as_text(tmp_path))
    assert program.main(["--parameters", str(file), "--only", "nothing"]) == 2
    assert "no check matches 'nothing'" in capsys.readouterr().err
    assert program.main(["--parameters", str(tmp_path / "absent")]) == 2


def test_a_second_verify_at_the_same_time_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = deployed(tmp_path / "home")
    file = tmp_path / "parameters.json"
    file.write_text(json.dumps({**bench.parameters.__dict__}))
    with program.only_run(Path(bench.paths.state)) as first:
        assert first
        assert program.main(["--parameters", str(file), "--only", "token"]) == 2
    assert "another verify is running" in capsys.readouterr().err


def test_a_terminated_verify_ends_what_it_started_and_leaves_no_report(tmp_path: Path) -> None:
    bench = deployed(tmp_path / "home", docker=None)
    slow = tmp_path / "path" / "docker"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 300\n")
    slow.chmod(0o755)
    text = json.dumps({**bench.parameters.__dict__})
    env = {**os.environ, "PATH": f"{slow.parent}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "claude_local.verify", "--parameters", "-", "--only", "docker.daemon"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.close()
    process.stdin = None

    def sleepers() -> list[int]:
        found = []
        for pid in processes.pids():
            try:
                if (
                    Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00300\x00"
                    and str(slow.parent).encode() in Path(f"/proc/{pid}/environ").read_bytes()
                ):
                    found.append(pid)
            except OSError:
                continue
        return found

    until = time.monotonic() + 60
    while not sleepers() and time.monotonic() < until:
        time.sleep(0.1)
    assert sleepers()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in err, err
    assert sleepers() == []
    assert not Path(bench.paths.verify_report).exists()
    assert [name for name in os.listdir(bench.paths.state) if name.startswith("verify")] == []


def test_a_child_that_ends_on_sigterm_is_not_waited_for_any_longer() -> None:
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    processes.stop_group(child.pid, lambda: child.poll() is not None, patience=600)
    assert child.poll() == -signal.SIGTERM
