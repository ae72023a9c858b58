"""GET /sessions: who uses which profile, and what only the owner of the token learns. What sessions report counts at a
switch."""

from __future__ import annotations

import pytest

from claude_local.claude.running_sessions import RunningSession
from claude_local.fence.server_requests import SESSION
from claude_local.manager.sessions import fits
from tests.manager.scripted_router import until
from tests.manager.stand import TOKEN, Manager, report, running


def test_a_session_is_told_without_the_token_but_not_where_it_works(manager: Manager) -> None:
    assert manager.get("/sessions").json() == {"sessions": []}
    with running(manager, ("/home/a/secret", ""), ("/home/b/app", "large")) as processes:
        public = manager.get("/sessions").json()["sessions"]
        assert [(each["profile"], each["own"]) for each in public] == [("small", False), ("large", True)]
        assert all(each.keys() == {"profile", "own", "since", "tokens"} for each in public)
        private = manager.get("/sessions", headers={"Authorization": f"Bearer {TOKEN}"}).json()["sessions"]
        assert [each["workspace"] for each in private] == ["/home/a/secret", "/home/b/app"]
        assert [each["process"] for each in private] == processes
        assert private[0].keys() == RunningSession.__annotations__.keys() | {"own", "tokens"}
    until(lambda: manager.get("/sessions").json() == {"sessions": []})


def test_a_switch_that_a_session_could_not_follow_is_refused_until_it_has_compacted(manager: Manager) -> None:
    with running(manager, ("/home/a/app", ""), ("/home/b/own", "small")) as (process, own):
        assert report(manager, own, 90_000).status_code == report(manager, process, 9_109).status_code == 200
        assert [each["tokens"] for each in manager.get("/sessions").json()["sessions"]] == [9_109, 90_000]
        refused = manager.post("/switch", {"model": "large"})
        assert refused.status_code == 409 and manager.router.alias() == "small"
        assert "/home/a/app has 9,109" in refused.json()["error"] and "/compact" in refused.json()["fix"]
        assert "/home/b/own" not in refused.text, "it keeps its own model"
        from_a_session = manager.post("/switch", {"model": "large"}, headers={SESSION: str(process)})
        assert from_a_session.status_code == 409 and "/home" not in from_a_session.text
        assert "this session has 9,109" in from_a_session.json()["error"]
        assert "Only the user can switch anyway" in from_a_session.json()["fix"]
        from_another = manager.post("/switch", {"model": "large"}, headers={SESSION: str(own)})
        assert "a session has 9,109" in from_another.json()["error"] and "/home" not in from_another.text
        report(manager, process, 0)
        assert manager.post("/switch", {"model": "large"}).status_code == 200


def test_the_user_can_force_a_switch_and_one_to_the_active_profile_is_never_refused(manager: Manager) -> None:
    with running(manager, ("/home/a/app", "")) as (process,):
        report(manager, process, 9_109)
        assert manager.post("/switch", {"model": "small"}).status_code == 200
        forced = manager.post("/switch", {"model": "large", "force": True}, headers={SESSION: str(process)})
        assert forced.status_code == 409, "only the user may leave a session stuck"
        assert manager.post("/switch", {"model": "large", "force": True}).status_code == 200


def test_only_a_session_reports_itself_and_one_that_has_ended_is_forgotten(manager: Manager) -> None:
    assert manager.post("/sessions", {"tokens": 9_109}).status_code == 400
    assert manager.post("/sessions", {"tokens": 9_109}, token=None).status_code == 401
    with running(manager, ("/home/a/app", "")) as (process,):
        report(manager, process, 9_109)
    assert report(manager, 1, 9_109).status_code == 200
    assert manager.board.sessions._tokens == {}
    assert manager.post("/switch", {"model": "large"}).status_code == 200


@pytest.mark.parametrize(
    ("tokens", "window", "does"),
    [(32_768, 32_768, True), (32_769, 32_768, False), (91_000, 65_536, True), (92_000, 65_536, False)],
)
def test_a_conversation_fits_at_once_or_by_a_compaction(tokens: int, window: int, does: bool) -> None:
    assert fits(tokens, window) is does
