#!/usr/bin/env python3
"""How often does the local model use a tool correctly through the real Claude Code?

Each task of benchmarks/tool_use_tasks.py runs in a workspace of its own. A run for a tool is right when (a) Claude
Code's event stream shows a call of the tool and a result without an error, and (b) the evidence exists: the file on
disk, or a word that only the file has in the answer. "Chat" is the opposite: tools are offered, and none may be called.
"About" is a question about the whole workspace: any tool will do.

    benchmarks/tool_use.py                                  # through the installed claude-local
    benchmarks/tool_use.py --tool Read --tool Glob --half held-out --runs 3
    benchmarks/tool_use.py --command "claude-local --model qwen2.5-coder-0.5b" --json result.json

The command gets ``-p PROMPT --output-format stream-json --verbose --permission-mode acceptEdits --max-turns N``.
Exit status: 0 when Glob, Read and Write (those that ran) each reach ``--aim``, otherwise 1. After Ctrl-C it is 130,
after SIGTERM 143, and every process that the benchmark started has ended.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from tool_use_tasks import ABOUT, CHAT, HELD_OUT, TUNED, Task

GRACE = 10.0  # seconds that a command may take to end after SIGTERM
JUDGED = ("Glob", "Read", "Write")  # the tools that --aim is about
TOOLS = ("Glob", "Read", "Write", "Edit", CHAT, ABOUT)


@dataclass
class Outcome:
    """The result of one run. ``problem`` is empty when the run was right."""

    tool: str
    held_out: bool
    prompt: str
    problem: str
    calls: list[str]
    answer: str
    seconds: float
    input_tokens: int
    output_tokens: int


def tasks_of(tools: Iterable[str], half: str | None = None) -> list[tuple[Task, bool]]:
    """The tasks of ``tools`` with whether each is held out. ``half`` is ``tuned``, ``held-out`` or None for both."""
    halves = [(TUNED, False)] * (half != "held-out") + [(HELD_OUT, True)] * (half != "tuned")
    return [(task, held_out) for tool in tools for tasks, held_out in halves for task in tasks if task.tool == tool]


def prepare(task: Task, workspace: Path) -> None:
    """Write the task's files into ``workspace``."""
    for name, text in task.files.items():
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def events_of(output: str) -> list[dict[str, Any]]:
    """The JSON objects in ``claude``'s stream-json ``output``, one a line; other lines are skipped."""
    events = []
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                events.append(event)
    return events


def result_of(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The last event of the type ``result``; {} when there is none."""
    return next((event for event in reversed(events) if event.get("type") == "result"), {})


def calls_of(events: Sequence[dict[str, Any]]) -> list[tuple[str, bool]]:
    """Every tool call as (tool, whether its result has no error), in order."""
    contents = [(event.get("message") or {}).get("content") for event in events]
    blocks = [block for content in contents if isinstance(content, list) for block in content]
    succeeded = {
        block["tool_use_id"]: not block.get("is_error") for block in blocks if block.get("type") == "tool_result"
    }
    return [(block["name"], succeeded.get(block["id"], False)) for block in blocks if block.get("type") == "tool_use"]


def problem_of(task: Task, workspace: Path, calls: Sequence[tuple[str, bool]], answer: str) -> str:
    """What is wrong with a finished run of ``task`` in ``workspace``; empty when it was right."""
    if task.tool == CHAT:
        if calls:
            return f"{calls[0][0]} was called, no tool is needed"
        if not answer.strip() or "```json" in answer:
            return "no answer in words"
    elif not calls:
        return "no tool was called"
    elif task.tool == ABOUT:
        if not any(succeeded for _, succeeded in calls):
            return "every call ended with an error"
    elif not any(name == task.tool for name, _ in calls):
        return f"{task.tool} was not called"
    elif (task.tool, True) not in calls:
        return f"every {task.tool} call ended with an error"
    missing = [word for word in task.answer if word.lower() not in answer.lower()]
    if missing:
        return f"the answer lacks {', '.join(missing)}"
    for name, pattern in task.leaves.items():
        path = workspace / name
        if not path.is_file():
            return f"{name} does not exist"
        text = path.read_text(errors="replace")
        if not re.search(pattern, text):
            return f"{name} contains {text[:80]!r}"
        if name in task.spoils and re.search(task.spoils[name], text):
            return f"{name} still contains {task.spoils[name]}"
    return ""


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End ``process`` and its group with SIGTERM, after GRACE with SIGKILL. Returns its output and errors so far."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=GRACE)
    return "", ""  # a process outside the group holds the pipes open


def stop(number: int, frame: FrameType | None) -> None:
    """Handle SIGTERM, SIGHUP and SIGINT: run every ``finally``, and exit with the status that a shell would give."""
    raise SystemExit(128 + number)


def execute(argv: Sequence[str], workspace: Path, timeout: float) -> tuple[str, str, int | None]:
    """Run a command in ``workspace``. Returns output, errors, and exit status (None after ``timeout`` seconds).

    However this function is left, no process of the command's group runs on.
    """
    with subprocess.Popen(
        argv, cwd=workspace, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            return *end(process), None
        except BaseException:
            end(process)
            raise
    return output, errors, process.returncode


def run(task: Task, held_out: bool, command: Sequence[str], timeout: float, max_turns: int) -> Outcome:
    """Run ``task`` once in a workspace of its own, for at most ``timeout`` seconds."""
    argv = [*command, "-p", task.prompt, "--output-format", "stream-json", "--verbose"]
    argv += ["--permission-mode", "acceptEdits", "--max-turns", str(max_turns)]
    # One path for all tasks: it stands in the prompt, and another one each time would be read anew with all after it.
    workspace = Path.home() / f"claude-local-benchmark-{os.getpid()}"
    workspace.mkdir()
    try:
        prepare(task, workspace)
        started = time.monotonic()
        output, errors, status = execute(argv, workspace, timeout)
        seconds = time.monotonic() - started
        events = events_of(output)
        calls, result = calls_of(events), result_of(events)
        answer = str(result.get("result") or "")
        if status is None:
            problem = f"not done after {timeout:.0f} s"
        elif not events:
            problem = f"no events; exit status {status}: {errors.strip()[-200:]}"
        else:
            problem = problem_of(task, workspace, calls, answer)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    usage = result.get("usage") or {}
    return Outcome(
        tool=task.tool,
        held_out=held_out,
        prompt=task.prompt,
        problem=problem,
        calls=[name if succeeded else f"{name} (error)" for name, succeeded in calls],
        answer=answer,
        seconds=round(seconds, 1),
        input_tokens=int(usage.get("input_tokens") or 0) + int(usage.get("cache_read_input_tokens") or 0),
        output_tokens=int(usage.get("output_tokens") or 0),
    )


def score(outcomes: Sequence[Outcome]) -> str:
    """How many of the runs were right, as ``3/4``."""
    return f"{sum(not outcome.problem for outcome in outcomes)}/{len(outcomes)}"


def table(outcomes: Sequence[Outcome]) -> str:
    """One line a tool: right runs of all, and the mean seconds and tokens of a run."""
    lines = [f"{'tool':<6} {'tuned':>7} {'held out':>9} {'all':>7} {'s/run':>6} {'in/run':>7} {'out/run':>8}"]
    for tool in dict.fromkeys(outcome.tool for outcome in outcomes):
        runs = [outcome for outcome in outcomes if outcome.tool == tool]
        tuned, held_out = ([run for run in runs if run.held_out is half] for half in (False, True))
        seconds, tokens_in, tokens_out = (
            sum(getattr(run, name) for run in runs) / len(runs) for name in ("seconds", "input_tokens", "output_tokens")
        )
        lines.append(
            f"{tool:<6} {score(tuned):>7} {score(held_out):>9} {score(runs):>7} "
            f"{seconds:>6.1f} {tokens_in:>7.0f} {tokens_out:>8.0f}"
        )
    return "\n".join(lines)


def reached(outcomes: Sequence[Outcome], aim: float) -> bool:
    """Whether each judged tool that ran was right in at least ``aim`` (0 to 1) of its runs."""
    for tool in JUDGED:
        runs = [outcome for outcome in outcomes if outcome.tool == tool]
        if sum(not outcome.problem for outcome in runs) < aim * len(runs):
            return False
    return True


def report(outcome: Outcome) -> None:
    """Print one run: a line, and the problem with the calls and the answer."""
    mark = "FAIL" if outcome.problem else "ok  "
    print(f"{mark} {outcome.tool:<5} {outcome.seconds:6.1f} s  {outcome.prompt}", flush=True)
    if outcome.problem:
        print(f"       {outcome.problem}; calls: {', '.join(outcome.calls) or 'none'}")
        print(f"       answer: {outcome.answer[:160]!r}", flush=True)


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], epilog="See the top of this file.")
    parser.add_argument("--command", default="claude-local", help="what to run, one string (default: claude-local)")
    parser.add_argument("--tool", action="append", choices=TOOLS, help="only this tool; repeatable")
    parser.add_argument("--half", choices=["tuned", "held-out"], help="only these tasks")
    parser.add_argument("--runs", type=int, default=1, help="how often each task runs (default: 1)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds that one run may take (default: 300)")
    parser.add_argument("--max-turns", type=int, default=8, help="turns that one run may take (default: 8)")
    parser.add_argument("--aim", type=float, default=0.9, help="share that Glob, Read and Write must reach (0.9)")
    parser.add_argument("--json", type=Path, help="also write every outcome to this file")
    options = parser.parse_args()

    command = shlex.split(options.command)
    if not command or not shutil.which(command[0]):
        print(f"{options.command}: not found; install it with ./provision or name it with --command", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    outcomes = []
    for task, held_out in tasks_of(options.tool or TOOLS, options.half):
        for _ in range(options.runs):
            outcomes.append(run(task, held_out, command, options.timeout, options.max_turns))
            report(outcomes[-1])
            if options.json:
                options.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")
    print(f"\n{table(outcomes)}")
    return 0 if reached(outcomes, options.aim) else 1


if __name__ == "__main__":
    sys.exit(main())
