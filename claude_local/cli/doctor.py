"""``llama-local doctor``: finds problems, and fixes those that need no deploy."""

from __future__ import annotations

import click

from claude_local.cli.containers import DockerFailed
from claude_local.cli.findings import CHECKS, Finding, MendFailed
from claude_local.cli.machine import Machine, pass_machine
from claude_local.cli.output import Exit, ask, in_terminal, json_option, print_json


@click.command()
@click.option("--yes", is_flag=True, help="Apply fixes without asking.")
@json_option
@pass_machine
def doctor(machine: Machine, yes: bool, as_json: bool) -> Exit:
    """Find problems on this machine: token, PATH, files, containers, both servers.

    doctor prints the fix of each problem. If the fix needs no deploy, doctor offers to apply it in a terminal, and
    applies it elsewhere only with --yes. Exit status 1: a problem is left.
    """
    found = []
    for check in CHECKS:
        for finding in check(machine):
            if not as_json:
                print(f"{finding.what}\n  Fix: {finding.fix}")
            mended = finding.mend is not None and _agreed(yes, as_json) and _mend(finding, as_json)
            found.append((finding, mended))
    if as_json:
        members = [
            {"id": each.id, "what": each.what, "fix": each.fix, "mendable": each.mend is not None, "mended": mended}
            for each, mended in found
        ]
        print_json({"findings": members})
    elif not found:
        print("no problems: token, commands, files, containers, management API, llama-server")
    return Exit.DONE if all(mended for _, mended in found) else Exit.PROBLEM


def _agreed(yes: bool, as_json: bool) -> bool:
    """Whether to apply a fix; in a terminal, Enter means yes."""
    if yes or as_json or not in_terminal():
        return yes
    answer = ask("  Do it now? [Y/n] ")
    return answer is not None and answer.lower() in ("", "y", "yes")


def _mend(finding: Finding, silent: bool) -> bool:
    """Apply the fix; whether that worked."""
    assert finding.mend is not None
    try:
        finding.mend()
    except (MendFailed, DockerFailed, OSError) as error:
        if not silent:
            print(f"  that failed: {error}")
        return False
    if not silent:
        print("  done")
    return True
