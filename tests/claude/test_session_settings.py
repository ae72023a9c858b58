"""What the session's settings change in the real Claude Code, with the scripted backend."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from claude_local.claude.settings_json import enforced_settings, user_settings
from claude_local.verify.scripted_backend import ScriptedBackend, text, tool_use
from tests.claude.wrapper_home import TOKEN, Home

# The real Claude Code that the deploy links, else one on PATH.
LINK = Path.home() / ".local" / "share" / "claude-local" / "claude"


@pytest.fixture
def real(home: Home) -> Home:
    """The wrapper with the real Claude Code. Its sandbox is off: no command runs here."""
    if not LINK.exists():
        pytest.skip("no Claude Code is installed")
    Path(home.paths.claude).unlink()
    Path(home.paths.claude).symlink_to(LINK.resolve())
    settings = enforced_settings([8080])
    settings["sandbox"] = {"enabled": False}
    home.add(home.paths.enforced_settings, json.dumps(settings))
    home.add(f"{home.paths.config_dir}/.claude.json", json.dumps({"hasCompletedOnboarding": True}))
    return home


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "mode"), [([], "default"), (["--permission-mode", "plan"], "plan")])
def test_a_printed_answer_is_no_plan_unless_the_caller_asks_for_one(
    real: Home, arguments: list[str], mode: str
) -> None:
    real.add(real.paths.settings, json.dumps(user_settings("plan")))
    output = ["--output-format", "stream-json", "--verbose"]
    with ScriptedBackend([text("ok")], token=TOKEN) as backend:
        done = real.run("-p", "hi", *output, *arguments, server=backend.url)
    start = next(line for line in map(json.loads, done.stdout.splitlines()) if line.get("subtype") == "init")
    assert start["permissionMode"] == mode


def models_asked(home: Home, files: dict[str, str], arguments: list[str], delegate: bool) -> set[str]:
    """The models that Claude Code asks for in a project with ``files``, started with ``--model large``."""
    project = home.home / "project"
    for name, content in files.items():
        home.add(project / name, content)
    call = tool_use("Agent", {"description": "d", "prompt": "p", "subagent_type": "reviewer"})
    turns = [call, text("sub"), text("ok")] if delegate else [text("ok")]
    with ScriptedBackend(turns, token=TOKEN, models=["large", "small"]) as backend:
        done = subprocess.run(
            [home.paths.wrapper, "--model", "large", *arguments],
            cwd=project, env=home.environment(backend.url) | {"CLAUDE_CODE_MAX_RETRIES": "0"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        bodies = [request["body"] for request in backend.requests if isinstance(request["body"], dict)]
    assert done.returncode == 0 and "not found" not in done.stdout, done.stdout + done.stderr
    return {body["model"] for body in bodies}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "pinned"),
    [
        # One id that 2.1.330 knows and has retired, one that it does not know, one that does not exist yet.
        ("command", "claude-3-5-haiku-20241022"),
        ("command", "claude-3-5-haiku-latest"),
        ("command", "claude-opus-9-9"),
        *((place, "claude-opus-9-9") for place in ("skill", "agent", "subagent", "settings")),
    ],
)
def test_every_model_that_a_project_names_is_the_sessions_profile(real: Home, place: str, pinned: str) -> None:
    agent = {".claude/agents/reviewer.md": f"---\nname: reviewer\ndescription: r\nmodel: {pinned}\n---\nReview.\n"}
    slots = ["ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL", "ANTHROPIC_SMALL_FAST_MODEL"]
    pins = {"model": pinned, "availableModels": [pinned], "env": dict.fromkeys(slots, pinned)}
    files, arguments = {
        "command": ({".claude/commands/check.md": f"---\nmodel: {pinned}\n---\nSay hello.\n"}, ["-p", "/check"]),
        "skill": (
            {".claude/skills/s/SKILL.md": f"---\nname: s\ndescription: d\nmodel: {pinned}\n---\nHi.\n"}, ["-p", "/s"],
        ),
        "agent": (agent, ["--agent", "reviewer", "-p", "hi"]),
        "subagent": (agent, ["-p", "hi"]),
        "settings": ({".claude/settings.json": json.dumps(pins)}, ["-p", "hi"]),
    }[place]  # fmt: skip
    assert models_asked(real, files, arguments, delegate=place == "subagent") == {"large"}
