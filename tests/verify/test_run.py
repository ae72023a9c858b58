"""How verify runs its checks and reports them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from claude_local.server.client import LlamaClient, ServerError
from claude_local.verify import __main__ as program
from claude_local.verify import processes
from claude_local.verify.catalogue import catalogue
from claude_local.verify.checks import Check, Failed, Row, Skipped, one_line, run, select
from claude_local.verify.parameters import ParametersError, holds, parse, value_at
from claude_local.verify.report import Reporter, as_json, totals, write_atomically
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
    with pytest.raises(ValueError, match=r"'x\*'.*a, b, c, d"):
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
    assert document["ok"] is False and document["totals"] == "1 passed, 1 failed, 1 skipped"
    assert document["rows"][1] == {
        "id": "b", "title": "second", "status": "FAIL", "evidence": "bad [brackets]", "fix": "./provision",
        "seconds": 2.5,
    }  # fmt: skip
    assert as_json(ROWS[::2], deep=False, only=[], seconds=0)["ok"] is True
    assert totals([]) == "0 passed, 0 failed, 0 skipped"


def test_the_report_is_replaced_whole_and_private(tmp_path: Path) -> None:
    target = tmp_path / "state" / "verify.json"
    write_atomically(target, {"ok": True})
    write_atomically(target, {"ok": False})
    assert json.loads(target.read_text()) == {"ok": False}
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(TypeError):
        write_atomically(target, {"ok": object()})
    assert json.loads(target.read_text()) == {"ok": False} and os.listdir(target.parent) == ["verify.json"]


def shown(action: Any) -> str:
    out = io.StringIO()
    action(Reporter(Console(file=out, width=140, highlight=False), 3, heartbeat=0.05))
    return out.getvalue()


def test_a_row_is_shown_when_it_ends_with_its_fix_and_the_table_repeats_all() -> None:
    def act(reporter: Reporter) -> None:
        for result in ROWS:
            reporter.finished(result)
        reporter.table(ROWS)

    text = shown(act)
    assert "FAIL   2/3  b  bad [brackets]  (2.5 s)\n      fix: ./provision\n" in text
    assert text.count("needs b, which failed") == 2 and text.count("./provision") == 2


def test_a_slow_check_shows_what_it_is_doing() -> None:
    def act(reporter: Reporter) -> None:
        reporter.started(Check("slow", "a slow one", passes))
        reporter.detail("reading")
        until = time.monotonic() + 30
        while "reading (" not in reporter.console.file.getvalue() and time.monotonic() < until:  # type: ignore[attr-defined]
            time.sleep(0.02)
        reporter.finished(ROWS[0])
        time.sleep(0.2)

    lines = shown(act).splitlines()
    assert any(line.strip().startswith("..   slow: reading (") for line in lines)
    assert lines[-1].startswith("PASS")


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


def test_the_program_ends_with_the_totals_and_the_report_and_an_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = deployed(tmp_path / "home")
    file = tmp_path / "parameters.json"
    file.write_text(json.dumps({**bench.parameters.__dict__}))
    only = ["--only", "settings.locks", "--only", "token", "--only", "model.*"]
    assert program.main(["--parameters", str(file), *only]) == 0
    assert capsys.readouterr().out.rstrip().endswith("3 passed, 0 failed, 0 skipped")
    Path(bench.paths.token).unlink()
    assert program.main(["--parameters", str(file), "--json", *only]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads(Path(bench.paths.verify_report).read_text())
    assert [(row["id"], row["status"]) for row in said["rows"]] == [
        ("model.small", "PASS"), ("token", "FAIL"), ("settings.locks", "PASS"),
    ]  # fmt: skip


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

    until = time.monotonic() + 20
    while not sleepers() and time.monotonic() < until:
        time.sleep(0.1)
    assert sleepers()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "interrupted" in err, err
    assert sleepers() == []
    assert not Path(bench.paths.verify_report).exists()
    assert [name for name in os.listdir(bench.paths.state) if name.startswith("verify")] == []
