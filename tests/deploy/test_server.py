"""The server stage: key, presets, container, and the wait for its answer."""

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from claude_local.deploy.facts.docker import Client
from claude_local.deploy.facts.server import ApiKey, Directories, Hashes, Key, MachineMemory, Placements, ServerAnswers
from claude_local.deploy.facts.user_files import UserFile
from claude_local.deploy.operations import user_files
from claude_local.deploy.operations.server import answering, configured, keyed, running
from claude_local.models.profiles import parse
from claude_local.paths import Paths
from claude_local.server.container import CONFIG_LABEL, Container
from tests.deploy.strict_host import StrictHost, fact_on_this_machine, run

PATHS = Paths(home="/home/u", model_dir="/data/models", bin_dir="/home/u/bin")
CLIENT = Client(client="/usr/bin/docker", buildkit=True, version="20.10.24", daemon=True, dockerd=True)
CONTAINER = Container(
    name="server",
    image="image:tag",
    port=8080,
    uid=1000,
    gid=1000,
    memory_mib=4096,
    pids=512,
    model_dir="/data/models",
    search_dirs={0: "/mnt/a"},
    server_dir="/home/u/server",
)
PROFILES = parse(
    "[small]\nNAME = Small\nMODEL = small.gguf\nCTX_SIZE = 4096\nTOOLS = Read, Write\n\n[large]\nNAME = Large\nMODEL = large.gguf\n"
)
PLACED = {
    "files": {"/data/models/small.gguf": {"sha256": "1", "size": 2, "mtime_ns": 3, "inode": 4, "placed": True}},
    "profiles": {"small": {"model": "/data/models/small.gguf", "mmproj": None, "files": ["/data/models/small.gguf"]}},
}


class Host(StrictHost):
    """Ignores how a fact is asked for (sudo), and lets a command run without showing its output."""

    def get_fact(self, fact: type, _sudo: bool = False, **arguments: Any) -> Any:
        return super().get_fact(fact, **arguments)

    def run_shell_command(self, command: Any, print_output: bool = False, **arguments: Any) -> Any:
        ok, output = super().run_shell_command(command, print_output=True, **arguments)
        lines = type("Output", (list,), {"stdout_lines": self.output})(output)
        return ok, lines


def run_all(monkeypatch: Any, operation: Any, host: StrictHost, **arguments: Any) -> list[str]:
    monkeypatch.setattr(user_files, "host", host)
    return run(monkeypatch, operation, host, **arguments)


# --- the key -----------------------------------------------------------------------------------------------------

KEYED = {"paths": PATHS, "uid": 10001, "gid": 10001, "chown": True}


def test_a_key_that_is_there_is_kept(monkeypatch: Any) -> None:
    host = Host({"ApiKey": Key(token="600", copy="400 10001:10001", same=True)})
    assert run(monkeypatch, keyed, host, **KEYED) == []


def test_a_machine_without_a_token_gets_one_and_the_server_a_copy(monkeypatch: Any) -> None:
    token, copy = run(monkeypatch, keyed, Host({"ApiKey": ApiKey.default()}), **KEYED)
    assert "/dev/urandom" in token and "umask 077" in token
    assert copy.startswith("install -D -m 400 -o 10001 -g 10001 /home/u/.config/claude-local/token ")


@pytest.mark.parametrize(
    "key",
    [
        Key(token="600", copy="400 10001:10001", same=False),  # another token
        Key(token="600", copy="400 0:0", same=True),  # another owner
        Key(token="600", copy=None, same=False),
    ],
)
def test_the_servers_copy_follows_the_token(monkeypatch: Any, key: Key) -> None:
    (command,) = run(monkeypatch, keyed, Host({"ApiKey": key}), **KEYED)
    assert command.startswith("install ")


def test_an_ordinary_user_changes_no_owner(monkeypatch: Any) -> None:
    host = Host({"ApiKey": ApiKey.default()})
    _, copy = run(monkeypatch, keyed, host, paths=PATHS, uid=1000, gid=1000, chown=False)
    assert " -o " not in copy


def test_the_commands_make_a_good_token_for_real(tmp_path: Path, monkeypatch: Any) -> None:
    paths = Paths(home=str(tmp_path), model_dir="/m", bin_dir="/b")
    wanted = {"paths": paths, "uid": os.getuid(), "gid": os.getgid(), "chown": False}

    def apply() -> int:
        facts = {"ApiKey": fact_on_this_machine(ApiKey(), token=paths.token, copy=paths.api_key_file)}
        commands = run(monkeypatch, keyed, Host(facts), **wanted)
        for command in commands:
            done = subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True, umask=0o022)
            assert done.stdout == done.stderr == ""
        return len(commands)

    assert (apply(), apply()) == (2, 0)
    token = Path(paths.token)
    first = token.read_text()
    assert len(first.strip()) == 43 and "\n" not in first.strip() and "=" not in first
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(paths.api_key_file).stat().st_mode) == 0o400
    assert Path(paths.api_key_file).read_text() == first
    # A token that others may read is closed, not replaced.
    token.chmod(0o644)
    assert apply() == 1 and token.read_text() == first
    token.unlink()
    assert apply() == 2 and token.read_text() != first


# --- presets -----------------------------------------------------------------------------------------------------

CONFIGURED = {
    "profiles": PROFILES,
    "active": "small",
    "paths": PATHS,
    "search_dirs": [],
    "variant": "cpu",
    "cache_ram_mib": 1024,
}


def written(monkeypatch: Any) -> dict[str, str]:
    """What configured() writes: path -> text."""
    texts: dict[str, str] = {}

    def whole_file(dest: str, text: str, mode: str) -> list[str]:
        texts[dest] = text
        return []

    monkeypatch.setattr(user_files.whole_file, "_inner", whole_file)
    run(monkeypatch, configured, Host({"Placements": PLACED}), **CONFIGURED)
    return texts


def test_presets_and_profiles_tell_of_what_is_placed(monkeypatch: Any) -> None:
    texts = written(monkeypatch)
    assert "[claude-local]\nload-on-startup = true\nmodel = /models/small.gguf" in texts[PATHS.presets]
    assert "[large]" not in texts[PATHS.presets]
    assert "cache-ram = 1024" in texts[PATHS.presets]
    assert json.loads(texts[PATHS.profiles]) == {
        "default": "small",
        "profiles": {"small": {"name": "Small", "tools": ["Read", "Write"], "ctx_size": 4096}},
    }


def test_presets_that_are_right_are_left_alone(monkeypatch: Any) -> None:
    texts = written(monkeypatch)
    monkeypatch.undo()

    def there(paths: list[str]) -> dict[str, UserFile]:
        return {path: UserFile("644", texts[path].encode()) for path in paths}

    host = Host({"Placements": PLACED, "UserFiles": there})
    assert run_all(monkeypatch, configured, host, **CONFIGURED) == []
    host = Host({"Placements": PLACED, "UserFiles": lambda paths: {path: None for path in paths}})
    uploads = [c for c in run_all(monkeypatch, configured, host, **CONFIGURED) if c.startswith("upload ")]
    assert len(uploads) == 2


def test_without_the_active_model_the_stage_says_what_to_run(monkeypatch: Any) -> None:
    host = Host({"Placements": {}})
    run(monkeypatch, configured, host, **CONFIGURED)
    assert "tasks/models.py" in host.logged[0]


# --- the container -------------------------------------------------------------------------------------------------

READ = {"Hashes": {"presets.ini": "a", "api-key": "b"}, "Placements": PLACED, "Directories": ["/mnt/a"]}


def config() -> str:
    stamp = json.dumps(["1", 2, 3, 4])
    return CONTAINER.config({"presets.ini": "a", "api-key": "b", "/data/models/small.gguf": stamp})


def found(state: str, label: str | None) -> dict[str, Any]:
    return {"Config": {"Labels": {CONFIG_LABEL: label} if label else None}, "State": {"Status": state}}


def apply(monkeypatch: Any, container: dict[str, Any], **changes: Any) -> tuple[list[str], Host]:
    host = Host({"DockerClient": CLIENT, "DockerContainer": container, **READ, **changes})
    return run(monkeypatch, running, host, container=CONTAINER, paths=PATHS, root=True), host


def test_a_container_that_runs_as_it_should_is_left_alone(monkeypatch: Any) -> None:
    commands, host = apply(monkeypatch, found("running", config()))
    assert commands == [] and host.noop_reason == "server runs as it should"


def test_a_stopped_container_is_started(monkeypatch: Any) -> None:
    (command,), host = apply(monkeypatch, found("exited", config()))
    assert "/usr/bin/docker start server" in command
    assert host.sudo == [True]


def test_a_machine_without_the_container_gets_it(monkeypatch: Any) -> None:
    (command,), _ = apply(monkeypatch, {})
    assert "/usr/bin/docker run" in command and "rm --force" not in command
    assert f"{CONFIG_LABEL}={config()}" in command


@pytest.mark.parametrize(
    "change",
    [
        {"Hashes": {"presets.ini": "other", "api-key": "b"}},
        {"Hashes": {"presets.ini": "a", "api-key": "other"}},
        {"Directories": []},
        {"Placements": {"files": {"/data/models/small.gguf": {"sha256": "1", "inode": 5}}}},
    ],
)
def test_another_file_makes_the_container_anew(monkeypatch: Any, change: dict[str, Any]) -> None:
    (command,), _ = apply(monkeypatch, found("running", config()), **change)
    assert command.index("rm --force server") < command.index("docker run")


@pytest.mark.parametrize("state", ["paused", "created", "dead"])
def test_a_container_in_an_odd_state_is_made_anew(monkeypatch: Any, state: str) -> None:
    (command,), _ = apply(monkeypatch, found(state, config()))
    assert "rm --force server" in command


def test_somebody_elses_container_is_not_touched(monkeypatch: Any) -> None:
    commands, host = apply(monkeypatch, found("running", None))
    assert commands == []
    assert "choose another name with server_container" in host.logged[0]


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("listen tcp4 127.0.0.1:8080: bind: address already in use", "set server_port to a free one"),
        ("Unable to find image 'image:tag' locally", "run tasks/image.py"),
    ],
)
def test_a_container_that_does_not_start_says_what_to_do(monkeypatch: Any, said: str, advice: str) -> None:
    host = Host({"DockerClient": CLIENT, "DockerContainer": {}, **READ})
    host.succeeds, host.output = False, [said]
    run(monkeypatch, running, host, container=CONTAINER, paths=PATHS)
    assert said in host.logged[0] and advice in host.logged[0]


# --- the answer ----------------------------------------------------------------------------------------------------

ANSWERING = {"port": 8080, "paths": PATHS, "container": "server", "timeout": 600, "root": True}


def test_a_server_that_answers_is_not_asked_again(monkeypatch: Any) -> None:
    host = Host({"ServerAnswers": True})
    assert run(monkeypatch, answering, host, **ANSWERING) == []


def test_the_wait_is_bounded_and_shows_itself(monkeypatch: Any) -> None:
    (command,) = run(monkeypatch, answering, Host({"ServerAnswers": False}), **ANSWERING)
    assert "claude_local.server.wait --port 8080" in command and "--timeout 600" in command


def test_a_server_that_does_not_answer_shows_its_log_and_what_to_try(monkeypatch: Any) -> None:
    host = Host({"ServerAnswers": False, "DockerClient": CLIENT, "DockerContainer": found("running", "x")})
    host.succeeds = False
    host.output = ["0.1 E failed to open GGUF file '/models/small.gguf'", "[server] the model failed to load"]
    _, logs = run(monkeypatch, answering, host, **ANSWERING)
    assert "docker logs --tail" in logs and host.sudo == [False, True]
    (message,) = host.logged
    assert "does not answer: the model failed to load\n" in message
    assert "E failed to open GGUF file" in message and "run tasks/models.py" in message


def test_the_facts_on_a_real_machine(tmp_path: Path) -> None:
    assert fact_on_this_machine(MachineMemory()) > 256
    assert fact_on_this_machine(Placements(), path=str(tmp_path / "none")) == {}
    (tmp_path / "models.json").write_text('{"files": {}}')
    assert fact_on_this_machine(Placements(), path=str(tmp_path / "models.json")) == {"files": {}}
    assert fact_on_this_machine(Directories(), paths=[str(tmp_path), "/no/such"]) == [str(tmp_path)]
    assert list(fact_on_this_machine(Hashes(), folder=str(tmp_path))) == ["models.json"]
    assert fact_on_this_machine(Hashes(), folder="/no/such") == {}
    assert fact_on_this_machine(ServerAnswers(), python="/no/python", port=1, token="/no") is False
