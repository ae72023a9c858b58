"""The rendered claude-local against the scripted backend, with a claude that tells how it was started."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from claude_local.claude.wrapper import render_claude_local
from claude_local.fence.config import INNER, FenceConfig, dump
from claude_local.paths import Paths
from claude_local.verify import processes
from claude_local.verify.scripted_backend import ScriptedBackend

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
TEMPLATE = PROJECT / "templates" / "claude-local"
TOKEN = "secret-token-of-this-machine"
ONE_LAYER = "claude-local: only one layer of the fence works here (inner): a test\n"
if os.getuid() == 0:
    ONE_LAYER += "claude-local: as root, this layer does not protect the kernel's settings from commands: work as an ordinary user\n"

FAKE_CLAUDE = f"""#!{sys.executable}
import json, os, sys, time
with open(os.environ["FAKE_CLAUDE_RECORD"], "w") as record:
    json.dump({{"argv": sys.argv[1:], "env": dict(os.environ), "pid": os.getpid(), "cwd": os.getcwd()}}, record)
if os.environ.get("FAKE_CLAUDE_SLEEP"):
    time.sleep(30)
sys.exit(int(os.environ.get("FAKE_CLAUDE_EXIT", "0")))
"""


class Home:
    """A workstation's home with the wrapper in it."""

    def __init__(self, home: Path, server_port: int, start_timeout: int = 20) -> None:
        self.home = home
        self.paths = Paths(home=str(home), model_dir=str(home / "models"), bin_dir=str(home / "bin"))
        self.record = home / "record.json"
        self.tools = home / "tools"
        self.add(self.paths.token, TOKEN + "\n")
        self.add(self.paths.enforced_settings, json.dumps({"sandbox": {"enabled": True}, "permissions": {"x": 1}}))
        self.add(self.paths.bash_env, "")
        profiles = {"small": {"tools": ["Read", "Write"]}, "large": {"tools": None}}
        self.add(self.paths.profiles, json.dumps({"default": "small", "profiles": profiles}))
        self.add(self.paths.claude, FAKE_CLAUDE, 0o755)
        text = render_claude_local(
            TEMPLATE.read_text(encoding="utf-8"),
            self.paths,
            server=f"http://127.0.0.1:{server_port}",
            container="the-server",
            start_timeout=start_timeout,
            python=sys.executable,
            launcher=str(PROJECT / "claude_local" / "fence" / "launch.py"),
            system_path=f"{self.tools}:/usr/bin:/bin",
        )
        # One layer: the launcher becomes claude, and these tests see what it was started with.
        self.add(self.paths.fence_config, dump(FenceConfig(layers=(INNER,), reason="a test")))
        self.add(self.paths.wrapper, text, 0o755)

    def add(self, path: str | Path, text: str, mode: int = 0o600) -> None:
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)

    @property
    def passed_settings(self) -> dict[str, Any]:
        """What claude got with --settings."""
        found: dict[str, Any] = json.loads(self.started["argv"][0].removeprefix("--settings="))
        return found

    def docker(self, script: str) -> None:
        """Put a docker and a sudo in front of the real ones."""
        self.add(self.tools / "docker", f"#!/bin/sh\necho \"$*\" >> '{self.home}/docker.log'\n{script}\n", 0o755)
        self.add(self.tools / "sudo", '#!/bin/sh\nshift\nSUDO=1 exec "$@"\n', 0o755)

    @property
    def docker_log(self) -> list[str]:
        log = self.home / "docker.log"
        return log.read_text().splitlines() if log.exists() else []

    def environment(self, server: str | None, **env: str) -> dict[str, str]:
        base = {"HOME": str(self.home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        if server is not None:
            base["CLAUDE_LOCAL_SERVER"] = server
        return base | {"FAKE_CLAUDE_RECORD": str(self.record)} | env

    def run(self, *arguments: str, server: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.paths.wrapper, *arguments],
            env=self.environment(server, **env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def started(self) -> dict[str, Any]:
        """How claude was started."""
        return json.loads(self.record.read_text())


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        return int(reserved.getsockname()[1])


@pytest.fixture
def home(tmp_path: Path, closed_port: int) -> Home:
    return Home(tmp_path / "a home with spaces", closed_port)


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    with ScriptedBackend(n_ctx=32768, token=TOKEN, models=["claude-local", "small", "large"]) as running:
        yield running


def test_the_arguments_reach_claude_as_they_are(home: Home, backend: ScriptedBackend) -> None:
    hard = ["-p", 'say "hi" $HOME `id` \\', "", "two\nlines", "*", "--append-system-prompt=é ☃", "--", "--model", "x"]
    done = home.run(*hard, server=backend.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ONE_LAYER)
    assert home.started["argv"][1:] == ["--tools=Read,Write", *hard]
    assert home.passed_settings["permissions"]["x"] == 1, "the enforced settings come with it"


def test_claude_gets_the_servers_context_window_and_token(home: Home, backend: ScriptedBackend) -> None:
    backend.n_ctx = 16384
    home.run("-p", "x", server=backend.url)
    env = home.started["env"]
    assert env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "16384"
    assert env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "2048"
    assert (env["ANTHROPIC_BASE_URL"], env["ANTHROPIC_AUTH_TOKEN"]) == (backend.url, TOKEN)
    assert env["CLAUDE_CONFIG_DIR"] == home.paths.config_dir
    asked = [(request["path"], request["query"]) for request in backend.requests]
    assert asked == [("/props", {"model": "claude-local"})]


def test_a_large_window_caps_the_output_at_8192_tokens(home: Home, backend: ScriptedBackend) -> None:
    backend.n_ctx = 131072
    home.run("-p", "x", server=backend.url)
    assert home.started["env"]["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "8192"


@pytest.mark.parametrize(("n_ctx", "disabled"), [(16384, "1"), (32768, None)])
def test_a_small_window_is_not_compacted_at_each_turn(
    home: Home, backend: ScriptedBackend, n_ctx: int, disabled: str | None
) -> None:
    """Claude Code compacts 13000 tokens before the end: at 16384 that is before the first answer."""
    backend.n_ctx = n_ctx
    home.run("-p", "x", server=backend.url)
    assert home.started["env"].get("DISABLE_AUTO_COMPACT") == disabled


def test_the_users_own_limits_win(home: Home, backend: ScriptedBackend) -> None:
    own = {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "99", "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "7777", "API_TIMEOUT_MS": "5"}
    home.run("-p", "x", server=backend.url, **own)
    env = home.started["env"]
    assert {name: env[name] for name in own} == own


def test_every_model_slot_names_the_one_model(home: Home, backend: ScriptedBackend) -> None:
    home.run("--model", "large", "-p", "x", server=backend.url)
    env = home.started["env"]
    slots = {name: value for name, value in env.items() if name.endswith(("_MODEL", "_FAST_MODEL"))}
    assert set(slots.values()) == {"large"}
    assert {"ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_FABLE_MODEL", "ANTHROPIC_SMALL_FAST_MODEL"} <= set(slots)
    assert "CLAUDE_CODE_SUBAGENT_MODEL" in slots


def test_nothing_of_the_cloud_or_of_a_session_around_it_comes_in(home: Home, backend: ScriptedBackend) -> None:
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


def test_an_ide_and_the_users_comfort_stay(home: Home, backend: ScriptedBackend) -> None:
    own = {"CLAUDE_CODE_SSE_PORT": "4711", "CLAUDE_CODE_DISABLE_MOUSE": "1", "CLAUDE_CODE_EFFORT_LEVEL": "low"}
    home.run("-p", "x", server=backend.url, **own)
    assert own.items() <= home.started["env"].items()


def test_traffic_and_updates_are_off_and_long_prompts_have_time(home: Home, backend: ScriptedBackend) -> None:
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
    assert env["CLAUDE_CODE_TOTAL_TOKENS_REMINDER"] == "off"
    assert env["CLAUDE_CODE_MODEL_CAPABILITIES"] == "-mid_conv_system,-mid_conv_tool_change"
    assert env["API_TIMEOUT_MS"] == env["CLAUDE_STREAM_IDLE_TIMEOUT_MS"] == "1800000"
    assert env["CLAUDE_ENV_FILE"] == home.paths.bash_env


def test_a_proxy_is_never_asked_for_this_machine(home: Home, backend: ScriptedBackend) -> None:
    proxy = {"http_proxy": "http://127.0.0.1:9", "NO_PROXY": "example.org"}
    done = home.run("-p", "x", server=backend.url, **proxy)
    assert done.returncode == 0
    env = home.started["env"]
    assert env["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    assert env["no_proxy"] == "127.0.0.1,localhost"


def test_the_token_is_in_no_command_line(home: Home, backend: ScriptedBackend) -> None:
    home.add(home.tools / "curl", f'#!/bin/sh\necho "$@" >> \'{home.home}/curl.log\'\nexec /usr/bin/curl "$@"\n', 0o755)
    assert home.run("-p", "x", server=backend.url).returncode == 0
    log = (home.home / "curl.log").read_text()
    assert "/props" in log and TOKEN not in log
    assert not any(TOKEN in word for word in home.started["argv"])


def test_the_default_profiles_tools_are_used_unless_the_user_chooses(home: Home, backend: ScriptedBackend) -> None:
    home.run("-p", "x", server=backend.url)
    assert "--tools=Read,Write" in home.started["argv"]
    home.run("--tools", "Bash", "-p", "x", server=backend.url)
    assert home.started["argv"][1:] == ["--tools", "Bash", "-p", "x"]


def test_a_profile_without_a_tool_set_gets_all_tools(home: Home, backend: ScriptedBackend) -> None:
    home.run("--model=large", "-p", "x", server=backend.url)
    assert home.started["argv"][1:] == ["-p", "x"]
    assert backend.requests[-1]["query"] == {"model": "large"}


MEMORY = "CLAUDE_CODE_DISABLE_AUTO_MEMORY"


def test_a_small_models_prompt_is_the_same_in_every_directory(home: Home, backend: ScriptedBackend) -> None:
    """Claude Code's memory has a path of its own in each: llama-server would read the prompt anew there."""
    home.run("-p", "x", server=backend.url)
    assert home.started["env"][MEMORY] == "1"
    home.run("-p", "x", server=backend.url, **{MEMORY: "0"})
    assert home.started["env"][MEMORY] == "0"
    for words in (["--tools", "Bash"], ["--model=large"]):
        home.run(*words, "-p", "x", server=backend.url)
        assert MEMORY not in home.started["env"]


@pytest.mark.parametrize("words", [["--model", "gpt-9"], ["--model=gpt-9"]])
def test_an_unknown_profile_is_two_lines_with_the_known_ones(home: Home, backend: ScriptedBackend, words: list) -> None:
    done = home.run(*words, "-p", "x", server=backend.url)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines() == [
        "claude-local: there is no profile 'gpt-9' on this machine",
        "  Fix: claude-local --model large | small",
    ]
    assert not home.record.exists()


@pytest.mark.parametrize(
    "address",
    [
        "http://192.168.1.5:8080",
        "https://127.0.0.1:8080",
        "http://127.0.0.1@example.org:80",
        "http://127.0.0.1.example.org",
        "http://127.0.0.256:8080",
        "http://0.0.0.0:8080",
        "http://localhost.example.org",
        "http://127.0.0.1:8080/path",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:80\nhttp://example.org",
        "127.0.0.1:8080",
        "ftp://localhost",
    ],
)
def test_only_loopback_may_stand_in_for_the_server(home: Home, address: str) -> None:
    done = home.run("-p", "x", server=address)
    assert done.returncode == 2
    assert "only http:// and a loopback address are allowed" in done.stderr
    assert not home.record.exists()


def test_localhost_and_a_trailing_slash_are_fine(home: Home, backend: ScriptedBackend) -> None:
    assert home.run("-p", "x", server=f"http://localhost:{backend.port}/").returncode == 0
    assert home.started["env"]["ANTHROPIC_BASE_URL"] == f"http://localhost:{backend.port}"


def test_a_wrong_token_is_said_in_one_line(home: Home, backend: ScriptedBackend) -> None:
    home.add(home.paths.token, "another")
    done = home.run("-p", "x", server=backend.url)
    assert done.returncode == 1
    assert f"refuses the token in {home.paths.token}" in done.stderr and "./provision" in done.stderr
    assert not home.record.exists()


def test_a_missing_token_is_said(home: Home, backend: ScriptedBackend) -> None:
    Path(home.paths.token).unlink()
    done = home.run("-p", "x", server=backend.url)
    assert done.returncode == 1 and "is missing or empty" in done.stderr


def test_a_loading_server_is_waited_for_with_a_word_on_stderr(home: Home) -> None:
    with ScriptedBackend(loading=3, token=TOKEN) as backend:
        done = home.run("-p", "x", server=backend.url)
    assert done.returncode == 0 and done.stdout == ""
    assert "loading the model" in done.stderr
    assert home.started["env"]["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "32768"


def test_a_place_that_another_profile_holds_is_waited_for(home: Home) -> None:
    answers = [(500, {"error": {"message": "model limit reached, try again later"}})] * 2
    answers.append((200, {"default_generation_settings": {"n_ctx": 32768}}))

    class Router(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Router) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        done = home.run("-p", "x", server=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert done.returncode == 0
    assert "busy with another model" in done.stderr


def test_a_server_that_never_gets_ready_ends_with_the_command_that_shows_why(tmp_path: Path, closed_port: int) -> None:
    impatient = Home(tmp_path, closed_port, start_timeout=1)
    with ScriptedBackend(loading=10_000, token=TOKEN) as backend:
        done = impatient.run("-p", "x", server=backend.url)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "  Fix: sudo docker logs --tail 40 the-server"


@pytest.mark.parametrize("n_ctx", [0, -1, None, True, "4096", [1]])
def test_a_server_that_does_not_tell_its_context_window_is_said(home: Home, n_ctx: object) -> None:
    with ScriptedBackend(n_ctx=n_ctx, token=TOKEN) as backend:  # type: ignore[arg-type]
        done = home.run("-p", "x", server=backend.url)
    assert done.returncode == 1 and "how large its context window is" in done.stderr and "./provision" in done.stderr
    assert not home.record.exists() and "Traceback" not in done.stderr


UNREADABLE = ["", "{", "[]", "{}"]
NO_TOOLS = ["null", "{}", '{"tools": "Read"}', '{"tools": {"Read": 1}}', '{"tools": ["Read", 1]}']


@pytest.mark.parametrize(
    "profiles", [None, *UNREADABLE, *(f'{{"default": "a", "profiles": {{"a": {each}}}}}' for each in NO_TOOLS)]
)
def test_without_readable_profiles_all_tools_are_offered(
    home: Home, backend: ScriptedBackend, profiles: str | None
) -> None:
    if profiles is None:
        Path(home.paths.profiles).unlink()
    else:
        home.add(home.paths.profiles, profiles)
    assert home.run("-p", "x", server=backend.url).returncode == 0
    assert home.started["argv"][1:] == ["-p", "x"]


def living_in_the_group(group: int) -> list[int]:
    """The processes that still run in the process group."""
    found = []
    for pid in processes.pids():
        with suppress(OSError):
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if int(words[2]) == group and words[0] != "Z":
                found.append(pid)
    return found


def wait_until_asked(backend: ScriptedBackend, times: int) -> None:
    """Each time is 0.3 s after the one before: by then the launcher has started."""
    until = time.monotonic() + 20
    while len(backend.requests) < times:
        assert time.monotonic() < until, "nobody asks whether the server is ready"
        time.sleep(0.02)


@contextmanager
def waiting(
    home: Home, backend: ScriptedBackend, stderr: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """claude-local in a process group of its own, while the server loads the model."""
    with subprocess.Popen(
        [home.paths.wrapper, "-p", "x"], env=home.environment(backend.url), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            wait_until_asked(backend, 4)
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def read_all(terminal: int) -> bytes:
    """What a terminal shows and has not been read yet."""
    said = b""
    with suppress(BlockingIOError, OSError):
        while piece := os.read(terminal, 4096):
            said += piece
    return said


@pytest.mark.parametrize(
    ("number", "to_all"),
    [(signal.SIGINT, True), (signal.SIGQUIT, True), (signal.SIGTERM, False), (signal.SIGKILL, False)],
)
def test_an_end_while_the_server_gets_ready_is_silent_and_leaves_nothing(home: Home, number: int, to_all: bool) -> None:
    """Keys reach the whole group, ``kill`` only the process that was called. By then the terminal is the shell's again."""
    terminal, theirs = os.openpty()
    os.set_blocking(terminal, False)
    with ScriptedBackend(loading=10_000, token=TOKEN) as backend, waiting(home, backend, theirs) as process:
        os.killpg(process.pid, signal.SIGSTOP)
        assert b"loading the model" in read_all(terminal)
        (os.killpg if to_all else os.kill)(process.pid, number)
        if number != signal.SIGKILL:
            os.kill(process.pid, signal.SIGCONT)
        assert process.wait(timeout=10) == -number
        os.killpg(process.pid, signal.SIGCONT)
        until = time.monotonic() + 10
        while left := living_in_the_group(process.pid):
            assert time.monotonic() < until, f"these still run: {left}"
            time.sleep(0.05)
        assert read_all(terminal) == b""
    os.close(terminal)
    os.close(theirs)
    assert not home.record.exists()


def test_a_child_that_the_shell_has_seen_end_is_no_matter(home: Home, backend: ScriptedBackend) -> None:
    wrapper = Path(home.paths.wrapper)
    text = wrapper.read_text().replace("\nclean_environment\n", "\nsleep 1\nclean_environment\n")
    assert text.count("\nsleep 1\n") == 1
    home.add(wrapper, text, 0o755)
    assert home.run("-p", "x", server=backend.url).stderr == ONE_LAYER
    assert home.started["env"]["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "32768"


def test_a_caller_who_ignores_the_ends_of_children_is_no_matter(home: Home, backend: ScriptedBackend) -> None:
    done = subprocess.run(
        ["env", "--ignore-signal=CHLD", home.paths.wrapper, "-p", "x"], env=home.environment(backend.url),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ONE_LAYER)


def test_without_its_launcher_nothing_is_started(home: Home) -> None:
    home.docker("echo exited")
    wrapper = Path(home.paths.wrapper)
    home.add(wrapper, wrapper.read_text().replace("/fence/launch.py", "/fence/no.py"), 0o755)
    done = home.run("-p", "x")
    assert done.returncode == 1 and "no.py is missing" in done.stderr and len(done.stderr.splitlines()) == 2
    assert home.docker_log == []


def test_what_is_stopped_while_the_server_gets_ready_goes_on_later(home: Home) -> None:
    with ScriptedBackend(loading=8, token=TOKEN) as backend, waiting(home, backend) as process:
        os.killpg(process.pid, signal.SIGSTOP)
        asked = len(backend.requests)
        time.sleep(1)
        assert len(backend.requests) <= asked + 1, "what asks is stopped too"
        os.killpg(process.pid, signal.SIGCONT)
        assert process.wait(timeout=20) == 0
    assert home.started["argv"][1:] == ["--tools=Read,Write", "-p", "x"]


def test_a_foreign_server_that_is_down_starts_nothing(home: Home, closed_port: int) -> None:
    home.docker("exit 1")
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        other = reserved.getsockname()[1]
    done = home.run("-p", "x", server=f"http://127.0.0.1:{other}")
    assert done.returncode == 1 and "nothing answers" in done.stderr
    assert home.docker_log == []


def test_the_installed_server_is_started_when_it_is_down(home: Home, closed_port: int) -> None:
    """The docker of this test starts a scripted backend on the server's own port."""
    program = f"{sys.executable} -m claude_local.verify.scripted_backend --port {closed_port}"
    root = Path(__file__).parents[2]
    pid = home.home / "pid"
    home.docker(
        f"""case $1 in
inspect) test -e '{pid}' && echo running || echo exited ;;
start) cd '{root}' && {program} --token-file '{home.paths.token}' >/dev/null 2>&1 & echo $! > '{pid}'; echo "$2" ;;
esac"""
    )
    try:
        done = home.run("-p", "x")
        assert done.returncode == 0, done.stderr
        assert "start the-server" in home.docker_log
        assert "llama-server" in done.stderr and done.stdout == ""
        assert home.started["env"]["ANTHROPIC_BASE_URL"] == f"http://127.0.0.1:{closed_port}"
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)


def test_a_user_without_docker_rights_uses_sudo(home: Home) -> None:
    home.docker('test -n "$SUDO" && { echo exited; exit 0; }; echo "permission denied while trying" >&2; exit 1')
    done = home.run("-p", "x", FAKE_CLAUDE_EXIT="0")
    assert "start the-server" in home.docker_log
    assert done.returncode == 1 and "sudo -n docker logs --tail 40 the-server" in done.stderr


@pytest.mark.parametrize(
    ("said", "what", "fix"),
    [
        ("Error: No such object: the-server", "not installed", "./provision"),
        ("Cannot connect to the Docker daemon at unix:///x", "Docker is not running", "sudo service docker start"),
        ("permission denied while trying to connect", "permission denied", "sudo docker start the-server"),
    ],
)
def test_a_server_that_cannot_be_started_names_the_command(home: Home, said: str, what: str, fix: str) -> None:
    home.docker(f'echo "{said}" >&2; exit 1')
    done = home.run("-p", "x")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 2
    assert what in done.stderr and done.stderr.splitlines()[-1].startswith(f"  Fix: {fix}")
    assert not home.record.exists()


def test_the_help_begins_with_its_own_options(home: Home) -> None:
    done = home.run("--help")
    assert done.returncode == 0 and "--model PROFILE" in done.stdout and "--unfenced" in done.stdout
    assert "small" in done.stdout, "the profiles that can be named"
    assert home.started["argv"][1:] == ["--help"]


@pytest.mark.parametrize("words", [["--version"], ["doctor"], ["mcp", "list"], ["mcp", "--help"]])
def test_what_needs_no_model_runs_while_the_server_is_down(home: Home, words: list[str]) -> None:
    done = home.run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ONE_LAYER)
    assert home.started["argv"][1:] == words


def test_the_exit_status_is_claudes(home: Home, backend: ScriptedBackend) -> None:
    assert home.run("-p", "x", server=backend.url, FAKE_CLAUDE_EXIT="42").returncode == 42


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_is_claude_itself_so_signals_are_claudes(home: Home, backend: ScriptedBackend, number: int) -> None:
    env = home.environment(backend.url, FAKE_CLAUDE_SLEEP="1")
    with subprocess.Popen([home.paths.wrapper, "-p", "x"], env=env, stderr=subprocess.DEVNULL) as process:
        for _ in range(200):
            if home.record.exists() and home.record.read_text():
                break
            time.sleep(0.05)
        assert home.started["pid"] == process.pid
        process.send_signal(number)
        status = process.wait(timeout=10)
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


def test_settings_that_are_no_json_are_refused(home: Home, backend: ScriptedBackend) -> None:
    done = home.run("--settings", "/no/such/file", "-p", "x", server=backend.url)
    assert done.returncode == 2 and "--settings '/no/such/file'" in done.stderr


def test_missing_enforced_settings_stop_the_start(home: Home, backend: ScriptedBackend) -> None:
    Path(home.paths.enforced_settings).unlink()
    done = home.run("-p", "x", server=backend.url)
    assert done.returncode == 1 and "enforced settings" in done.stderr
    assert not home.record.exists()


def test_without_the_link_the_native_installation_is_used(home: Home, backend: ScriptedBackend) -> None:
    Path(home.paths.claude).unlink()
    home.add(home.paths.native_claude, FAKE_CLAUDE, 0o755)
    assert home.run("-p", "x", server=backend.url).returncode == 0
    assert home.record.exists()


def test_without_any_claude_the_fix_is_named(home: Home, backend: ScriptedBackend) -> None:
    Path(home.paths.claude).unlink()
    home.add(home.tools / "claude", "no program", 0o644)
    done = home.run("-p", "x", server=backend.url, PATH=f"{home.tools}:/usr/bin:/bin")
    assert done.returncode == 1 and "Claude Code is not installed" in done.stderr


def test_no_program_of_a_projects_runs_before_the_fence_stands(home: Home, backend: ScriptedBackend) -> None:
    """An activated .venv/bin is first on PATH, and a session can write it."""
    home.docker("exit 1")
    planted = home.home / "project" / ".venv" / "bin"
    names = ["jq", "curl", "docker", "sudo", "bash", "cat", "sleep", "env", "sh", "dirname", "bwrap", "socat"]
    for name in names:
        home.add(planted / name, f"#!/bin/sh\necho {name} >>'{home.home}/planted'\nexit 1\n", 0o755)
    path = f"{planted}:{os.environ['PATH']}"
    done = home.run("--settings", '{"a": 1}', "-p", "x", server=backend.url, PATH=path)
    assert (done.returncode, done.stderr) == (0, ONE_LAYER)
    assert home.run("-p", "x", PATH=path).returncode == 1, "no server, and Docker is asked for one"
    assert home.docker_log and not (home.home / "planted").exists()
    env = home.started["env"]
    assert env["PATH"] == f"{home.paths.sandbox_bin}:{path}", "the session has its user's programs"
    found = [os.path.realpath(shutil.which(name, path=env["PATH"]) or "") for name in ("bwrap", "socat")]
    assert found == [os.path.realpath(f"/usr/bin/{name}") for name in ("bwrap", "socat")]


def test_the_rendered_wrapper_passes_shellcheck(home: Home) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if not shellcheck.exists():
        pytest.fail("shellcheck is missing beside the interpreter: install requirements-test.lock")
    done = subprocess.run([shellcheck, home.paths.wrapper], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_without_any_layer_nothing_starts_unless_the_user_says_so(home: Home, backend: ScriptedBackend) -> None:
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
def test_a_fence_that_is_not_set_up_is_no_reason_to_start_without_it(
    home: Home, backend: ScriptedBackend, broken: str
) -> None:
    home.add(home.paths.fence_config, broken)
    done = home.run("-p", "x", server=backend.url)
    assert done.returncode == 1 and home.paths.fence_config in done.stderr and "./provision" in done.stderr
    assert not home.record.exists() and "Traceback" not in done.stderr
