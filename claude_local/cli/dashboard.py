"""``llama-local dashboard``, also ``top``."""

from __future__ import annotations

import click

from claude_local.cli.machine import Machine, pass_machine
from claude_local.cli.output import Problem, in_terminal, json_option


@click.command()
@click.option("--ascii", "ascii_only", is_flag=True, help="Use ASCII only, as in a locale without UTF-8.")
@json_option
@click.pass_context
@pass_machine
def dashboard(machine: Machine, ctx: click.Context, ascii_only: bool, as_json: bool) -> None:
    """Show the server, the machine and the sessions live; switch, stop and restart with a key.

    The keys are at the bottom; ? explains them. --json prints the same as for status.
    """
    if as_json:
        from claude_local.cli.status import status

        ctx.invoke(status, as_json=True)
        return
    if not in_terminal():
        raise Problem("the dashboard needs a terminal", "llama-local status")
    from claude_local.dashboard.app import Dashboard
    from claude_local.dashboard.client import Manager
    from claude_local.dashboard.files import Files
    from claude_local.dashboard.signs import locale_is_ascii

    app = Dashboard(
        Manager(machine.port, machine.token), Files(machine.paths), machine.container,
        ascii_only=ascii_only or locale_is_ascii(),
    )  # fmt: skip
    app.run()
