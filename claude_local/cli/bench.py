"""``llama-local bench``: how fast a profile is on this machine, and whether it became slower."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from os.path import isfile
from pathlib import Path
from shutil import which
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from claude_local.bench.history import last, losses, save
from claude_local.bench.measure import LONGEST, Bench, about, measure
from claude_local.bench.sessions import graded
from claude_local.bench.tasks import TASKS
from claude_local.bench.trials import ANSWER, GAIN, PROMPT, Trial, Trials, as_data, better, candidates, steady
from claude_local.claude.tool_sets import DEFAULT, SETS, tool_set
from claude_local.cli.completion import profiles
from claude_local.cli.hardware import probe_hardware
from claude_local.cli.machine import Machine, pass_machine
from claude_local.cli.output import Exit, Problem, console, json_option, print_json, table
from claude_local.cli.switching import UNLOAD, follow
from claude_local.fence.messages import printable
from claude_local.server.client import LlamaClient, ServerError
from claude_local.server.prompt_files import PromptFile, prompt_files


@click.command()
@click.argument("profile", required=False, shell_complete=profiles)
@click.option(
    "--up-to",
    type=int,
    metavar="TOKENS",
    help=f"The longest prompt (default: the longest that takes at most {LONGEST / 60:.0f} minutes).",
)
@click.option("--tasks", is_flag=True, help="Also run 20 small tasks through claude-local, and grade them.")
@click.option("--flags", is_flag=True, help="Instead, try other flags of llama-server. For machines without a GPU.")
@json_option
@pass_machine
def bench(
    machine: Machine, profile: str | None, up_to: int | None, tasks: bool, flags: bool, as_json: bool
) -> Exit | None:
    """Measure PROFILE (default: the active one): load, first answer cold and warm, prefill and decode at 512, 4,096 and
    16,384 tokens.

    Without a GPU this takes minutes, and sessions wait. bench says how long, and leaves out a prompt that would take
    more than 5 minutes. It keeps the result, and compares it with the last one. Exit status 1: something is more than
    10 % slower, or a task failed for another reason than the model.

    --flags tries threads, batch sizes, flash attention and cache types, one at a time, and changes nothing. It prints
    the lines for models.conf that make the profile more than 5 % faster.
    """
    if flags and (tasks or up_to is not None):
        raise click.UsageError("--flags goes with neither --tasks nor --up-to")
    with machine.manager() as manager:
        models = manager.json("GET", "/models")["models"]
        active = next(each["id"] for each in models if each["active"])
        profile = profile or active
        if profile not in {each["id"] for each in models}:
            raise Problem(f"there is no profile {profile!r} on this machine", "llama-local models")
        if any(slot["busy"] for slot in manager.json("GET", "/slots")["slots"]):
            raise Problem("a session is being answered, and would change the figures", "llama-local status")
        if flags:
            _try_flags(machine, manager, profile, active, as_json)
            return None
        with _alone(machine, manager, active, silent=as_json) as say:
            run = _run(machine, manager, profile, up_to, tasks, say)
    run = {"when": datetime.now(timezone.utc).isoformat(timespec="seconds"), **run}
    directory = Path(machine.paths.benchmarks)
    before = last(directory, profile)
    lost = losses(before, run) if before else []
    faults = [f"{each['kind']}: {each['fault']}" for each in run["tasks"] or [] if each["fault"]]
    save(directory, run)
    if as_json:
        print_json({**run, "before": before, "losses": lost})
    else:
        _show(run, before)
        for line in lost:
            print(f"slower  {line}")
        for line in faults:
            print(f"fault   {printable(line)}")
    return Exit.PROBLEM if lost or faults else Exit.DONE


@contextmanager
def _alone(machine: Machine, manager: LlamaClient, active: str, *, silent: bool) -> Iterator[Callable[[str], None]]:
    """Unload every model for the block, and load the active one again, also after a signal. Raises Problem.

    The block tells its steps to what it gets. A request that fails in it is a Problem."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with Console(stderr=True, quiet=silent).status("unloading the model") as shown:

        def say(step: str) -> None:
            shown.update(step)
            if not silent and not shown.console.is_terminal:
                print(step, file=sys.stderr)

        manager.json("POST", "/stop", {}, timeout=UNLOAD)
        kept = {each.path for each in _kept(machine)}
        try:
            yield say
        except ServerError as error:
            raise Problem(f"llama-server did not finish: {error}", "llama-local logs") from None
        finally:
            say(f"loading {active} again")
            # llama-server keeps the last prompt as if it were a conversation. Nobody goes on with it. On a busy
            # machine it may take longer to give up a prompt than the manager waits.
            with suppress(ServerError):
                manager.json("POST", "/stop", {}, timeout=UNLOAD)
                for each in _kept(machine):
                    if each.path not in kept and each.kind == "session":
                        each.path.unlink(missing_ok=True)
            follow(manager, active, silent=True)


def _run(
    machine: Machine, manager: LlamaClient, profile: str, up_to: int | None, tasks: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """Load the profile and measure it. Raises Problem, ServerError."""
    say(f"loading {profile}")
    load = follow(manager, profile, silent=True)["seconds"].get("loading", 0.0)
    run = measure(Bench(_server(machine), profile), load, _prompt(machine, profile), up_to, say)
    return {**run, "tasks": list(_graded(machine, say)) if tasks else None}


def _server(machine: Machine) -> LlamaClient:
    return LlamaClient(f"http://127.0.0.1:{machine.server_port}", machine.token)


def _try_flags(machine: Machine, manager: LlamaClient, profile: str, active: str, as_json: bool) -> None:
    """``bench --flags``. Raises Problem, ServerError."""
    hardware = probe_hardware()
    try:
        trying = Trials(_server(machine), Path(machine.paths.presets), profile)
    except OSError as error:
        raise Problem(f"{machine.paths.presets}: {error.strerror}", "./provision") from None
    if "fit" in trying.served:
        raise Problem(f"{profile} runs on the GPU, and --flags is for machines without one", "llama-local bench")
    # The deploy's flags come first and last, because the machine may have become slower meanwhile.
    steps = [{}, *candidates(trying.served, hardware.cores, hardware.threads), {}]
    trials: list[Trial] = []
    with _alone(machine, manager, active, silent=as_json) as say, trying:
        began = time.monotonic()
        for done, flags in enumerate(steps):
            left = f"; {about((time.monotonic() - began) / done * (len(steps) - done))} left" if done else ""
            say(f"{done + 1} of {len(steps)}: {Trial(flags).name}{left}")
            trials.append(trying.run(flags))
    found = better(trials)
    if as_json:
        print_json({"profile": profile, "build": trying.build, "trials": as_data(trials), "better": as_data(found)})
    else:
        _show_trials(profile, trying.build, trials)
    if not steady(trials):
        raise Problem("the machine was busy: the same flags gave other speeds", f"llama-local bench --flags {profile}")
    if found and not as_json:
        print(f"Each of these alone is better; in models.conf, below [{profile}], then ./provision:")
        print("\n".join(f"  {key} = {value}" for each in found for key, value in each.flags.items()))
    elif not as_json:
        print(f"No flag is more than {GAIN:.0%} faster than those of the deploy.")


def _show_trials(profile: str, build: str, trials: list[Trial]) -> None:
    print(f"{profile}, llama.cpp {build}: {PROMPT:,} tokens read, {ANSWER} written")
    rows = table("FLAGS", "PREFILL", "DECODE", "", right=("PREFILL", "DECODE"))
    for each in trials:
        rows.add_row(each.name, _speed(each.prefill), _speed(each.decode), Text(printable(each.problem)))
    console().print(rows)


def _graded(machine: Machine, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The outcome of each graded task with the model that is active."""
    wrapper = machine.paths.wrapper if isfile(machine.paths.wrapper) else which("claude-local")
    if wrapper is None:
        raise Problem("claude-local is not on PATH", "./provision")
    began = time.monotonic()
    for done, task in enumerate(TASKS):
        left = f"; {about((time.monotonic() - began) / done * (len(TASKS) - done))} left" if done else ""
        say(f"task {done + 1} of {len(TASKS)}: {task.kind}{left}")
        yield graded(task, [wrapper])


def _kept(machine: Machine) -> list[PromptFile]:
    """The prompts that llama-server keeps in files; none where it may keep none."""
    with suppress(OSError):
        return prompt_files(Path(machine.paths.server_prompts))
    return []


def _prompt(machine: Machine, profile: str) -> int:
    """Tokens of Claude Code's prompt with the profile's tools."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(Path(machine.paths.profiles).read_text())["profiles"][profile]["tools"]
        if found := tool_set(known):
            return found.tokens
    return SETS[DEFAULT].tokens


def _show(run: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Print a run, with the speeds of the one before beside it."""
    former = {each["tokens"]: each for each in before["speeds"]} if before else {}
    rows = table("TOKENS", "PREFILL", "DECODE", "BEFORE", right=("TOKENS", "PREFILL", "DECODE", "BEFORE"))
    for each in run["speeds"]:
        was = former.get(each["tokens"])
        speeds = [_speed(each[kind]) for kind in ("prefill", "decode")]
        rows.add_row(
            f"{each['tokens']:,}", *speeds, f"{_speed(was['prefill'])}, {_speed(was['decode'])}" if was else ""
        )
    print(f"{run['profile']}, llama.cpp {run['build']}: loaded in {run['load_seconds']:.1f} s")
    if first := run["first_answer"]:
        print(
            f"first answer after {first['tokens']:,} tokens: cold {first['cold_seconds']:.1f} s, "
            f"warm {first['warm_seconds']:.1f} s ({first['warm_cached']:,} tokens cached)"
        )
    console().print(rows)
    if run["tasks"]:
        console().print(_tasks(run["tasks"]))
    for each in run["skipped"]:
        print(f"not measured: {each['what']}: {each['why']}")


def _tasks(outcomes: list[dict[str, Any]]) -> Table:
    """The outcome of each graded task; how many of the open and of the held-out ones are right."""
    rows = table("TASK", "HELD OUT", "RESULT", "SECONDS", "CALLS", right=("SECONDS",))
    for each in outcomes:
        result = each["fault"] or each["problem"] or "right"
        held_out = "yes" if each["held_out"] else ""
        seconds, calls = f"{each['seconds']:.1f}", ", ".join(each["calls"])
        rows.add_row(each["kind"], held_out, Text(printable(result)), seconds, Text(printable(calls)))
    right = [each["held_out"] for each in outcomes if not each["fault"] and not each["problem"]]
    rows.caption = f"right: {right.count(False)} open, {right.count(True)} held out, of {len(outcomes)}"
    return rows


def _speed(tokens: float | None) -> str:
    return f"{tokens:,.1f}/s" if tokens else "?"
