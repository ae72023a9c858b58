"""Behind the fence the terminal works as it does with claude alone: keys, signals, statuses, and nothing left over.

What claude alone does is measured, with ``claude-local --unfenced``, not written down here.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from claude_local.fence.quarantine import SUFFIX
from claude_local.verify.scripted_backend import error, text, tool_use
from claude_local.verify.terminal import at_prompt
from tests.integration.fenced_home import Person, person, snapshot
from tests.integration.slow_backend import SlowBackend
from tests.integration.tty import COLUMNS, LONGEST, ROWS, Tty

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("claude_code")]

FENCED: tuple[str, ...] = ()
UNFENCED = ("--unfenced",)
BUSY = "esc to interrupt"


@pytest.fixture(scope="module", params=["root", "ordinary"])
def who(request: pytest.FixtureRequest) -> Iterator[Person]:
    with person(request.param) as somebody:
        somebody.hook("SessionEnd", 'echo ended >>"$HOME/.claude-local/ended"')
        yield somebody


ALONE: dict[str, object] = {}


def behind_and_alone(what: str, measure: Callable[[tuple[str, ...]], object]) -> tuple[Any, Any]:
    """What ``measure`` finds behind the fence and with claude alone; the latter is the same for everybody."""
    if what not in ALONE:
        ALONE[what] = measure(UNFENCED)
    return measure(FENCED), ALONE[what]


def endings(who: Person) -> int:
    """How many sessions said goodbye (their SessionEnd hook ran) since the last call."""
    record = Path(who.paths.config_dir) / "ended"
    count = len(record.read_text().splitlines()) if record.exists() else 0
    record.unlink(missing_ok=True)
    return count


# --- keys ---------------------------------------------------------------------------------------------------------


def test_ctrl_c_interrupts_a_turn_and_twice_ends_the_session(who: Person, work: Path) -> None:
    with SlowBackend(text("The second answer."), hold=True) as backend, who.shell(backend, work) as tty:
        tty.shell("claude-local")
        tty.wait_for_prompt()
        who.assert_fenced()
        tty.type("a long question")
        tty.wait(lambda: backend.asked.is_set() and BUSY in tty.text, "a turn that runs")
        tty.send("\x03")
        tty.wait(lambda: BUSY not in tty.text and at_prompt(tty.lines), "the interrupted turn's end")
        assert backend.left.wait(LONGEST), "the interrupted request goes on"
        backend.hold = False
        tty.send("\x03")
        tty.wait(lambda: "a long question" not in tty.text, "an empty input line")
        tty.type("again")
        tty.wait_for("The second answer.")
        tty.wait(lambda: "again to exit" not in tty.text, "the end of an earlier Ctrl-C")
        at = len(tty.raw)
        tty.send("\x03")
        tty.wait_for("Press Ctrl-C again to exit")
        tty.send("\x03")
        tty.wait_for_shell(at)
        assert tty.shell_status() == 0
        who.wait_until_gone(but=[tty.child.pid])


def ctrl_c_in_print_mode(who: Person, work: Path, way: tuple[str, ...]) -> tuple[int, int, int]:
    """Status, how often claude said that it was interrupted, and goodbyes."""
    with SlowBackend(hold=True) as backend, who.shell(backend, work) as tty:
        at = tty.shell(" ".join(["claude-local", *way, "-p", "hello"]))
        assert backend.asked.wait(LONGEST)
        tty.send("\x03")
        tty.wait_for_shell(at)
        said = tty.shown(at).count("Execution error")
        status = tty.shell_status()
        who.wait_until_gone(but=[tty.child.pid])
        return status, said, endings(who)


def test_ctrl_c_in_print_mode_is_one_interrupt_as_without_the_fence(who: Person, work: Path) -> None:
    endings(who)
    behind, alone = behind_and_alone("ctrl-c", lambda way: ctrl_c_in_print_mode(who, work, way))
    assert behind == alone == (0, 1, 1)


def test_ctrl_z_gives_the_shell_back_and_fg_the_session(who: Person, work: Path) -> None:
    with SlowBackend(text("The first answer."), text("The second answer.")) as backend, who.shell(backend, work) as tty:
        tty.shell("claude-local")
        tty.wait_for_prompt()
        tty.type("one")
        tty.wait_for("The first answer.")
        for _ in range(2):
            at = len(tty.raw)
            tty.send("\x1a")
            tty.wait_for_shell(at)
            assert re.search(r"Stopped\s+claude-local", tty.shown(at)), tty.text
            at = tty.shell("jobs")
            tty.wait_for_shell(at)
            assert re.search(r"\[1\]\+\s+Stopped\s+claude-local", tty.shown(at)), tty.text
            tty.shell("fg")
            tty.wait(lambda: "suspended" not in tty.text and at_prompt(tty.lines), "the session's screen")
            assert "The first answer." in tty.text
        tty.type("two")
        tty.wait_for("The second answer.")
        at = len(tty.raw)
        tty.type("/exit")
        tty.wait_for_shell(at)
        assert tty.shell_status() == 0
        who.wait_until_gone(but=[tty.child.pid])


def wait_until_stopped(process: int) -> None:
    """The shell is back at its prompt when the first of the job has stopped: the others follow in a moment."""
    until = time.monotonic() + LONGEST
    while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < until, "claude itself is stopped"
        time.sleep(0.02)


def test_ctrl_z_in_print_mode_stops_claude_and_fg_lets_it_finish(who: Person, work: Path) -> None:
    with SlowBackend(text("It went on."), hold=True) as backend, who.shell(backend, work) as tty:
        tty.shell("claude-local -p hello")
        assert backend.asked.wait(LONGEST)
        at = len(tty.raw)
        tty.send("\x1a")
        tty.wait_for_shell(at)
        claude = who.claude()
        wait_until_stopped(claude)
        backend.hold = False
        at = tty.shell("fg")
        tty.wait_for_shell(at)
        assert "It went on." in tty.shown(at) and tty.shell_status() == 0


def test_a_session_in_the_background_ends_by_itself(who: Person, work: Path) -> None:
    with SlowBackend(text("From behind.")) as backend, who.shell(backend, work) as tty:
        at = tty.shell("claude-local -p hello </dev/null >answer & wait $!; echo waited=$?=")
        tty.wait(lambda: "waited=0=" in tty.shown(at), "the background job's end")
        assert (work / "answer").read_text() == "From behind.\n"


def test_a_caller_who_ignores_the_ends_of_children_is_no_matter(who: Person, work: Path) -> None:
    with SlowBackend(text("It ended.")) as backend, who.shell(backend, work) as tty:
        at = tty.shell("env --ignore-signal=CHLD claude-local -p hello")
        tty.wait_for_shell(at)
        assert "It ended." in tty.shown(at) and tty.shell_status() == 0


# --- the screen ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """What a session did to the terminal: private modes that it set and reset, kinds of colours, columns of its
    rule."""

    modes: frozenset[str]
    colours: frozenset[str]
    rules: tuple[int, int]


def rule(tty: Tty) -> int:
    """The length of the line above the input line."""
    return max((len(line.strip()) for line in tty.lines if set(line.strip()) == {"─"}), default=0)


def look(who: Person, work: Path, way: tuple[str, ...]) -> Look:
    with SlowBackend(text("Some **bold** and `code`.")) as backend, who.at_terminal(backend, *way, cwd=work) as tty:
        tty.wait_for_prompt()
        tty.type("colours")
        tty.wait_for("Some bold")
        wide = rule(tty)
        tty.resize(ROWS - 8, COLUMNS - 30)
        tty.wait(lambda: 0 < rule(tty) < wide and at_prompt(tty.lines), "a screen of the new width")
        narrow = rule(tty)
        tty.send("\x03")
        tty.wait_for("again to exit")
        tty.send("\x03")
        assert tty.wait_for_end() == 0
        shown = tty.shown(0)
    colours = {match[1] for match in re.finditer(r"\x1b\[([34]8;[25]);", shown)}
    return Look(frozenset(re.findall(r"\x1b\[\?\d+[hl]", shown)), frozenset(colours), (wide, narrow))


def test_size_colours_mouse_and_paste_are_as_without_the_fence(who: Person, work: Path) -> None:
    behind, alone = behind_and_alone("look", lambda way: look(who, work, way))
    assert behind == alone
    assert behind.rules == (COLUMNS, COLUMNS - 30)
    assert "38;2" in behind.colours, "true colours"
    assert {"\x1b[?1000h", "\x1b[?1006h", "\x1b[?2004h"} <= behind.modes, "mouse and bracketed paste"


# --- signals ------------------------------------------------------------------------------------------------------


def signalled(who: Person, work: Path, way: tuple[str, ...], number: int, terminal: bool) -> tuple[int, int]:
    """Send a signal to the process that claude-local became: its status as a shell says it, and goodbyes."""
    endings(who)
    with SlowBackend(hold=True) as backend:
        if terminal:
            with who.at_terminal(backend, *way, cwd=work) as tty:
                tty.wait_for_prompt()
                os.kill(tty.child.pid, number)
                status = tty.wait_for_end()
        else:
            process = subprocess.Popen(
                [who.paths.wrapper, *way, "-p", "hello"], cwd=work, env=who.environment(backend), preexec_fn=who.become,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            try:
                assert backend.asked.wait(LONGEST)
                os.kill(process.pid, number)
                status = process.wait(LONGEST)
            finally:
                process.kill()
        who.wait_until_gone()
    return status if status >= 0 else 128 - status, endings(who)


@pytest.mark.parametrize("terminal", [True, False], ids=["at a terminal", "in print mode"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda each: each.name)
def test_a_signal_reaches_claude_and_its_status_comes_back(
    who: Person, work: Path, number: signal.Signals, terminal: bool
) -> None:
    behind, alone = behind_and_alone(
        f"{number.name} {terminal}", lambda way: signalled(who, work, way, number, terminal)
    )
    assert behind == alone and behind[1] == 1, "claude said goodbye itself"


def test_a_killed_claude_is_a_killed_claude_local(who: Person, work: Path) -> None:
    with SlowBackend(hold=True) as backend, who.shell(backend, work) as tty:
        at = tty.shell("claude-local -p hello")
        assert backend.asked.wait(LONGEST)
        claude = who.claude()
        os.kill(claude, signal.SIGKILL)
        tty.wait_for_shell(at)
        assert tty.shell_status() == 128 + signal.SIGKILL
        who.wait_until_gone(but=[tty.child.pid])


def test_everything_ends_when_the_terminal_is_closed(who: Person, work: Path) -> None:
    endings(who)
    with SlowBackend() as backend, who.shell(backend, work) as tty:
        tty.shell("claude-local")
        tty.wait_for_prompt()
        tty.hang_up()
        who.wait_until_gone()
    assert endings(who) == 1


@pytest.mark.parametrize("end", ["terminal closed", "SIGTERM", "SIGKILL"])
def test_a_command_that_runs_ends_with_its_session(who: Person, work: Path, end: str) -> None:
    command = "trap '' HUP TERM INT; nohup setsid sleep 311 >/dev/null 2>&1 & sleep 312"
    with (
        SlowBackend(tool_use("Bash", {"command": command})) as backend,
        who.at_terminal(backend, "--allowedTools", "Bash", cwd=work) as tty,
    ):
        tty.wait_for_prompt()
        tty.type("go")
        tty.wait_for("sleep 312")
        if "Do you want to" in tty.text:
            tty.send("\r")
        tty.wait(lambda: {"sleep 311 ", "sleep 312 "} <= set(who.processes().values()), "the two commands")
        if end == "terminal closed":
            tty.hang_up()
        else:
            os.kill(tty.child.pid, signal.Signals[end])
        who.wait_until_gone()


# --- statuses, pipes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "turns", "status"),
    [
        (["-p", "hello"], [text("Hi.")], 0),
        (["-p", "hello"], [error(400, "broken")] * 20, 1),
        (["-p"], [], 1),
        (["--no-such-option"], [], 1),
        (["--version"], [], 0),
        (["mcp", "get", "nothing"], [], 1),
    ],
    ids=["an answer", "an API error", "no prompt", "a wrong option", "--version", "a failing subcommand"],
)
def test_exit_status_and_output_are_claudes(
    who: Person, work: Path, arguments: list[str], turns: list[dict[str, str]], status: int
) -> None:
    def measure(way: tuple[str, ...]) -> tuple[int, str, str]:
        with SlowBackend(*turns) as backend:
            done = who.session(backend, *way, *arguments, cwd=work)
        # Only the launcher can leave out the line about an unknown model, not --unfenced.
        ours = r"(?m)^(claude-local: |\[claude-code:unrecognized_model\] ).*\n"
        return done.returncode, done.stdout, re.sub(ours, "", done.stderr)

    behind, alone = behind_and_alone(str(arguments + turns), measure)
    assert behind == alone and behind[0] == status


def test_a_wrong_profile_is_exit_2_of_our_own(who: Person, work: Path) -> None:
    with SlowBackend() as backend:
        done = who.session(backend, "--model", "nobody", "-p", "hello", cwd=work)
    assert done.returncode == 2 and "Fix: claude-local --model p" in done.stderr and not backend.requests


def test_standard_input_can_be_a_pipe_and_output_a_pipe_that_closes(who: Person, work: Path) -> None:
    lines = "\n".join(f"line {number}" for number in range(2000))
    with SlowBackend(text(lines)) as backend:
        shown = who.sh(
            'echo "words through a pipe" | claude-local -p | head -1; echo "${PIPESTATUS[@]}"',
            work, who.environment(backend),
        )  # fmt: skip
    assert shown.splitlines()[0] == "line 0"
    assert "words through a pipe" in json.dumps(backend.main_requests[0]["body"]["messages"])
    who.wait_until_gone()


# --- earlier conversations ----------------------------------------------------------------------------------------


def test_continue_and_resume_bring_the_conversation_back(who: Person, work: Path) -> None:
    with SlowBackend(text("One."), text("Two."), text("Three.")) as backend:
        first = who.session(backend, "-p", "the walnut words", "--output-format", "json", cwd=work)
        number = json.loads(first.stdout)["session_id"]
        who.session(backend, "-p", "next", "--continue", cwd=work)
        with who.at_terminal(backend, "--resume", number, cwd=work) as tty:
            tty.wait_for("the walnut words")
            tty.wait_for_prompt()
            tty.type("and now")
            tty.wait_for("Three.")
            tty.type("/exit")
            tty.wait_for(f"claude-local --resume {number}")
    for request in backend.main_requests[1:]:
        said = json.dumps(request["body"]["messages"])
        assert "the walnut words" in said and "One." in said
    assert "and now" in json.dumps(backend.main_requests[2]["body"]["messages"])


# --- nothing left, nothing broken ---------------------------------------------------------------------------------

PLANTS = (".mcp.json", ".envrc", ".vscode/tasks.json", ".claude/settings.json", ".git/hooks/post-commit")


def plant(work: Path) -> list[dict[str, object]]:
    """A turn for each file that runs later outside the fence: Write it with the file tool."""
    return [tool_use("Write", {"file_path": str(work / name), "content": "planted"}) for name in PLANTS]


def test_a_session_leaves_what_it_wrote_and_nothing_else(who: Person, work: Path) -> None:
    who.sh("git init -q -b main && echo a >a && git add a && git commit -qm first", work)
    before = snapshot(work)
    turns = [tool_use("Bash", {"command": "echo b >b; mkdir c; ls -a"}), *plant(work), text("Done.")]
    with SlowBackend(*turns) as backend:
        done = who.bash(backend, work)
    assert done.returncode == 0 and len(backend.results()) == len(turns) - 1
    after = snapshot(work)
    assert {name: kind for name, kind in after.items() if before.get(name) != kind} == {
        "b": "-rw-r--r-- " + b"b\n".hex(),
        "c": "drwxr-xr-x ",
    }
    assert before.items() <= after.items()
    assert who.sh("git status --short", work) == "?? b\n"


def test_what_a_killed_launcher_left_is_gone_after_the_next_session(who: Person, work: Path) -> None:
    who.sh("git init -q -b main && echo a >a && git add a && git commit -qm first", work)
    before = snapshot(work)
    with SlowBackend() as backend:
        with who.at_terminal(backend, cwd=work) as tty:
            tty.wait_for_prompt()
            os.kill(tty.child.pid, signal.SIGKILL)
            who.wait_until_gone()
        assert who.session(backend, "-p", "hello", cwd=work).returncode == 0
    assert snapshot(work) == before


def say_yes_until(tty: Tty, words: str) -> None:
    """Answer every question with its first choice, yes, until ``words`` are seen."""

    def asked() -> str:
        return next((line for line in tty.lines if "Do you want to" in line), "")

    while words not in tty.text:
        tty.wait(lambda: words in tty.text or asked() != "", "a question or the end")
        if question := asked():
            tty.press_until("\r", lambda question=question: asked() != question, "an answered question")  # type: ignore[misc]


def test_two_sessions_in_one_workspace_do_not_lift_each_others_guards(who: Person, work: Path) -> None:
    who.sh("git init -q -b main", work)
    before = snapshot(work)
    with (
        SlowBackend(*plant(work), text("Done here.")) as slow,
        SlowBackend(text("Short.")) as quick,
        who.at_terminal(slow, "--permission-mode", "acceptEdits", cwd=work) as tty,
    ):
        tty.wait_for_prompt()
        assert who.session(quick, "-p", "hello", cwd=work).stdout == "Short.\n"
        tty.type("go")
        say_yes_until(tty, "Done here.")
        assert len(slow.results()) == len(PLANTS)
        planted = [name for name in PLANTS if (work / name).is_file() and (work / name).read_text()]
        assert planted == [], "the end of the other session lifted the guards"
        tty.type("/exit")
        tty.wait_for_end()
    who.wait_until_gone()
    after = snapshot(work)
    assert after.pop(f".mcp.json{SUFFIX}"), "the user allowed it, and the fence renamed it"
    assert after == before


def test_sessions_that_start_at_once_in_one_workspace_do_not_trip_over_each_other(who: Person, work: Path) -> None:
    who.sh("git init -q -b main", work)
    before = snapshot(work)
    with SlowBackend(*[text("Done.")] * 4) as backend, ExitStack() as ends:
        running = [
            subprocess.Popen(
                [who.paths.wrapper, "-p", "go"], cwd=work, env=who.environment(backend), preexec_fn=who.become,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )
            for _ in backend.turns
        ]  # fmt: skip
        for process in running:
            ends.callback(process.kill)
        assert [process.communicate(timeout=LONGEST)[0] for process in running] == [b"Done.\n"] * 4
    assert snapshot(work) == before


def test_sessions_in_different_workspaces_do_not_see_each_other(who: Person, work: Path) -> None:
    places = [who.workspace(f"{work.name}-{number}") for number in range(2)]
    with ExitStack() as ends:
        running = []
        for place, other in zip(places, reversed(places), strict=True):
            turn = tool_use("Bash", {"command": f"echo mine >own; sh -c 'echo strange >{other}/strange'; true"})
            backend = ends.enter_context(SlowBackend(turn, text("Done."), hold=True))
            argv = [who.paths.wrapper, "-p", "go", "--allowedTools", "Bash"]
            process = subprocess.Popen(
                argv, cwd=place, env=who.environment(backend), preexec_fn=who.become, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            ends.callback(process.kill)
            running.append((process, backend))
        assert all(backend.asked.wait(LONGEST) for _, backend in running), "both are in the middle of their turn"
        for _, backend in running:
            backend.hold = False
        assert [process.communicate(timeout=LONGEST)[0] for process, _ in running] == [b"Done.\n"] * 2
    assert [sorted(os.listdir(place)) for place in places] == [["own"], ["own"]]
