"""Rows about the user's own Claude Code login: sessions neither change it nor send it anywhere."""

from __future__ import annotations

import json
from pathlib import Path

from claude_local.verify import processes
from claude_local.verify.checks import SESSIONS, Check, Failed, Skipped
from claude_local.verify.fingerprint import differences, fingerprint
from claude_local.verify.scripted_rows import SECONDS, ScriptedSession, scripted_session
from claude_local.verify.temporary_home import TemporaryHome, home
from claude_local.verify.workbench import Workbench

# The row that compares ~/.claude as it was before the run with what it is at the end.
OWN_LOGIN = "credentials.own"


def _planted(bench: Workbench) -> str:
    run, place = scripted_session(bench), home(bench)
    login = place.login
    for name, content in login.files.items():
        path = place.root / name
        if not path.exists() or path.read_bytes() != content:
            raise Failed(f"a session changed ~/{name}")
    mount_points = _mount_points(place, outer=bench.fence.outer)
    _check_requests(run, login.secrets)
    remark = f" but the sandbox's empty {', '.join(mount_points[:3])}" if mount_points else ""
    return (
        f"{len(login.files)} planted files are unchanged, nothing new in ~/.claude{remark}; "
        f"{len(login.secrets)} secrets (one in ANTHROPIC_API_KEY) in none of {len(run.requests)} requests"
    )


def _mount_points(place: TemporaryHome, *, outer: bool) -> list[str]:
    """The empty directories that the inner sandbox leaves in ~/.claude. Raises Failed for anything else that is new.

    Claude Code 2.1.330 makes them there, whatever CLAUDE_CONFIG_DIR is; the ``outer`` layer keeps them away.
    """
    new = {str(path.relative_to(place.root)): path for path in (place.root / ".claude").rglob("*")}
    empty = [] if outer else sorted(name for name, path in new.items() if path.is_dir())
    if extra := sorted(new.keys() - place.login.files.keys() - set(empty)):
        raise Failed(f"sessions left {', '.join(extra[:4])} in ~/.claude")
    return empty


def _check_requests(run: ScriptedSession, secrets: list[str]) -> None:
    """Raises Failed when a request holds a secret, or when there was no request."""
    if not run.requests:
        raise Failed(run.session.failure() or "no request reached the scripted backend")
    for number, request in enumerate(run.requests, 1):
        if any(secret in json.dumps(request, ensure_ascii=False) for secret in secrets):
            raise Failed(f"request {number} ({request['method']} {request['path']}) holds a planted cloud secret")


def _own_login(bench: Workbench) -> dict[str, str]:
    return fingerprint(Path(bench.paths.home) / ".claude", Path(bench.paths.home) / ".claude.json")


def remember_own_login(bench: Workbench) -> None:
    """Take the fingerprint that the last row compares with; called before anything runs."""
    bench.once("own login", lambda: _own_login(bench))
    bench.once("other claudes", lambda: processes.others_named("claude", bench.marker))


def _own(bench: Workbench) -> str:
    before = bench.once("own login", lambda: _own_login(bench))
    if changes := differences(before, _own_login(bench)):
        others = set(bench.known("other claudes") or []) | set(processes.others_named("claude", bench.marker))
        if others:
            running = ", ".join(map(str, sorted(others)))
            raise Skipped(f"another claude is running (process {running}), and it changes ~/.claude itself")
        raise Failed(f"{len(changes)} changes in ~/.claude: {', '.join(changes[:3])}")
    if not before:
        return "there was no ~/.claude and no ~/.claude.json, and there is none now"
    return f"{len(before)} files and directories of ~/.claude and ~/.claude.json are unchanged (sha256)"


def checks() -> list[Check]:
    """The rows of this subject, in order."""
    ready = ("claude.version", "settings", "settings.first-start", "token")
    planted = "sessions neither change nor send a cloud login"
    return [
        Check("credentials.planted", planted, _planted, needs=ready, limit=SECONDS + 30, about=SESSIONS),
        Check(OWN_LOGIN, "your own ~/.claude is unchanged", _own, limit=300, about=SESSIONS),
    ]
