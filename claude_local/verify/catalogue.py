"""Every check, in the order of the rows: the quick ones first, those that need a model last."""

from __future__ import annotations

from claude_local.verify import (
    claude_rows,
    configuration_rows,
    credentials_rows,
    docker_rows,
    fence_rows,
    machine_rows,
    manager_rows,
    messages_rows,
    model_choice_rows,
    model_rows,
    scripted_rows,
    server_rows,
)
from claude_local.verify.checks import Check
from claude_local.verify.parameters import Parameters


def catalogue(parameters: Parameters) -> list[Check]:
    """The checks for one workstation. Ids are unique, and a check comes after all that it needs."""
    profiles, default = parameters.profiles, parameters.default
    return [
        *machine_rows.checks(),
        *docker_rows.checks(),
        *model_rows.checks(profiles),
        *configuration_rows.checks(),
        *server_rows.checks(default),
        *manager_rows.checks(),
        *messages_rows.checks(profiles, default),
        *server_rows.last_checks(),
        *fence_rows.checks(),
        *scripted_rows.checks(),
        *model_choice_rows.checks(),
        *claude_rows.checks(default),
        *credentials_rows.checks(),
    ]
