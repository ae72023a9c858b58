"""``llama-local verify``: all checks of the machine, with the settings of the last deploy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from claude_local.cli.machine import Machine, pass_machine
from claude_local.cli.output import Problem, json_option, print_json


@click.command()
@click.option("--only", multiple=True, metavar="GLOB", help="Run only these checks and their needs, e.g. 'fence.*'.")
@click.option("--deep", is_flag=True, help="Hash every model file again.")
@click.option("--list", "list_only", is_flag=True, help="List the checks and run none.")
@json_option
@pass_machine
def verify(machine: Machine, only: tuple[str, ...], deep: bool, list_only: bool, as_json: bool) -> int:
    """Prove that this machine works: one row a check, and the fix of each failure.

    Asks the real model in real sessions, which takes a minute or more. With --json the rows go to standard error,
    and the report to standard output. Exit status 1: a check failed.
    """
    parameters = machine.paths.verify_parameters
    if not os.path.exists(parameters):
        raise Problem("no deploy has saved its settings for verify yet", "./provision verify")
    words = [sys.executable, *(["-I"] if sys.flags.isolated else []), "-u", "-m", "claude_local.verify"]
    words += ["--parameters", parameters, *(part for pattern in only for part in ("--only", pattern))]
    words += [*(["--deep"] if deep else []), *(["--list"] if list_only else [])]
    if not as_json:
        sys.stdout.flush()
        os.execv(words[0], words)
    if list_only:
        listed = subprocess.run(words, stdout=subprocess.PIPE, text=True)
        pairs = [line.split(maxsplit=1) for line in listed.stdout.splitlines()]
        if not listed.returncode:
            print_json([{"id": name, "title": title} for name, title in pairs])
        return listed.returncode
    done = subprocess.run(words, stdout=sys.stderr.fileno())
    report = Path(machine.paths.verify_report)
    if done.returncode in (0, 1):
        sys.stdout.write(report.read_text(encoding="utf-8"))
    return done.returncode
