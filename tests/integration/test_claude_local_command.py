"""The real Claude Code through the real wrapper, in a temporary home, against the scripted backend.

Changes nothing outside a temporary home. Skipped, with the reason, where Claude Code is not installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_local.paths import Paths
from claude_local.verify.scripted_backend import ScriptedBackend, is_background, text, tool_use
from tests.integration.fenced_home import TOKEN, real_claude
from tests.integration.tty import Tty

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("claude_code")]

PROJECT = Path(__file__).parents[2]


class Machine:
    """A temporary home that tasks/home.py and tasks/commands.py have prepared."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.paths = Paths(home=str(home), model_dir=str(home / "models"), bin_dir=str(home / "bin"))
        self.workspace = home / "work"
        self.workspace.mkdir(parents=True)
        self.env = {
            "HOME": str(home), "PATH": os.environ["PATH"], "SHELL": "/bin/bash", "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
        }  # fmt: skip
        for path, words in {
            self.paths.token: TOKEN,
            self.paths.profiles: json.dumps({"default": "p", "profiles": {"p": {"tools": "full"}}}),
        }.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(words)
        Path(self.paths.claude).symlink_to(real_claude())
        Path(self.paths.venv).symlink_to(sys.prefix)
        Path(self.paths.lib).mkdir()
        (Path(self.paths.lib) / "claude_local").symlink_to(PROJECT / "claude_local")

    def deploy(self) -> dict[str, int]:
        """Run the three stages and return pyinfra's totals."""
        command = [str(Path(sys.executable).with_name("pyinfra")), "-y", "--json", "@local"]
        done = subprocess.run(
            [*command, "tasks/home.py", "tasks/fence.py", "tasks/commands.py"],
            cwd=PROJECT, env=self.env, capture_output=True, text=True, check=False, timeout=120,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)["results"]["totals"]

    def ask(self, backend: ScriptedBackend, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.paths.wrapper, "-p", "hello", *arguments],
            cwd=self.workspace, env=self.env | {"CLAUDE_LOCAL_SERVER": backend.url}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    prepared = Machine(tmp_path_factory.mktemp("claude-local") / "a home")
    assert prepared.deploy()["success"] > 0
    yield prepared


def tool_results(backend: ScriptedBackend) -> str:
    """The tool results in the last request."""
    return json.dumps(
        [
            block
            for message in backend.main_requests[-1]["body"]["messages"]
            if isinstance(message["content"], list)
            for block in message["content"]
            if block["type"] == "tool_result"
        ]
    )


def test_a_tool_call_changes_the_workspace_and_the_answer_is_printed(machine: Machine) -> None:
    wanted = machine.workspace / "written.txt"
    turns = [tool_use("Write", {"file_path": str(wanted), "content": "hello\n"}), text("It is written.")]
    with ScriptedBackend(turns, token=TOKEN) as backend:
        done = machine.ask(backend, "--permission-mode", "acceptEdits")
    assert (done.returncode, done.stdout) == (0, "It is written.\n"), done.stderr
    assert wanted.read_text() == "hello\n"


def test_what_claude_sends_is_what_llama_server_understands(machine: Machine) -> None:
    with ScriptedBackend([text("Hi.")], token=TOKEN, models=["claude-local"]) as backend:
        machine.ask(backend)
    assert {(request["method"], request["path"]) for request in backend.requests} == {
        ("GET", "/props"),
        ("POST", "/v1/messages"),
    }, "no title, update, telemetry or start-up request"
    (request,) = backend.main_requests
    assert {message["role"] for message in request["body"]["messages"]} == {"user"}
    assert "billing" not in json.dumps(request["body"]["system"])
    assert request["headers"]["authorization"] == f"Bearer {TOKEN}" and "x-api-key" not in request["headers"]


def test_claude_uses_the_servers_context_window(machine: Machine) -> None:
    with ScriptedBackend([text("Hi.")], n_ctx=40960, token=TOKEN) as backend:
        done = machine.ask(backend, "--output-format", "json")
    assert json.loads(done.stdout)["modelUsage"]["claude-local"]["contextWindow"] == 40960


def test_the_first_start_asks_for_trust_and_nothing_else(machine: Machine) -> None:
    folder = machine.home / "new project"
    folder.mkdir()
    with (
        ScriptedBackend([text("Hello from the script.")], token=TOKEN) as backend,
        Tty([machine.paths.wrapper], env=machine.env | {"CLAUDE_LOCAL_SERVER": backend.url}, cwd=str(folder)) as tty,
    ):
        tty.wait_for("trust this folder", "theme", "login", "auto mode your default")
        assert "Yes, I trust this folder" in tty.text
        tty.press_until("\x1b[B", lambda: "❯ Yes, I trust" in tty.text, "Yes to be marked")
        tty.send("\r")
        tty.wait_for("plan mode on")
        assert "p · API Usage" in tty.text and "API key" not in tty.text
        tty.type("Hi")
        tty.wait_for("Hello from the script.")
    assert not [request for request in backend.requests if is_background(request["body"])]


def test_a_deploy_after_sessions_changes_nothing(machine: Machine) -> None:
    written = json.loads(Path(machine.paths.claude_json).read_text())
    assert len(written) > 3, "Claude Code has written into its file"
    assert machine.deploy()["success"] == 0


def test_a_users_change_survives_the_next_deploy(machine: Machine) -> None:
    path = Path(machine.paths.settings)
    settings = json.loads(path.read_text())
    settings["permissions"]["defaultMode"] = "acceptEdits"
    settings["model"] = "mine"
    del settings["permissions"]["disableAutoMode"]
    path.write_text(json.dumps(settings))
    assert machine.deploy()["success"] == 1, "the enforced key comes back"
    after = json.loads(path.read_text())
    assert after["permissions"]["defaultMode"] == "acceptEdits" and after["model"] == "mine"
    assert after["permissions"]["disableAutoMode"] == "disable"


def test_a_broken_settings_file_is_kept_and_replaced(machine: Machine) -> None:
    path = Path(machine.paths.settings)
    path.write_text('{"permissions": ')
    assert machine.deploy()["success"] == 1
    assert json.loads(path.read_text())["permissions"]["defaultMode"] == "plan"
    (kept,) = path.parent.glob("settings.json.broken-*")
    assert kept.read_text() == '{"permissions": '
    assert machine.deploy()["success"] == 0


def test_a_new_shell_finds_the_command(machine: Machine) -> None:
    env = {"HOME": str(machine.home), "PATH": "/usr/bin:/bin"}
    for flags in ("-lc", "-ic"):
        done = subprocess.run(
            ["bash", flags, "command -v claude-local"], env=env, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.stdout.strip() == machine.paths.wrapper
