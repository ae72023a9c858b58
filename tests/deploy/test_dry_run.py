"""`./provision --dry`: what a deploy would change, on a screen of 80 columns."""

from __future__ import annotations

from typing import Any

from claude_local.deploy.dry_run import NOTHING, render


def step(name: str, *, changes: bool = False, conditional: bool = False) -> dict[str, Any]:
    return {
        "name": name, "hosts_with_change": ["@local"] if changes else [],
        "hosts_with_conditional_change": ["@local"] if conditional else [],
    }  # fmt: skip


def test_on_a_finished_machine_there_is_nothing_to_do() -> None:
    plan = [step("tasks/docker.py | Install Docker"), step("tasks/claude.py | Install npm", conditional=True)]
    assert render(plan, 80) == [NOTHING]


def test_only_the_steps_that_change_something_are_listed() -> None:
    plan = [
        step("tasks/docker.py | Install Docker"),
        step("tasks/models.py | Place the models: tiny (1.1 GB to download)", changes=True),
        step("tasks/claude.py | Install Claude Code", changes=True),
        step("tasks/claude.py | Install npm", conditional=True),
    ]
    assert render(plan, 80) == [
        "3 of 4 steps would change something:",
        "  models  Place the models: tiny (1.1 GB to download)",
        "  claude  Install Claude Code",
        "  claude  Install npm, if needed",
    ]


def test_a_long_step_continues_under_its_beginning() -> None:
    name = "tasks/image.py | Build claude-local/llama-server:b1-cpu-c70e1059bc4e"
    assert render([step(name, changes=True)], 56)[1:] == [
        "  image  Build",
        "         claude-local/llama-server:b1-cpu-c70e1059bc4e",
    ]
