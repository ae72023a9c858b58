"""Rows about the user's side of the installation: the token, Claude Code, its settings."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from claude_local.fence.config import ConfigError, FenceConfig, parse
from claude_local.verify import session
from claude_local.verify.checks import Check, Failed
from claude_local.verify.parameters import holds, value_at
from claude_local.verify.workbench import Workbench

SETTINGS_FIX = "./provision    (it keeps the user's own keys; a file that is no JSON: mv {path} {path}.broken first)"


def token(bench: Workbench) -> str:
    """The API token. Raises Failed when there is none that can be read."""
    path = Path(bench.paths.token)
    try:
        found = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise Failed(f"{path} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{path} cannot be read: {error}") from None
    if not found:
        raise Failed(f"{path} is empty")
    return found


def _token(bench: Workbench) -> str:
    mine = token(bench)
    info = Path(bench.paths.token).stat()
    mode = stat.S_IMODE(info.st_mode)
    if mode != 0o600:
        raise Failed(f"{bench.paths.token} has mode {mode:04o}, others may read it", f"chmod 600 {bench.paths.token}")
    if info.st_uid != os.getuid():
        raise Failed(
            f"{bench.paths.token} belongs to user {info.st_uid}", f"sudo chown {os.getuid()} {bench.paths.token}"
        )
    try:
        servers = Path(bench.paths.api_key_file).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        raise Failed(f"the server's copy {bench.paths.api_key_file} is missing") from None
    except OSError:
        return f"mode 0600, {len(mine)} characters; the server's copy is unreadable here, as it should be"
    if mine not in servers:
        raise Failed(f"{bench.paths.token} and the server's copy {bench.paths.api_key_file} differ")
    return f"mode 0600, {len(mine)} characters, the server has the same"


def fence_config(bench: Workbench) -> FenceConfig:
    """fence.json of this workstation. Raises Failed."""
    path = Path(bench.paths.fence_config)
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Failed(f"{path} is missing: the fence was never set up") from None
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise Failed(f"{path} cannot be used: {error}") from None


def _wrapper(bench: Workbench) -> str:
    path = Path(bench.paths.wrapper)
    if not path.is_file():
        raise Failed(f"{path} is missing")
    if not os.access(path, os.X_OK):
        raise Failed(f"{path} is not executable")
    return str(path)


def version_key(version: str) -> tuple[int, ...]:
    """``2.1.330`` as numbers that compare."""
    return tuple(int(part) for part in version.split("."))


def _version(bench: Workbench) -> str:
    ended = session.home(bench).claude("--version", timeout=60).ended
    found = re.match(r"(\d+\.\d+\.\d+)", ended.stdout.strip())
    if not ended.ok or found is None:
        raise Failed(f"claude-local --version: {ended.ending()}: {ended.said}")
    version, tested = found[1], bench.parameters.claude_tested
    if version_key(version) < version_key(bench.parameters.claude_minimum):
        raise Failed(f"Claude Code {version} is too old, {bench.parameters.claude_minimum} is the oldest that works")
    if version == tested:
        return f"Claude Code {version}, the tested version"
    side = "newer" if version_key(version) > version_key(tested) else "older"
    return f"Claude Code {version}; WARNING: {side} than {tested}, which claude-local was tested with"


def _object(path: str, fix: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Failed(f"{path} is missing", fix) from None
    except json.JSONDecodeError as error:
        raise Failed(f"{path} is no JSON: line {error.lineno}, column {error.colno}: {error.msg}", fix) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{path} cannot be read: {error}", fix) from None
    if not isinstance(found, dict):
        raise Failed(f"{path} holds {type(found).__name__}, not an object", fix)
    return found


def _settings(bench: Workbench) -> str:
    path = bench.paths.settings
    found = _object(path, SETTINGS_FIX.format(path=path))
    for key_path, wanted in bench.parameters.enforced_settings.items():
        value = value_at(found, key_path)
        if not holds(value, wanted):
            raise Failed(f"{path}: {key_path} is {value!r}, it must be {wanted!r}")
    if "$schema" not in found:
        raise Failed(f"{path} has no $schema: it is not the deploy's")
    mode = value_at(found, "permissions.defaultMode")
    return (
        f"{path}: valid, {len(bench.parameters.enforced_settings)} enforced keys as they must be, starts in mode {mode}"
    )


def _first_start(bench: Workbench) -> str:
    path = bench.paths.claude_json
    found = _object(path, SETTINGS_FIX.format(path=path))
    if found.get("hasCompletedOnboarding") is not True:
        raise Failed(f"{path}: hasCompletedOnboarding is not true, so the first start would ask for a theme")
    return f"{path}: first-run questions answered"


def _locks(bench: Workbench) -> str:
    found = _object(bench.paths.enforced_settings, "./provision")
    sandbox = found.get("sandbox") or {}
    if sandbox.get("enabled") is not True:
        raise Failed(f"{bench.paths.enforced_settings}: sandbox.enabled is not true")
    return f"{bench.paths.enforced_settings}: valid, the sandbox is locked on"


def invalid_settings(text: str) -> list[str]:
    """The entries of the section "Invalid settings" in what ``claude doctor`` prints."""
    _, found, section = text.partition("Invalid settings\n")
    if not found:
        return []
    return [line.removeprefix("- ").strip() for line in section.split("\n\n")[0].splitlines() if line.startswith("- ")]


STUB = re.compile(r"/\.mcp\.json: MCP config is not a regular file")


def _doctor(bench: Workbench) -> str:
    ended = session.home(bench).claude("doctor", timeout=90).ended
    if not ended.ok or "doctor" not in ended.stdout.lower():
        raise Failed(f"claude-local doctor: {ended.ending()}: {ended.said}")
    # The fence keeps .mcp.json from appearing in the workspace, and Claude Code names what is in its place.
    entries = [entry for entry in invalid_settings(ended.stdout) if not STUB.search(entry)]
    if entries:
        raise Failed(
            f"claude doctor finds invalid settings: {'; '.join(entries)}",
            SETTINGS_FIX.format(path=bench.paths.settings),
        )
    return "claude doctor finds no invalid settings"


def checks() -> list[Check]:
    """The rows of this subject, in order."""
    start = ("wrapper", "tool.bwrap", "fence.namespaces")
    return [
        Check("token", "the API token is there and private", _token),
        Check("wrapper", "the command claude-local is installed", _wrapper),
        Check("settings", "settings.json is valid and has our keys", _settings),
        Check("settings.first-start", "first-run questions are answered", _first_start),
        Check("settings.locks", "the locked settings are valid", _locks),
        Check("claude.version", "Claude Code starts and is a version that works", _version,
              needs=(*start, "settings.locks"), limit=90),
        Check("settings.doctor", "Claude Code accepts the settings", _doctor,
              needs=("settings", "claude.version"), limit=120),
    ]  # fmt: skip
