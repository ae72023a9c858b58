"""Rows about the user's side of the installation: the token, the command, Claude Code and its settings."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from claude_local.claude.versions import compare
from claude_local.verify.checks import SESSIONS, Check, Failed
from claude_local.verify.parameters import holds, value_at
from claude_local.verify.temporary_home import home
from claude_local.verify.workbench import Workbench

SETTINGS_FIX = "./provision    (keeps your own keys; a file that is not JSON: mv {path} {path}.broken first)"


def _token(bench: Workbench) -> str:
    token, path = bench.token, bench.paths.token
    info = Path(path).stat()
    mode = stat.S_IMODE(info.st_mode)
    if mode != 0o600:
        raise Failed(f"{path} has mode {mode:04o}, so other users may read it", f"chmod 600 {path}")
    if info.st_uid != os.getuid():
        raise Failed(f"{path} belongs to user {info.st_uid}", f"sudo chown {os.getuid()} {path}")
    about = f"mode 0600, {len(token)} characters"
    try:
        keys = Path(bench.paths.api_key_file).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        raise Failed(f"the server's copy {bench.paths.api_key_file} is missing") from None
    except OSError:
        return f"{about}; only the server can read its copy"
    if token not in keys:
        raise Failed(f"{path} and the server's copy {bench.paths.api_key_file} differ")
    return f"{about}, the server has the same"


def _wrapper(bench: Workbench) -> str:
    path = Path(bench.paths.wrapper)
    if not path.is_file():
        raise Failed(f"{path} is missing")
    if not os.access(path, os.X_OK):
        raise Failed(f"{path} is not executable")
    return str(path)


def _version(bench: Workbench) -> str:
    ended = home(bench).claude("--version", timeout=60).ended
    match = re.match(r"(\d+\.\d+\.\d+)", ended.stdout.strip())
    if not ended.ok or match is None:
        raise Failed(f"claude-local --version: {ended.outcome}: {ended.last_output}")
    version, tested, minimum = match[1], bench.parameters.claude_tested, bench.parameters.claude_minimum
    if compare(version, minimum) < 0:
        raise Failed(f"Claude Code {version} is too old: {minimum} or newer is needed")
    if version == tested:
        return f"Claude Code {version}, the tested version"
    side = "newer" if compare(version, tested) > 0 else "older"
    return f"Claude Code {version}; WARNING: {side} than {tested}, the version that claude-local was tested with"


def _json_object(path: str, fix: str) -> dict[str, Any]:
    """The object in a JSON file. Raises Failed with ``fix``."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Failed(f"{path} is missing", fix) from None
    except json.JSONDecodeError as error:
        raise Failed(f"{path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}", fix) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{path} cannot be read: {error}", fix) from None
    if not isinstance(value, dict):
        raise Failed(f"{path} holds a {type(value).__name__}, not an object", fix)
    return value


def _settings(bench: Workbench) -> str:
    path, enforced = bench.paths.settings, bench.parameters.enforced_settings
    settings = _json_object(path, SETTINGS_FIX.format(path=path))
    for key_path, expected in enforced.items():
        value = value_at(settings, key_path)
        if not holds(value, expected):
            raise Failed(f"{path}: {key_path} is {value!r}, it must be {expected!r}")
    if "$schema" not in settings:
        raise Failed(f"{path} has no $schema, so the deploy did not write it")
    mode = value_at(settings, "permissions.defaultMode")
    keys = "1 enforced key is" if len(enforced) == 1 else f"{len(enforced)} enforced keys are"
    return f"{path}: valid, {keys} set, starts in {mode} mode"


def _first_start(bench: Workbench) -> str:
    path = bench.paths.claude_json
    if _json_object(path, SETTINGS_FIX.format(path=path)).get("hasCompletedOnboarding") is not True:
        raise Failed(f"{path}: hasCompletedOnboarding is not true, so the first start would ask for a theme")
    return f"{path}: the first-run questions are answered"


def _locks(bench: Workbench) -> str:
    path = bench.paths.enforced_settings
    sandbox = _json_object(path, "./provision").get("sandbox") or {}
    if sandbox.get("enabled") is not True:
        raise Failed(f"{path}: sandbox.enabled is not true")
    return f"{path}: valid, the sandbox is locked on"


def invalid_settings(text: str) -> list[str]:
    """The entries of the section "Invalid settings" in what ``claude doctor`` prints."""
    section = text.partition("Invalid settings\n")[2].split("\n\n")[0]
    return [line.removeprefix("- ").strip() for line in section.splitlines() if line.startswith("- ")]


def _doctor(bench: Workbench) -> str:
    ended = home(bench).claude("doctor", timeout=90).ended
    if not ended.ok or "doctor" not in ended.stdout.lower():
        raise Failed(f"claude-local doctor: {ended.outcome}: {ended.last_output}")
    if entries := invalid_settings(ended.stdout):
        fix = SETTINGS_FIX.format(path=bench.paths.settings)
        raise Failed(f"claude doctor reports invalid settings: {'; '.join(entries)}", fix)
    return "claude doctor reports no invalid settings"


def checks() -> list[Check]:
    """The rows of this subject, in order."""
    start = ("wrapper", "tool.bwrap", "fence.namespaces")
    return [
        Check("token", "the API token exists and is private", _token),
        Check("wrapper", "the command claude-local is installed", _wrapper),
        Check("settings", "settings.json is valid and has the enforced keys", _settings),
        Check("settings.first-start", "the first-run questions are answered", _first_start),
        Check("settings.locks", "the locked settings are valid", _locks),
        Check("claude.version", "Claude Code starts, in a version that works", _version,
              needs=(*start, "settings.locks"), limit=90),
        Check("settings.doctor", "Claude Code accepts the settings", _doctor,
              needs=("settings", "claude.version"), limit=120, about=SESSIONS),
    ]  # fmt: skip
