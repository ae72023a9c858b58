"""The rows about the management API, on one over a scripted router."""

from pathlib import Path

import pytest

from claude_local.verify.checks import Failed
from claude_local.verify.manager_rows import checks
from tests.manager.scripted_router import ScriptedRouter, until
from tests.manager.stand import Manager
from tests.verify.verify_lab import TOKEN, deployed

ROWS = {check.id: check for check in checks()}


def test_the_rows_pass_on_a_management_api_that_answers(tmp_path: Path) -> None:
    with ScriptedRouter("small", "large") as router, Manager(tmp_path, router, token=TOKEN) as manager:
        until(lambda: manager.state() == "ready")
        bench = deployed(tmp_path / "home", manager_port=manager.port)
        assert ROWS["manager.answers"].run(bench) == f"port {manager.port}: Small answers"
        assert ROWS["manager.guarded"].run(bench).startswith("401 without the token")
        assert router.alias() == "small"


def test_a_profile_that_it_does_not_know_fails(tmp_path: Path) -> None:
    with ScriptedRouter("small", "large") as router, Manager(tmp_path, router, token=TOKEN) as manager:
        bench = deployed(tmp_path / "home", manager_port=manager.port, profiles=("small", "huge"))
        with pytest.raises(Failed, match="huge"):
            ROWS["manager.answers"].run(bench)


def test_one_that_takes_any_token_fails(tmp_path: Path) -> None:
    with ScriptedRouter("small", "large") as router, Manager(tmp_path, router, token="other") as manager:
        bench = deployed(tmp_path / "home", manager_port=manager.port)
        with pytest.raises(Failed, match="with the token: HTTP 401"):
            ROWS["manager.guarded"].run(bench)


def test_a_port_where_nothing_listens_fails_with_the_log_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="does not answer") as caught:
        ROWS["manager.answers"].run(deployed(tmp_path / "home", manager_port=1))
    assert "docker logs --tail 40 claude-local-manager" in caught.value.fix
