"""llama-server's router as the management API needs it: a name that moves, and a log that is written once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from claude_local.paths import Paths
from claude_local.server.client import LlamaClient
from claude_local.server.presets import ACTIVE
from tests.integration.machine import HOME

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

PATHS = Paths(home=str(HOME), model_dir=str(HOME), bin_dir=str(HOME))


@pytest.fixture
def router() -> LlamaClient:
    return LlamaClient("http://127.0.0.1:8080", Path(PATHS.token).read_text().strip())


def meant(router: LlamaClient) -> list[str]:
    """The models that the name for the active profile means."""
    return [name for name, model in router.router().items() if ACTIVE in model.aliases]


def test_a_name_moves_to_another_model_and_nothing_is_loaded_for_it(router: LlamaClient) -> None:
    (before,) = meant(router)
    other = next(name for name in router.router() if name != before)
    states = {name: model.state for name, model in router.router().items()}
    try:
        assert router.activate(other, ACTIVE, load=False)
        assert meant(router) == [other]
    finally:
        router.activate(before, ACTIVE, load=False)
    assert meant(router) == [before]
    assert {name: model.state for name, model in router.router().items()} == states


def test_a_name_of_a_model_does_not_move(router: LlamaClient) -> None:
    first, second, *_ = router.router()
    answer = router.request("POST", "/models/load", {"model": first, "alias": second, "load": False})
    assert answer.status_code == 400 and second in answer.json()["error"]["message"]


def test_the_log_file_has_the_lines_of_a_models_process_once(router: LlamaClient) -> None:
    router.context_window(ACTIVE)  # has it loaded
    loads = [line for line in Path(PATHS.server_log).read_text().splitlines() if "load_model: initializing" in line]
    assert loads and all(re.match(r"\[ *\d+\] ", line) for line in loads), loads
