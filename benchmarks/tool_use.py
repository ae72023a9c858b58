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
import json
import shlex
import shutil
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tool_use_tasks import ABOUT, CHAT, HELD_OUT, TUNED
from claude_local.bench.sessions import Session, run
from claude_local.bench.tasks import Task

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
    return [(task, held_out) for tool in tools for tasks, held_out in halves for task in tasks if task.kind == tool]


def problem_of(task: Task, session: Session, lacking: str) -> str:
    """What is wrong with a finished run of ``task``; empty when it was right. ``lacking``: in answer and files."""
    calls = session.calls
    if session.fault:
        return session.fault
    if task.kind == CHAT:
        if calls:
            return f"{calls[0][0]} was called, no tool is needed"
        if not session.answer.strip() or "```json" in session.answer:
            return "no answer in words"
    elif not calls:
        return "no tool was called"
    elif task.kind == ABOUT:
        if not any(succeeded for _, succeeded in calls):
            return "every call ended with an error"
    elif not any(name == task.kind for name, _ in calls):
        return f"{task.kind} was not called"
    elif (task.kind, True) not in calls:
        return f"every {task.kind} call ended with an error"
    return lacking


def stop(number: int, frame: FrameType | None) -> None:
    """Handle SIGTERM, SIGHUP and SIGINT: run every ``finally``, and exit with the status that a shell would give."""
    raise SystemExit(128 + number)


def outcome_of(task: Task, held_out: bool, command: Sequence[str], timeout: float, max_turns: int) -> Outcome:
    """Run ``task`` once in a workspace of its own, for at most ``timeout`` seconds."""
    session, lacking = run(task, command, timeout, max_turns)
    return Outcome(
        tool=task.kind,
        held_out=held_out,
        prompt=task.prompt,
        problem=problem_of(task, session, lacking),
        calls=[name if succeeded else f"{name} (error)" for name, succeeded in session.calls],
        answer=session.answer,
        seconds=session.seconds,
        input_tokens=session.tokens("input_tokens", "cache_read_input_tokens"),
        output_tokens=session.tokens("output_tokens"),
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
            outcomes.append(outcome_of(task, held_out, command, options.timeout, options.max_turns))
            report(outcomes[-1])
            if options.json:
                options.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")
    print(f"\n{table(outcomes)}")
    return 0 if reached(outcomes, options.aim) else 1


if __name__ == "__main__":
    sys.exit(main())
