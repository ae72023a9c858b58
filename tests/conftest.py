"""Settings and fixtures for all tests."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from tests.integration import machine

# Each run uses the same inputs and no time limits, so that no test depends on luck or on a fast machine.
# `./provision test --hypothesis-profile=explore` tries new inputs.
QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=QUIET)
settings.register_profile("explore", deadline=None, suppress_health_check=QUIET)
settings.load_profile("steady")


# What the caller may have set that changes what programs print, how git works, or where a home is.
CALLERS = (
    "BASH_ENV", "CI", "CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "LANGUAGE", "LINES", "NO_COLOR",
    "PAGER", "ZDOTDIR",
)  # fmt: skip


def pytest_configure() -> None:
    """Run all tests alike, whatever shell, terminal or CI they are started from.

    What ignores signals (a shell its background jobs' Ctrl-C, nohup, some init) hands that on to its children.
    """
    for name in list(os.environ):
        if name in CALLERS or (name.startswith(("LC_", "GIT_", "XDG_")) and not name.startswith("GIT_SSL")):
            del os.environ[name]
    os.environ |= {"LANG": "C.UTF-8", "TERM": "xterm-256color"}
    os.umask(0o022)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGCHLD, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # nohup: the tests themselves still ignore it, but a program that they start begins with the default.
        signal.signal(signal.SIGHUP, lambda number, frame: None)


@pytest.fixture(scope="session")
def deployed() -> None:
    """A deployed machine: the image, the models, a running server, Claude Code and the commands.

    Takes seconds if the machine is deployed already, else the time of a first deploy.
    """
    machine.deploy_json()


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> str:
    """The address of the llama-server that CLAUDE_LOCAL_TEST_SERVER names, or of the deployed one."""
    if named := os.environ.get("CLAUDE_LOCAL_TEST_SERVER"):
        return named
    request.getfixturevalue("deployed")
    return "http://127.0.0.1:8080"


@pytest.fixture(scope="session")
def claude_code() -> None:
    """Claude Code and the programs that a fenced session needs. No Docker, no model."""
    machine.stages("packages", "runtime", "claude")


@pytest.fixture(scope="session")
def docker_daemon() -> None:
    """A running Docker daemon, and the programs that the fence needs."""
    machine.stages("packages", "docker")
