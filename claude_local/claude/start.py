"""claude-local: reads the arguments, waits for llama-server, and starts Claude Code behind the fence.

templates/claude-local runs it as a program: ``python -I -S start.py --config FILE ... -- ARGUMENTS OF THE USER``. Exit
status 2: arguments that cannot be used; 1: something is missing or does not work. A message says which, and ends with
the command that fixes it. Otherwise the exit status is Claude Code's (claude_local/fence/launch.py).
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from os.path import abspath, dirname, isfile
from typing import Any

if __name__ == "__main__":
    # Until there is something to clean up, Ctrl-C ends the program without a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.path.insert(0, dirname(dirname(dirname(abspath(__file__)))))

from claude_local.claude import arguments as command_line
from claude_local.claude.conversations import conversation_tokens
from claude_local.claude.giving_up import giving_up, load_active_again
from claude_local.claude.profiles import DEFAULT_MODEL, Profiles, read_profiles
from claude_local.claude.running_sessions import record_session, running_sessions, shortened
from claude_local.claude.session_variables import (
    MODEL_VARIABLES,
    NO_TOOL_SEARCH,
    cleaned,
    model_variables,
    session_variables,
)
from claude_local.claude.tool_sets import DEFAULT, SETS, ToolSet
from claude_local.fence import launch
from claude_local.fence.messages import PROVISION, fail, note, printable
from claude_local.fence.options import Options, chooses_tools, parse_arguments, read_config
from claude_local.manager.sessions import fits
from claude_local.server.ready import ServerUnusable, SessionServer, context_window

Json = dict[str, Any]
# The variable with which the status line (files/status-line) shows the tools.
TOOLS_LABEL = "CLAUDE_LOCAL_TOOLS"
# The variable with the management API's port, for the status line and for /switch.
MANAGER = "CLAUDE_LOCAL_MANAGER"
# The conversation and the token go to the server, so only plain HTTP on a loopback address is allowed.
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_LOOPBACK = re.compile(rf"http://(?:127\.{_OCTET}\.{_OCTET}\.{_OCTET}|localhost|\[::1\])(?::([1-9][0-9]{{0,4}}))?")


@dataclass
class StartOptions(Options):
    """What the wrapper passes: the fence's options, and for what comes before.

    ``server``: llama-server's base URL here. ``container``: its Docker container. ``token``, ``profiles``, ``wish``,
    ``sessions``, ``settings`` (the enforced ones), ``bash_env``, ``claude``, ``native_claude``: paths. ``path``: the
    PATH for docker and sudo; a project's .venv/bin may be on the user's. ``start_timeout``: seconds for the server to
    start and load the model. ``print_mode``: the permission mode of ``-p``. ``command``: the user's arguments.
    """

    container: str = ""
    token: str = ""
    profiles: str = ""
    wish: str = ""
    sessions: str = ""
    settings: str = ""
    bash_env: str = ""
    claude: str = ""
    native_claude: str = ""
    path: str = ""
    start_timeout: int = 0
    print_mode: str = ""


def check_directory() -> None:
    """End the program where neither Claude Code nor the fence can work."""
    here = os.environ.get("PWD", "")
    if not os.access(".", os.R_OK | os.X_OK):
        fail(f"you may not read the current directory {here}", "cd elsewhere")
    try:
        same = os.path.samestat(os.stat("."), os.stat(here or os.getcwd()))
    except OSError:
        same = False
    if not same:
        fail(f"the current directory {here} was deleted or replaced", "cd elsewhere")


def choose_server(installed: str) -> str:
    """The server's base URL: of CLAUDE_LOCAL_SERVER, else ``installed``. Ends the program when it is not loopback."""
    chosen = os.environ.get("CLAUDE_LOCAL_SERVER") or installed
    server = chosen.removesuffix("/")
    address = _LOOPBACK.fullmatch(server)
    if address is None or int(address[1] or 80) > 65535:
        fail(
            f"CLAUDE_LOCAL_SERVER is '{chosen}'; only http:// and a loopback address are allowed",
            f"CLAUDE_LOCAL_SERVER={installed} claude-local", status=2,
        )  # fmt: skip
    return server


def read_token(path: str, needed: bool) -> str:
    """The server's API key. Ends the program when it is ``needed`` and not there."""
    token = ""
    try:
        with open(path, encoding="utf-8") as file:
            token = "".join(file.read().split())
    except (OSError, ValueError):
        pass
    if needed and not token:
        fail(f"the API token {path} is missing or empty", PROVISION)
    return token


def find_claude(options: StartOptions) -> str:
    """The Claude Code that the deploy chose, else the user's own. Ends the program when there is none."""
    for path in (options.claude, options.native_claude):
        if isfile(path) and os.access(path, os.X_OK):
            return path
    from shutil import which

    return which("claude") or fail("Claude Code is not installed", PROVISION)


def merged(beneath: Json, above: Json) -> Json:
    """Two JSON objects in one; where both have a value, ``above`` wins."""
    result = dict(beneath)
    for key, value in above.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def read_object(text: str) -> Json | None:
    """The JSON object in ``text``, or in the file that it names; None when there is none."""
    try:
        if "{" not in text:
            with open(text, encoding="utf-8") as file:
                text = file.read()
        value = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def enforced_settings(
    options: StartOptions, asked: command_line.Arguments, model: str, profiles: Profiles, manager_port: int | None
) -> Json:
    """The settings for Claude Code: the enforced ones, with the caller's --settings beneath them (Claude Code would
    take only the last --settings). ``manager_port``: the management API's, None where it does not rule the session's
    server. Ends the program when one cannot be read."""
    ours = read_object(options.settings)
    if ours is None:
        fail(f"the enforced settings {options.settings} are missing or not a JSON object", PROVISION)
    # Whatever model a project, a skill or an agent names, the session's model answers: availableModels makes 2.1.330
    # fall back to it (unlike modelOverrides, also for ids that it does not know), and env wins over a project's.
    ours = merged(
        ours,
        {"env": dict.fromkeys(MODEL_VARIABLES, model) | NO_TOOL_SEARCH | {MANAGER: str(manager_port or "")}},
    )
    ours["availableModels"] = sorted({model, DEFAULT_MODEL, *profiles.tools})
    ours["modelPicker"] = {"replaceBuiltInOptions": True, "options": profiles.picker()}
    settings: Json = {}
    for each in asked.settings:
        own = read_object(each)
        if own is None:
            fail(
                f"--settings '{each}' is neither a readable JSON file nor a JSON object",
                "claude-local --settings FILE", status=2,
            )  # fmt: skip
        settings = merged(settings, own)
    settings = merged(settings, ours)
    # The answer to one question is no plan. The caller's --permission-mode and --settings win.
    if asked.prints:
        settings = merged({"permissions": {"defaultMode": options.print_mode}}, settings)
    return settings


def read_command(options: StartOptions, profiles: Profiles) -> command_line.Arguments:
    """The user's arguments. Ends the program when they cannot be used."""
    try:
        asked = command_line.read(options.command, profiles.names)
        if asked.profile and asked.profile not in profiles.tools:
            raise command_line.UsageError(
                f"there is no profile '{asked.profile}' on this machine", f"claude-local --model {profiles.names}"
            )
        command_line.refuse_command(asked)
    except command_line.UsageError as error:
        if error.fix:
            fail(str(error), error.fix, status=2)
        print(f"claude-local: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    return asked


def check_conversation(asked: command_line.Arguments, profile: str, profiles: Profiles, config_dir: str) -> None:
    """End the program if the earlier conversation is too long for ``profile``: Claude Code would compact it again and
    again, and then say that the prompt is too long."""
    window = profiles.windows.get(profile)
    if asked.conversation is None or not window:
        return
    tokens = conversation_tokens(config_dir, os.getcwd(), asked.conversation)
    if fits(tokens, window):
        return
    larger = max(profiles.windows, key=lambda each: profiles.windows[each])
    goes_on = f"--resume {asked.conversation}" if asked.conversation else "--continue"
    fix = f"claude-local --model {larger} {goes_on} -p /compact    (then again)"
    if not fits(tokens, profiles.windows[larger]):
        fix = "claude-local    (begins a new conversation)"
    fail(f"{profile} takes {window:,} tokens, but this conversation has {tokens:,}", fix)


def other_models(profiles: Profiles, sessions: str, home: str) -> dict[str, str]:
    """The profiles of the other sessions on this machine's server, and where these run, in words."""
    users: dict[str, list[str]] = {}
    for session in running_sessions(sessions):
        users.setdefault(session.profile or profiles.active, []).append(shortened(session.workspace, home))
    return {
        profile: f"the session in {places[0]}" + (f" and {len(places) - 1} more" if places[1:] else "")
        for profile, places in users.items()
    }


def report_other_model(used: dict[str, str], profile: str, at_once: int) -> None:
    """Say that another session uses another model, when the server does not keep all of them in memory."""
    if len({*used, profile}) <= at_once:
        return
    for other, users in used.items():
        if other != profile:
            note(
                f"{users} uses {other}: the models take turns in memory, and each turn waits for a load",
                f"claude-local --model {other}",
            )
            return


def wait_for_window(server: SessionServer) -> int:
    """The model's context window in tokens, as soon as the server has the model. Ends the program when it will not."""
    try:
        window = context_window(server.props())
    except ServerUnusable as unusable:
        fail(str(unusable), unusable.fix)
    if window is None:
        fail(f"llama-server at {server.url} does not say how large its context window is", PROVISION)
    return window


def set_environment(
    options: StartOptions, server: SessionServer, window: int | None, tools: ToolSet, largest: int
) -> None:
    """Give this process the session's environment. ``window``: None when the command needs no model. ``tools``: the
    profile's. ``largest``: see session_variables.model_variables."""
    env = cleaned(os.environ)
    env |= session_variables(
        env, server=server.url, token=server.token, model=server.model, config_dir=options.config_dir,
        bash_env=options.bash_env, native_claude=options.native_claude,
    )  # fmt: skip
    if window is not None:
        env |= {
            name: env.get(name) or value
            for name, value in model_variables(window, not tools.runs_commands, largest).items()
        }
    os.environ.clear()
    os.environ.update(env)


def main(argv: list[str]) -> int:
    """Run claude-local with the wrapper's arguments ``argv``; its exit status."""
    # A caller that ignores SIGCHLD would hide the ends of our own children from us.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    options = parse_arguments(argv, StartOptions)
    check_directory()
    profiles = read_profiles(options.profiles, options.wish)
    asked = read_command(options, profiles)
    profile = asked.profile or profiles.active
    model = asked.profile or DEFAULT_MODEL
    used = other_models(profiles, options.sessions, options.home) if asked.needs_server else {}
    url = choose_server(options.server)
    server = SessionServer(
        url, url == options.server, options.container, read_token(options.token, asked.needs_server), options.token,
        options.path, options.start_timeout, model, profile, lambda model: used.get(model, ""),
        profiles.wish.expected_seconds(profile),
    )  # fmt: skip
    options.command = [find_claude(options), *asked.claude]
    options.unfenced = asked.unfenced
    options.server = url if asked.needs_server else ""
    manager_port = read_config(options.config).manager_port if server.installed else None
    settings = enforced_settings(options, asked, model, profiles, manager_port)
    if asked.help:
        print(
            command_line.HELP.format(profiles=", ".join(sorted(profiles.tools)), tool_sets=", ".join(SETS)), flush=True
        )
    if server.installed:
        check_conversation(asked, profile, profiles, options.config_dir)
        report_other_model(used, profile, profiles.at_once)
    own = profiles.tools.get(profile, SETS[DEFAULT])
    # Before the environment is set: docker and sudo do not get the token.
    window = None
    if asked.needs_server:
        evicts = manager_port is not None and profile != profiles.active and not profiles.wish.stopped
        with giving_up(lambda: load_active_again(manager_port or 0, server.token)) if evicts else nullcontext():
            window = wait_for_window(server)
    set_environment(options, server, window, own, max(profiles.windows.values(), default=0))
    chosen = None if chooses_tools(options.command) else SETS.get(asked.tool_set, own)
    os.environ[TOOLS_LABEL] = chosen.label if chosen else ""
    if asked.needs_server and chosen:
        options.command.insert(1, chosen.argument)
    record = (
        record_session(options.sessions, os.getcwd(), asked.profile) if options.server and server.installed else None
    )
    return launch.launch(options, settings, keep=record)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
