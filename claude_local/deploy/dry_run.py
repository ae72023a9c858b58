"""``./provision --dry``: pyinfra's plan (``pyinfra --dry --json``, on stdin) as a list that fits a terminal.

Standard library only. pyinfra's own table has a line for each step and is wider than most terminals.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from typing import Any

NOTHING = "Nothing to do: this machine is set up as the settings say."


def render(plan: list[dict[str, Any]], columns: int) -> list[str]:
    """The lines, at most ``columns`` wide: what a deploy would change, stage by stage.

    A step that decides when it runs (``_if``) is shown where another step of its stage would change something.
    """
    changing = {_stage_and_step(step)[0] for step in plan if step["hosts_with_change"]}
    shown = []
    for each in plan:
        stage, step = _stage_and_step(each)
        if each["hosts_with_change"]:
            shown.append((stage, step))
        elif each["hosts_with_conditional_change"] and stage in changing:
            shown.append((stage, f"{step}, if needed"))
    if not shown:
        return [NOTHING]
    width = max(len(stage) for stage, _ in shown)
    lines = [f"{len(shown)} of {len(plan)} steps would change something:"]
    for stage, step in shown:
        lines += textwrap.wrap(
            f"  {stage:<{width}}  {step}", columns, subsequent_indent=" " * (width + 4),
            break_on_hyphens=False, break_long_words=False,
        )  # fmt: skip
    return lines


def _stage_and_step(step: dict[str, Any]) -> tuple[str, str]:
    stage, _, name = str(step["name"]).partition(" | ")
    return stage.removeprefix("tasks/").removesuffix(".py"), name


def main() -> None:
    """Read the plan from stdin and print the list."""
    print("\n".join(render(json.load(sys.stdin)["plan"], shutil.get_terminal_size().columns)))


if __name__ == "__main__":
    main()
