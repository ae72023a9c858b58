"""What holds for every test."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

from tests.integration import machine

# Machines are slow at times, and no test may depend on that or on luck: the same inputs each time.
# `./provision test --hypothesis-profile=explore` looks for new ones.
QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=QUIET)
settings.register_profile("explore", deadline=None, suppress_health_check=QUIET)
settings.load_profile("steady")


def pytest_configure() -> None:
    """Ctrl-C and Ctrl-\\ reach the programs that tests start, also where the tests themselves were started in the
    background: a shell lets those ignore both, and what is ignored is inherited."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def deployed() -> None:
    """This machine as a deploy leaves it: the image, the models, a running server, Claude Code, the commands.

    A bare machine takes the time of a first deploy, one that is set up some seconds.
    """
    machine.deploy_json()


@pytest.fixture(scope="session")
def claude_code() -> None:
    """Claude Code on this machine, with the programs that a fenced session needs; no Docker, no model."""
    machine.stages("packages", "runtime", "claude")


@pytest.fixture(scope="session")
def docker_daemon() -> None:
    """The programs that the fence needs, and a Docker daemon that answers."""
    machine.stages("packages", "docker")
