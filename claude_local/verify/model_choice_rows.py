"""Rows about the names of models in a session: what Claude Code asks for is served, and /model lists and switches."""

from __future__ import annotations

import json
import re
from pathlib import Path

from claude_local.server.client import ServerError
from claude_local.verify import terminal
from claude_local.verify.checks import SESSIONS, Check, Failed, Skipped, one_line
from claude_local.verify.scripted_backend import ScriptedBackend, is_background, text, tool_use
from claude_local.verify.temporary_home import home
from claude_local.verify.terminal import Terminal
from claude_local.verify.workbench import Workbench

# The names that an agent, a command or a skill may give for a model (2.1.330).
ALIASES = ("haiku", "sonnet", "opus", "fable")
# Seconds for a session of this file.
SECONDS = 90.0


def _names(bench: Workbench) -> str:
    place = home(bench)
    place.fresh_workspace({})
    task = {"description": "say hello", "prompt": "Say hello.", "subagent_type": "general-purpose"}
    agents = [tool_use("Agent", {**task, "model": alias}) for alias in ALIASES]  # in one turn: they work side by side
    with ScriptedBackend([agents, *[text("Hello.")] * len(agents), text("Done.")], n_ctx=200_000) as backend:
        session = place.claude(
            "--tool-set", "full", "-p", "Ask them.", "--permission-mode", "acceptEdits", timeout=SECONDS,
            server=backend.url,
        )  # fmt: skip
        bodies = [request["body"] for request in backend.requests if isinstance(request["body"], dict)]
    if not session.ended.ok:
        raise Failed(f"claude-local: {session.ended.outcome}: {session.ended.last_output}")
    asked = {str(body["model"]) for body in bodies if "model" in body}
    if len(bodies) <= len(ALIASES):
        raise Failed(f"only {len(bodies)} requests came: the subagents did not run")
    try:
        served = {name for each in bench.server.router().values() for name in (each.id, *each.aliases)}
    except ServerError as error:
        raise Failed(str(error)) from None
    if refused := asked - served:
        raise Failed(f"Claude Code asks for {', '.join(sorted(refused))}, which llama-server refuses")
    return f"{', '.join(ALIASES)} and the session's own all ask for {', '.join(sorted(asked))}"


def _model_list(bench: Workbench) -> str:
    place = home(bench)
    place.fresh_workspace({})
    profiles = json.loads(Path(bench.paths.profiles).read_text())["profiles"]
    chosen = list(profiles)[-1]
    with ScriptedBackend([text("Hello from the script.")], n_ctx=200_000) as backend:
        env = {**place.environment(backend.url), **terminal.columns_environment()}
        with Terminal(place.inside([bench.paths.wrapper]), env=env, cwd=str(place.root)) as screen:
            screen.wait_for(lambda lines: terminal.at_prompt(lines) or terminal.asks_for_trust(lines), SECONDS)
            if terminal.asks_for_trust(screen.lines()):
                terminal.choose(screen, "Yes")
                screen.wait_for(terminal.at_prompt, SECONDS)
            screen.enter("/model")
            names = [str(each.get("name") or name) for name, each in profiles.items()]
            if not screen.wait_for(lambda lines: all(name in "\n".join(lines) for name in names), 10):
                raise Failed(f"/model does not list {', '.join(names)}: {screen.tail(12)}")
            rows = [re.search(r"(\d+)\.", line) for line in screen.lines() if f"{chosen}, this session only" in line]
            if not rows or not rows[0] or len(rows[0][1]) > 1:
                raise Skipped(f"{chosen} has no row of its own with a number key: {screen.tail(12)}")
            screen.send(rows[0][1])  # the key chooses; Enter is not needed
            screen.wait_for(_chosen, 10)
            screen.enter("hello")
            screen.wait_for(lambda lines: any("Hello from the script." in line for line in lines), 20)
        asked = [request["body"]["model"] for request in backend.main_requests if not is_background(request["body"])]
    if asked != [chosen]:
        raise Failed(f"after choosing {chosen} in /model, Claude Code asked for {asked or 'nothing'}")
    return f"/model lists {one_line(', '.join(names), 80)}; after choosing {chosen}, it answers"


def _chosen(lines: list[str]) -> bool:
    """Whether the list of /model is gone."""
    return terminal.at_prompt(lines) and not any("this session only" in line for line in lines)


def checks() -> list[Check]:
    """The rows of this subject, in order."""
    ready = ("claude.version", "settings", "settings.first-start", "token")
    return [
        Check("claude.names", "every model that Claude Code asks for is served", _names,
              needs=(*ready, "server.model"), limit=SECONDS + 30, about=SESSIONS),
        Check("claude.model-list", "/model lists the profiles and switches", _model_list,
              needs=ready, limit=3 * SECONDS, about=SESSIONS),
    ]  # fmt: skip
