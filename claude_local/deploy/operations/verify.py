"""Run verify on the workstation and show its rows as they come, here on the controller."""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Generator
from typing import Any

import click
from pyinfra.api import FunctionCommand, Host, QuoteString, State, StringCommand, operation
from pyinfra.api.output import set_echo

from claude_local.deploy import shell
from claude_local.deploy.operations.streaming import connector_arguments
from claude_local.verify.checks import Row
from claude_local.verify.display import Display
from claude_local.verify.docker_rows import SCRIPT

MISSING = "FAIL  runtime.python  the runtime is not installed: {python} is missing\n      fix: ./provision"
OTHER_VERSION = "verify on this machine is from another version of claude-local\n  fix: ./provision"
# ./provision verify sets this: it passes -y, but a person may be asked.
ASK = "CLAUDE_LOCAL_ASK"
# The rows have a line of their own that is rewritten. pyinfra's spinner would write over it.
os.environ.setdefault("PYINFRA_PROGRESS", "off")


def docker_answers(container: str, image: str) -> StringCommand:
    """The command that collects Docker's answers for verify. It needs the rights that Docker is used with."""
    return shell.script(SCRIPT, container, image)


def verify_command(python: str, *arguments: str) -> StringCommand:
    """The command that runs verify with its parameters on stdin. Without the runtime it fails and says what to do."""
    return StringCommand(
        "{ test -x", QuoteString(python), "|| { printf '%s\\n'", QuoteString(MISSING.format(python=python)),
        "; exit 1; }; } &&",
        shell.join([python, "-I", "-u", "-m", "claude_local.verify", "--parameters", "-", *arguments]),
        "2>&1",
    )  # fmt: skip


class VerifyScreen:
    """Shows the events of verify on each host, and ends with the totals and the failures.

    pyinfra hands over a command's output only when it has ended, or echoes it line by line: ``echo`` takes those lines.
    """

    def __init__(self) -> None:
        self.displays: dict[str, Display] = {}
        self.closing: list[str] = []

    def add(self, host: Host, *, shared: bool, verbose: bool) -> None:
        """Show the events of ``host``; each line names it when the screen is ``shared`` with other hosts."""
        if not self.displays:
            set_echo(self.echo)
            atexit.register(self.close)
        prefix = f"[{host.name}] " if shared else ""
        self.displays[host.print_prefix] = Display(sys.stderr, verbose=verbose, prefix=prefix)

    def echo(self, message: Any = None, **options: Any) -> None:
        """Echo as click does, but show events and other output of verify on its host's display."""
        for prefix, display in self.displays.items():
            if isinstance(message, str) and message.startswith(prefix):
                return self.show(display, message.removeprefix(prefix))
        return click.echo(message, **options)

    def show(self, display: Display, line: str) -> None:
        """Show one line of output."""
        try:
            event = json.loads(line)
            if "row" in event:
                display.row(Row(**event["row"]), event["count"])
            elif "running" in event:
                display.running(*event["running"])
            else:
                self.closing += ["", *display.closing(event["report"])]
        except (ValueError, TypeError, KeyError):
            display.line(line)

    def close(self) -> None:
        """Print the last words, after everything that pyinfra prints."""
        if self.closing:
            print(*self.closing, sep="\n", file=sys.stderr, flush=True)


screen = VerifyScreen()


def declined(state: State, notice: list[str]) -> bool:
    """Print what verify takes from running sessions. Whether a person at the terminal says no; nobody else is asked."""
    if not notice:
        return False
    click.echo("\n".join(notice), err=True)
    if not (state.check_for_changes or os.environ.get(ASK)) or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    click.echo("Verify now? [Y/n] ", err=True, nl=False)
    answer = sys.stdin.readline()
    return answer.strip().lower() not in ("", "y", "yes") or not answer


@operation()
def run(parameters: dict[str, Any], python: str, deep: bool = False, only: str = "") -> Generator[FunctionCommand]:
    """Prove that the workstation works. Only the report in the state directory outlives it.

    + parameters: claude_local.verify.parameters.Parameters as a dict, without ``docker``
    + python: the runtime's interpreter
    + deep: hash every model again
    + only: patterns of row ids with commas between them; empty for all rows

    Fails when a row failed. On a single host it then ends pyinfra at once with status 1: the failures are the last
    words. With ``_sudo``, only Docker is asked as root; the rest runs as the connecting user. The operation always
    runs, because a check has no state to compare with.

    Example::

        verify.run(name="Verify the workstation", parameters=parameters, python=ws.paths.python, _sudo=True)
    """
    as_user, as_docker_user = connector_arguments(as_user=True), connector_arguments()
    arguments = ["--deep"] if deep else []
    for pattern in filter(None, map(str.strip, only.split(","))):
        arguments += ["--only", pattern]

    def verify(state: State, host: Host, **answers: str) -> bool:
        stdin = {"_stdin": json.dumps(parameters)}
        ok, notice = host.run_shell_command(verify_command(python, *arguments, "--sessions"), **{**as_user, **stdin})
        if not ok:
            click.echo("\n".join(notice.output_lines), err=True)
            if any("unrecognized arguments" in line for line in notice.output_lines):
                click.echo(OTHER_VERSION, err=True)
            return False
        if declined(state, notice.stdout_lines):
            click.echo("Nothing was checked.", err=True)
            return False
        screen.add(host, shared=len(state.activated_hosts) > 1, verbose=state.print_noop_info)
        stdin = {"_stdin": json.dumps({**parameters, **answers})}
        command = verify_command(python, *arguments, "--events")
        return host.run_shell_command(command, print_output=True, **{**as_user, **stdin})[0]

    def check(state: State, host: Host) -> bool:
        answers = {}
        if as_docker_user.get("_sudo"):
            questions = docker_answers(parameters["container"], parameters["image"])
            answered, output = host.run_shell_command(questions, **as_docker_user)
            answers = {"docker": output.stdout} if answered else {}
        ok = verify(state, host, **answers)
        if not ok and len(state.activated_hosts) == 1:
            raise SystemExit(1)
        return ok

    yield FunctionCommand(check, (), {})
