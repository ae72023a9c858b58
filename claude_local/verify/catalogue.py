"""Every check there is, in the order of the rows: cheap ones first, what needs a model last."""

from __future__ import annotations

from claude_local.verify import (
    claude_session,
    configuration,
    docker_rows,
    fence_rows,
    machine,
    messages_api,
    models,
    server,
)
from claude_local.verify.checks import Check
from claude_local.verify.parameters import Parameters


def catalogue(parameters: Parameters) -> list[Check]:
    """The checks for one workstation. Ids are unique, and a check comes after all that it needs."""
    profiles, default = parameters.profiles, parameters.default
    return [
        *machine.checks(),
        *docker_rows.checks(),
        *models.checks(profiles),
        *configuration.checks(),
        *server.checks(default),
        *messages_api.checks(profiles, default),
        *fence_rows.checks(),
        *claude_session.checks(default),
    ]
