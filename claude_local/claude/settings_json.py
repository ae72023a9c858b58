"""What the deploy writes into Claude Code's settings.json, .claude.json and enforced.json. No I/O.

The deploy's own settings are in claude_local/settings.py.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from claude_local.claude.json_merge import Json

SCHEMA = "https://json.schemastore.org/claude-code-settings.json"

# Keys of .claude.json that answer Claude Code's first-run questions. Claude Code rewrites the file all the time.
# The user still answers whether a folder is trusted.
FIRST_RUN: Json = {"hasCompletedOnboarding": True, "hasSeenAutoDefaultNudge": True, "installMethod": "native"}
# The keys of FIRST_RUN that each deploy sets again. Claude Code may change installMethod.
FIRST_RUN_ENFORCED = ("hasCompletedOnboarding", "hasSeenAutoDefaultNudge")

# With 2.1.330 the file tools ask before they write a guarded name (.git, .vscode, .envrc, .bashrc ... at any depth),
# even where a project's rules allow it, and the sandbox closes most of these names to commands. .envrc is the one that
# the sandbox leaves open, and direnv runs it. For the file tools a rule without a slash holds at any depth, for
# commands only at the top. `claude doctor` would complain about a rule with **.
GUARDED_RULES = ["Edit(.envrc)"]


def user_settings(default_mode: str) -> Json:
    """Our part of settings.json. ``default_mode``: the permission mode that a session starts in, such as ``plan``."""
    return {
        "$schema": SCHEMA,
        # A local model takes half a minute to comment on the output of ``!ls``.
        "respondToBashCommands": False,
        "permissions": {
            "defaultMode": default_mode,
            "disableAutoMode": "disable",
            "disableBypassPermissionsMode": "disable",
        },
    }


# Seconds between two runs of the status line, besides those at each event: it shows how a prompt is read. One run takes
# 45 ms of a core.
REFRESH = 3
# Seconds for a switch of the model (claude_local/claude/switch_command.py waits for 780).
SWITCH_TIMEOUT = 900


def enforced_settings(
    ports: Iterable[int], status_line: str | None = None, switch: Sequence[str] | None = None
) -> Json:
    """The content of enforced.json, which the wrapper passes with ``--settings``: no project's settings undo it.

    ``ports``: the only ports on this machine that sandboxed commands may reach. ``status_line``: the program that shows
    the fence below the prompt (files/status-line). ``switch``: the command behind ``/switch``. Tested as a whole with
    2.1.330: ``claude doctor`` reports nothing,
    and a project with ``sandbox.enabled: false`` stays sandboxed.

    No rule forbids reading /proc. Read and Grep already refuse environments and memory there (tested through links,
    ``..``, task/ and root/). ``Read(//proc/**)`` would also forbid ``cat /proc/cpuinfo`` in Bash, and a rule with a
    star inside (``Read(//proc/*/environ)``) makes bubblewrap fail at each command.
    """
    hosts = [f"{host}:{port}" for host in ("127.0.0.1", "localhost") for port in ports]
    settings: Json = {
        "permissions": {
            "disableAutoMode": "disable",
            "disableBypassPermissionsMode": "disable",
            "blockWritesOutsideWorkingDirectories": True,
            "deny": GUARDED_RULES,
        },
        "sandbox": {
            "enabled": True,
            "failIfUnavailable": True,
            "autoAllowBashIfSandboxed": False,
            "allowUnsandboxedCommands": False,
            "network": {"allowedDomains": hosts, "strictAllowlist": True},
            # Commands do not get llama-server's token.
            "credentials": {"envVars": [{"name": "ANTHROPIC_AUTH_TOKEN", "mode": "deny"}]},
        },
    }
    if status_line is not None:
        settings["statusLine"] = {
            "type": "command", "command": shlex.quote(status_line), "refreshInterval": REFRESH,
        }  # fmt: skip
    if switch is not None:
        hook = {
            "type": "command", "command": shlex.join(switch), "timeout": SWITCH_TIMEOUT,
            "statusMessage": "Switching the model",
        }  # fmt: skip
        settings["hooks"] = {
            "UserPromptExpansion": [{"matcher": "switch", "hooks": [hook]}],
            "PreModelSwitch": [{"hooks": [hook]}],
        }
    return settings
