"""GET /sessions: who uses which profile, and what only the owner of the token learns."""

from __future__ import annotations

import subprocess
import sys

from claude_local.claude.running_sessions import RunningSession
from tests.manager.scripted_router import until
from tests.manager.stand import TOKEN, Manager

HOLD = """
import sys, time
from claude_local.claude.running_sessions import record_session
kept = record_session(*sys.argv[1:])
print(flush=True)
time.sleep(60)
"""


def test_a_session_is_told_without_the_token_but_not_where_it_works(manager: Manager) -> None:
    assert manager.get("/sessions").json() == {"sessions": []}
    processes = []
    for workspace, profile in (("/home/a/secret", ""), ("/home/b/app", "large")):
        argv = [sys.executable, "-c", HOLD, str(manager.folder / "sessions"), workspace, profile]
        processes.append(subprocess.Popen(argv, stdout=subprocess.PIPE))
        processes[-1].stdout.readline()
    try:
        public = manager.get("/sessions").json()["sessions"]
        assert [(each["profile"], each["own"]) for each in public] == [("small", False), ("large", True)]
        assert all(each.keys() == {"profile", "own", "since"} for each in public)
        private = manager.get("/sessions", headers={"Authorization": f"Bearer {TOKEN}"}).json()["sessions"]
        assert [each["workspace"] for each in private] == ["/home/a/secret", "/home/b/app"]
        assert [each["process"] for each in private] == [each.pid for each in processes]
        assert private[0].keys() == RunningSession.__annotations__.keys() | {"own"}
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
    until(lambda: manager.get("/sessions").json() == {"sessions": []})
