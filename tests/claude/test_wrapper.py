"""claude-local: its arguments, environment, settings and fence, against the scripted backend."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from claude_local.claude.arguments import WITHOUT_SERVER
from claude_local.claude.tool_sets import SETS
from claude_local.cli.commands import COMMANDS
from claude_local.fence.config import FenceConfig, dump
from claude_local.verify import processes
from claude_local.verify.scripted_backend import ScriptedBackend
from tests.claude.wrapper_home import FAKE_CLAUDE, TOKEN, Home, quiet

pytestmark = pytest.mark.slow


def test_arguments_reach_claude_unchanged(home: Home, backend: ScriptedBackend) -> None:
    hard = ["-p", 'say "hi" $HOME `id` \\', "", "two\nlines", "*", "--append-system-prompt=é ☃", "--", "--model", "x"]
    done = home.run(*hard, server=backend.url)
    assert done.returncode == 0 and quiet(done)
    assert home.started["argv"][1:] == ["--tools=Read,Write", *hard]
    assert home.passed_settings["permissions"]["x"] == 1, "the enforced settings come with it"


def test_claude_gets_the_servers_context_window_and_token(home: Home, backend: ScriptedBackend) -> None:
    backend.n_ctx = 16384
    home.run("-p", "x", server=backend.url)
    env = home.started["env"]
    assert env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "16384"
    assert (env["ANTHROPIC_BASE_URL"], env["ANTHROPIC_AUTH_TOKEN"]) == (backend.url, TOKEN)
    assert env["CLAUDE_CONFIG_DIR"] == home.paths.config_dir
    asked = [(request["path"], request["query"]) for request in backend.requests]
    assert asked == [("/props", {"model": "claude-local"})], "the active profile, whichever it is"


def test_the_users_own_limits_win(home: Home, backend: ScriptedBackend) -> None:
    own = {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "99", "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "7777", "API_TIMEOUT_MS": "5"}
    home.run("-p", "x", server=backend.url, **own)
    env = home.started["env"]
    assert {name: env[name] for name in own} == own


def test_every_model_variable_names_the_one_model(home: Home, backend: ScriptedBackend) -> None:
    home.run("--model", "large", "-p", "x", server=backend.url)
    env = home.started["env"]
    slots = {name: value for name, value in env.items() if name.endswith(("_MODEL", "_FAST_MODEL"))}
    assert set(slots.values()) == {"large"}
    assert {"ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_SMALL_FAST_MODEL"} <= set(slots)
    assert "CLAUDE_CODE_SUBAGENT_MODEL" in slots


def test_cloud_accounts_and_a_surrounding_session_do_not_come_in(home: Home, backend: ScriptedBackend) -> None:
    foreign = {
        "ANTHROPIC_API_KEY": "sk-ant-real",
        "ANTHROPIC_CUSTOM_HEADERS": "X-Secret: 1",
        "CLAUDE_CODE_OAUTH_TOKEN": "real",
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "CLAUDE_CODE_USE_VERTEX": "1",
        "CLAUDE_CODE_USE_FOUNDRY": "1",
        "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
        "CLAUDE_CODE_SESSION_ID": "outer",
        "CLAUDE_CODE_ENTRYPOINT": "cli",
        "CLAUDE_CODE_MESSAGING_TOKEN": "outer",
        "CLAUDECODE": "1",
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "1000000",
        "AI_AGENT": "claude-code",
    }
    home.run("-p", "x", server=backend.url, **foreign)
    env = home.started["env"]
    assert env.pop("CLAUDE_CODE_MAX_CONTEXT_TOKENS") == "32768", "a value from the session around it is not the user's"
    assert not set(foreign) & set(env)


def test_ide_variables_and_user_preferences_stay(home: Home, backend: ScriptedBackend) -> None:
    own = {"CLAUDE_CODE_SSE_PORT": "4711", "CLAUDE_CODE_DISABLE_MOUSE": "1", "CLAUDE_CODE_EFFORT_LEVEL": "low"}
    home.run("-p", "x", server=backend.url, **own)
    assert own.items() <= home.started["env"].items()


def test_traffic_and_updates_are_off_and_timeouts_are_long(home: Home, backend: ScriptedBackend) -> None:
    home.run("-p", "x", server=backend.url)
    env = home.started["env"]
    for name in (
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL",
        "DISABLE_TELEMETRY",
        "DISABLE_ERROR_REPORTING",
        "DISABLE_AUTOUPDATER",
    ):
        assert env[name] == "1"
    assert env["CLAUDE_CODE_ATTRIBUTION_HEADER"] == "0"
    assert env["CLAUDE_CODE_RESUME_HINT_COMMAND"] == "claude-local"
    assert env["CLAUDE_CODE_TOTAL_TOKENS_REMINDER"] == "off"
    assert env["CLAUDE_CODE_MODEL_CAPABILITIES"] == "-mid_conv_system,-mid_conv_tool_change"
    assert env["API_TIMEOUT_MS"] == env["CLAUDE_STREAM_IDLE_TIMEOUT_MS"] == "1800000"
    assert env["CLAUDE_ENV_FILE"] == home.paths.bash_env


def test_loopback_requests_do_not_use_a_proxy(home: Home, backend: ScriptedBackend) -> None:
    proxy = {"http_proxy": "http://127.0.0.1:9", "NO_PROXY": "example.org"}
    done = home.run("-p", "x", server=backend.url, **proxy)
    assert done.returncode == 0
    env = home.started["env"]
    assert env["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    assert env["no_proxy"] == "127.0.0.1,localhost"


def test_the_token_is_in_no_command_line(home: Home) -> None:
    with (
        ScriptedBackend(loading=10_000, token=TOKEN) as backend,
        subprocess.Popen([home.paths.wrapper, "-p", "x"], env=home.environment(backend.url)) as process,
    ):
        while not backend.requests:
            time.sleep(0.02)
        lines = [Path(f"/proc/{pid}/cmdline") for pid in processes.pids()]
        assert not any(TOKEN.encode() in line.read_bytes() for line in lines if line.exists())
        process.kill()


@pytest.mark.parametrize("command", ["exec", "printf", "[", "if"])
def test_functions_of_the_callers_shell_are_not_used(home: Home, backend: ScriptedBackend, command: str) -> None:
    done = home.run("-p", "x", server=backend.url, **{f"BASH_FUNC_{command}%%": "() { echo fake; }"})
    assert done.returncode == 0 and quiet(done), done.stderr
    assert home.started["argv"][1:] == ["--tools=Read,Write", "-p", "x"]


@pytest.mark.parametrize("through_bash", [False, True])
@pytest.mark.parametrize("also", [{}, {"POSIXLY_CORRECT": "1"}, {"FUNCNEST": "1"}])
def test_options_of_the_callers_shell_do_not_come_in(
    home: Home, backend: ScriptedBackend, through_bash: bool, also: dict[str, str]
) -> None:
    """``set -x`` and BASH_ENV would print the token."""
    home.add(home.home / "bash-env", "set -xa; curl() { echo fake; }\n")
    env = {"SHELLOPTS": "xtrace", "BASHOPTS": "expand_aliases", "BASH_ENV": str(home.home / "bash-env"), "IFS": "/:a"}
    done = subprocess.run(
        [*(["bash", "-x"] if through_bash else []), home.paths.wrapper, "-p", "x"],
        env=home.environment(backend.url, **env, **also), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and TOKEN not in done.stderr
    assert through_bash or quiet(done), done.stderr
    assert not {"SHELLOPTS", "BASHOPTS"} & set(home.started["env"]), "commands in the session would get our options"


def test_the_callers_variables_keep_their_values_and_ours_stay_inside(home: Home, backend: ScriptedBackend) -> None:
    assert not re.findall(r"^\s*(?:export )?([a-z_]+)=", Path(home.paths.wrapper).read_text(), re.MULTILINE)
    own = {name: f"the caller's {name}" for name in ("model", "server", "claude", "profile", "PYTHONPATH", "CDPATH")}
    done = subprocess.run(
        [home.paths.wrapper, "-p", "x"], env=home.environment(backend.url) | own, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    env = home.started["env"]
    assert {name: env.get(name) for name in own} == own
    assert [name for name, value in env.items() if TOKEN in value] == ["ANTHROPIC_AUTH_TOKEN"]


def test_the_default_profiles_tools_are_used_unless_the_user_chooses(home: Home, backend: ScriptedBackend) -> None:
    home.run("-p", "x", server=backend.url)
    assert "--tools=Read,Write" in home.started["argv"]
    home.run("--tools", "Bash", "-p", "x", server=backend.url)
    assert home.started["argv"][1:] == ["--tools", "Bash", "-p", "x"]
    home.run("--tool-set", "lean", "--tools=Bash", "-p", "x", server=backend.url)
    assert home.started["argv"][1:] == ["--tools=Bash", "-p", "x"]


def test_a_profile_gets_its_tool_set(home: Home, backend: ScriptedBackend) -> None:
    home.run("--model=large", "-p", "x", server=backend.url)
    assert home.started["argv"][1:] == [SETS["standard"].argument, "-p", "x"]
    assert backend.requests[-1]["query"] == {"model": "large"}


@pytest.mark.parametrize(
    ("name", "tools", "shown"),
    [
        ("full", ",".join(SETS["full"].tools), ""),
        ("standard", "Bash,Read,Edit,Write,Glob,Grep,ExitPlanMode", ""),
        ("lean", "Read,Edit,Write,Glob", "tools: Read Edit Write Glob"),
        ("none", "", "tools: none"),
    ],
)
def test_a_call_can_choose_a_tool_set(home: Home, backend: ScriptedBackend, name: str, tools: str, shown: str) -> None:
    """The status line shows the tools where a model cannot run anything."""
    home.run("-p", "x", "--tool-set", name, server=backend.url, CLAUDE_LOCAL_TOOLS="the caller's")
    assert home.started["argv"][1:] == [f"--tools={tools}", "-p", "x"]
    assert home.started["env"]["CLAUDE_LOCAL_TOOLS"] == shown
    assert home.started["env"][OUTPUT] == "2048", "the profile says how big the model is, not the call"


@pytest.mark.parametrize("words", [["--tool-set"], ["--tool-set", "leen"], ["--tool-set=Read"]])
def test_an_unknown_tool_set_names_the_known_ones(home: Home, backend: ScriptedBackend, words: list[str]) -> None:
    done = home.run(*words, server=backend.url)
    assert done.returncode == 2 and done.stdout == "" and not home.record.exists()
    assert done.stderr.splitlines()[1] == "  Fix: claude-local --tool-set full | standard | lean | none"


OUTPUT = "CLAUDE_CODE_MAX_OUTPUT_TOKENS"
UNCHANGING = {"CLAUDE_CODE_DISABLE_AUTO_MEMORY": "0", "CLAUDE_CODE_DISABLE_GIT_INSTRUCTIONS": "0"}


@pytest.mark.parametrize("words", [[], ["--tools", "Bash"], ["--model=large"], ["--tool-set=full"]])
def test_the_prompt_is_the_same_in_every_directory_unless_the_user_wants_more(
    home: Home, backend: ScriptedBackend, words: list[str]
) -> None:
    """Claude Code's memory has another path in each directory, so llama-server would read the whole prompt again."""
    home.run(*words, "-p", "x", server=backend.url)
    assert [home.started["env"][name] for name in UNCHANGING] == ["1", "1"]
    home.run(*words, "-p", "x", server=backend.url, **UNCHANGING)
    assert [home.started["env"][name] for name in UNCHANGING] == ["0", "0"]


@pytest.mark.parametrize("words", [[], ["--tools", "Bash"], ["--tool-set=full"]])
def test_no_session_searches_for_tools(home: Home, backend: ScriptedBackend, words: list[str]) -> None:
    """Neither the user's environment nor a project's settings change that."""
    home.run(*words, "-p", "x", server=backend.url, ENABLE_TOOL_SEARCH="true")
    assert home.started["env"]["ENABLE_TOOL_SEARCH"] == "false"
    assert home.passed_settings["env"]["ENABLE_TOOL_SEARCH"] == "false"


@pytest.mark.parametrize("words", [["--model", "gpt-9"], ["--model=gpt-9"]])
def test_an_unknown_profile_names_the_known_ones(home: Home, backend: ScriptedBackend, words: list) -> None:
    done = home.run(*words, "-p", "x", server=backend.url)
    assert done.returncode == 2 and done.stdout == ""
    problem, fix = done.stderr.splitlines()
    assert "'gpt-9'" in problem and fix == "  Fix: claude-local --model large   (or: small)"
    assert not home.record.exists()


UNREADABLE = ["", "{", "[]", "{}"]
NO_TOOLS = ["null", "{}", '{"tools": "leen"}', '{"tools": {"Read": 1}}', '{"tools": ["Read", 1]}']


@pytest.mark.parametrize(
    "profiles", [None, *UNREADABLE, *(f'{{"default": "small", "profiles": {{"small": {each}}}}}' for each in NO_TOOLS)]
)
def test_without_readable_profiles_the_standard_tools_are_offered(
    home: Home, backend: ScriptedBackend, profiles: str | None
) -> None:
    if profiles is None:
        Path(home.paths.profiles).unlink()
    else:
        home.add(home.paths.profiles, profiles)
    assert home.run("-p", "x", server=backend.url).returncode == 0
    assert home.started["argv"][1:] == [SETS["standard"].argument, "-p", "x"]


def test_the_help_begins_with_its_own_options(home: Home) -> None:
    done = home.run("--help")
    assert done.returncode == 0 and "--model PROFILE" in done.stdout and "--unfenced" in done.stdout
    assert "small" in done.stdout, "the profiles that can be named"
    assert home.started["argv"][1:] == ["--help"]


@pytest.mark.parametrize(
    ("command", "suggestion"),
    [
        ("hardware", "llama-local hardware"),
        ("models", "llama-local models"),
        ("restart", "llama-local restart"),
        ("start", "llama-local start"),
        ("status", "llama-local status"),
        ("stop", "llama-local stop"),
        ("logs", "llama-local logs"),
        ("switch", "llama-local switch"),
        ("verify", "llama-local verify"),
    ],
)
def test_a_command_of_the_server_is_not_sent_to_the_model(home: Home, command: str, suggestion: str) -> None:
    for arguments in ([command], ["--model", "large", command], ["--unfenced", command]):
        done = home.run(*arguments)
        assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
        assert f"did you mean: {suggestion}" in done.stderr
    assert not home.record.exists()


def test_every_command_of_llama_local_is_recognised(home: Home) -> None:
    # claude has a doctor and an update of its own.
    for command in COMMANDS.keys() - WITHOUT_SERVER | {"stop", "logs"}:
        assert f"did you mean: llama-local {command}" in home.run(command).stderr


@pytest.mark.parametrize(
    "arguments", [["-p", "status"], ["--", "status"], ["status of this branch"], ["logs", "4f2a"], ["stop", "4f2a"]]
)
def test_the_same_words_reach_claude_as_a_prompt_or_with_an_id(
    home: Home, backend: ScriptedBackend, arguments: list[str]
) -> None:
    assert home.run(*arguments, server=backend.url).returncode == 0
    assert home.started["argv"][-len(arguments) :] == arguments


def test_a_directory_that_may_not_be_read_names_the_way_out(home: Home, backend: ScriptedBackend) -> None:
    closed = home.home / "closed"
    closed.mkdir()
    # Without root's rights nobody may change to a closed directory. A shell is in one after chmod.
    script = f'cd "{closed}" && chmod 000 . && exec "{home.paths.wrapper}" -p x'
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else []
    done = subprocess.run(
        [*drop, "sh", "-c", script], env=home.environment(backend.url), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    closed.chmod(0o700)
    assert done.returncode == 1 and str(closed) in done.stderr
    assert done.stderr.splitlines()[-1] == "  Fix: cd elsewhere"
    assert not home.record.exists()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_deleted_directory_names_the_way_out(home: Home, backend: ScriptedBackend, replaced: bool) -> None:
    script = (
        f'mkdir gone && cd gone && rmdir ../gone {"&& mkdir ../gone" * replaced} && exec "{home.paths.wrapper}" -p x'
    )
    done = subprocess.run(
        ["sh", "-c", script], cwd=home.home, env=home.environment(backend.url), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "deleted" in done.stderr
    assert done.stderr.splitlines()[-1] == "  Fix: cd elsewhere"
    assert not home.record.exists()


def test_the_exit_status_comes_from_claude(home: Home, backend: ScriptedBackend) -> None:
    assert home.run("-p", "x", server=backend.url, FAKE_CLAUDE_EXIT="42").returncode == 42


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_claude_replaces_the_process_and_gets_the_signals(home: Home, backend: ScriptedBackend, number: int) -> None:
    env = home.environment(backend.url, FAKE_CLAUDE_SLEEP="1")
    with subprocess.Popen([home.paths.wrapper, "-p", "x"], env=env, stderr=subprocess.DEVNULL) as process:
        for _ in range(600):
            if home.record.exists():
                break
            time.sleep(0.1)
        assert home.started["pid"] == process.pid
        process.send_signal(number)
        status = process.wait(timeout=60)
    assert status in (-number, 1), "a Python program that is interrupted ends with its own status"


def test_settings_of_the_caller_cannot_switch_the_sandbox_off(home: Home, backend: ScriptedBackend) -> None:
    home.add(home.home / "mine.json", json.dumps({"model": "opus", "sandbox": {"enabled": False, "mine": 1}}))
    for words in (
        ["--settings", str(home.home / "mine.json")],
        [f"--settings={(home.home / 'mine.json').read_text()}"],
    ):
        home.run(*words, "-p", "x", server=backend.url)
        passed, rest = home.passed_settings, home.started["argv"][1:]
        assert (passed["model"], passed["permissions"]["x"]) == ("opus", 1)
        assert (passed["sandbox"]["enabled"], passed["sandbox"]["mine"]) == (True, 1)
        assert rest == ["--tools=Read,Write", "-p", "x"]


@pytest.mark.parametrize(
    ("arguments", "mode"),
    [
        (["-p", "x"], "default"),
        (["x", "--print"], "default"),
        (["-cp", "x"], "default"),
        (["x"], None),
        (["--", "-p"], None),
        (["--settings", '{"permissions": {"defaultMode": "acceptEdits"}}', "-p", "x"], "acceptEdits"),
    ],
)
def test_only_a_printed_answer_leaves_plan_mode(
    home: Home, backend: ScriptedBackend, arguments: list[str], mode: str | None
) -> None:
    home.run(*arguments, server=backend.url)
    assert home.passed_settings["permissions"].get("defaultMode") == mode


def test_settings_that_are_not_json_are_refused(home: Home, backend: ScriptedBackend) -> None:
    done = home.run("--settings", "/no/such/file", "-p", "x", server=backend.url)
    assert done.returncode == 2 and "--settings '/no/such/file'" in done.stderr


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_missing_enforced_settings_stop_the_start(home: Home, backend: ScriptedBackend, text: str | None) -> None:
    Path(home.paths.enforced_settings).unlink()
    if text is not None:
        home.add(home.paths.enforced_settings, text)
    done = home.run("-p", "x", server=backend.url)
    assert done.returncode == 1 and "enforced settings" in done.stderr
    assert not home.record.exists()


def test_without_the_link_the_native_installation_is_used(home: Home, backend: ScriptedBackend) -> None:
    Path(home.paths.claude).unlink()
    home.add(home.paths.native_claude, FAKE_CLAUDE, 0o755)
    assert home.run("-p", "x", server=backend.url).returncode == 0
    assert home.record.exists()


def test_without_claude_code_the_fix_is_named(home: Home, backend: ScriptedBackend) -> None:
    Path(home.paths.claude).unlink()
    home.add(home.tools / "claude", "no program", 0o644)
    done = home.run("-p", "x", server=backend.url, PATH=f"{home.tools}:/usr/bin:/bin")
    assert done.returncode == 1 and "Claude Code is not installed" in done.stderr


def test_no_program_of_a_project_runs_outside_the_fence(home: Home, backend: ScriptedBackend) -> None:
    """An activated .venv/bin is first on PATH, and a session can write it."""
    home.docker("exit 1")
    planted = home.home / "project" / ".venv" / "bin"
    names = ["jq", "curl", "docker", "sudo", "bash", "cat", "sleep", "env", "sh", "dirname", "bwrap", "socat"]
    for name in names:
        home.add(planted / name, f"#!/bin/sh\necho {name} >>'{home.home}/planted'\nexit 1\n", 0o755)
    path = f"{planted}:{os.environ['PATH']}"
    done = home.run("--settings", '{"a": 1}', "-p", "x", server=backend.url, PATH=path)
    assert done.returncode == 0 and quiet(done)
    assert home.run("-p", "x", PATH=path).returncode == 1, "no server, and Docker is asked for one"
    assert home.docker_log and not (home.home / "planted").exists()
    env = home.started["env"]
    native = os.path.dirname(home.paths.native_claude)
    assert env["PATH"] == f"{home.paths.sandbox_bin}:{path}:{native}", "the session has its user's programs"
    programs = [os.path.realpath(shutil.which(name, path=env["PATH"]) or "") for name in ("bwrap", "socat")]
    assert programs == [os.path.realpath(f"/usr/bin/{name}") for name in ("bwrap", "socat")]


def test_the_rendered_wrapper_passes_shellcheck(home: Home) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if not shellcheck.exists():
        pytest.fail("shellcheck is missing beside the interpreter: install requirements-test.lock")
    done = subprocess.run([shellcheck, home.paths.wrapper], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_without_a_fence_claude_starts_only_with_unfenced(home: Home, backend: ScriptedBackend) -> None:
    home.add(home.paths.fence_config, dump(FenceConfig(layers=(), reason="user namespaces are off")))
    done = home.run("-p", "x", server=backend.url)
    assert done.returncode == 1 and "user namespaces are off" in done.stderr and "--unfenced" in done.stderr
    assert not home.record.exists()
    done = home.run("--unfenced", "-p", "x", server=backend.url)
    assert done.returncode == 0 and "no fence for this call" in done.stderr
    assert home.started["argv"][1:] == ["--tools=Read,Write", "-p", "x"], "the word is ours, claude does not get it"
    assert home.started["env"]["CLAUDE_LOCAL_FENCE"] == "none"
    assert home.passed_settings["sandbox"] == {"enabled": False}


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"layers": ["roof"]}', '{"layers": "outer"}', '{"holes": []}'])
def test_a_broken_fence_config_stops_the_start(home: Home, backend: ScriptedBackend, broken: str) -> None:
    home.add(home.paths.fence_config, broken)
    done = home.run("-p", "x", server=backend.url)
    assert done.returncode == 1 and home.paths.fence_config in done.stderr and "./provision" in done.stderr
    assert not home.record.exists() and "Traceback" not in done.stderr
