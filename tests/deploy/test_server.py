"""The server stage: key, presets, container, and the wait for its answer."""

import json
import os
import stat
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from claude_local.deploy.facts.docker import Client
from claude_local.deploy.facts.models import Placements
from claude_local.deploy.facts.server import ApiKey, Hashes, Key, ServerAnswers
from claude_local.deploy.operations import server
from claude_local.models.profiles import parse
from claude_local.paths import Paths
from claude_local.server.container import CONFIG_LABEL
from claude_local.server.presets import ACTIVE
from tests.deploy.strict_host import StrictHost, fact_on_this_machine, run
from tests.deploy.this_machine import apply, changes
from tests.docker.test_commands import NETWORK
from tests.server.test_container import CONTAINER

PATHS = Paths(home="/home/u", model_dir="/data/models", bin_dir="/home/u/bin")
CLIENT = Client(client="/usr/bin/docker", buildkit=True, version="20.10.24", daemon=True, dockerd=True)
PROFILES = parse(
    "[small]\nNAME = Small\nMODEL = small.gguf\nCTX_SIZE = 4096\nTOOLS = Read, Write\n\n"
    "[large]\nNAME = Large\nMODEL = large.gguf\n"
)
PLACED = {
    "files": {"/data/models/small.gguf": {"sha256": "1", "size": 2, "mtime_ns": 3, "inode": 4, "placed": True}},
    "profiles": {"small": {"model": "/data/models/small.gguf", "mmproj": None, "files": ["/data/models/small.gguf"]}},
}


# --- the key -----------------------------------------------------------------------------------------------------

TOKEN = {"paths": PATHS, "uid": 10001, "gid": 10001, "chown": True}


def test_an_existing_key_is_kept(monkeypatch: Any) -> None:
    host = StrictHost({"ApiKey": Key(token="600", copy="400 10001:10001", same=True)})
    assert run(monkeypatch, server.token, host, **TOKEN) == []


def test_a_machine_without_a_token_gets_one_and_the_server_a_copy(monkeypatch: Any) -> None:
    token, copy = run(monkeypatch, server.token, StrictHost({"ApiKey": ApiKey.default()}), **TOKEN)
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
    (command,) = run(monkeypatch, server.token, StrictHost({"ApiKey": key}), **TOKEN)
    assert command.startswith("install ")


def test_an_ordinary_user_changes_no_owner(monkeypatch: Any) -> None:
    host = StrictHost({"ApiKey": ApiKey.default()})
    _, copy = run(monkeypatch, server.token, host, paths=PATHS, uid=1000, gid=1000, chown=False)
    assert " -o " not in copy


def test_the_token_is_long_random_and_closed(tmp_path: Path) -> None:
    paths = Paths(home=str(tmp_path), model_dir="/m", bin_dir="/b")
    arguments = {"paths": paths, "uid": os.getuid(), "gid": os.getgid(), "chown": False}
    assert changes(server.token, **arguments) == (True, False)
    token, copy = Path(paths.token), Path(paths.api_key_file)
    first = token.read_text()
    assert len(first.strip()) == 43 and "\n" not in first.strip() and "=" not in first
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.stat().st_mode) == 0o400 and copy.read_text() == first
    # A token that others may read is closed, not replaced.
    token.chmod(0o644)
    assert changes(server.token, **arguments) == (True, False)
    assert token.read_text() == first and stat.S_IMODE(token.stat().st_mode) == 0o600
    token.unlink()
    assert apply(server.token, **arguments)
    assert token.read_text() == copy.read_text() != first


# --- presets -----------------------------------------------------------------------------------------------------

PRESETS = {
    "profiles": PROFILES,
    "active": "small",
    "paths": PATHS,
    "search_dirs": [],
    "variant": "cpu",
    "cache_ram_mib": 1024,
    "image": "x:1",
    "prompts_mib": 100,
    "idle_minutes": 0,
    "models_at_once": 2,
}


def test_presets_and_profiles_list_what_is_placed(tmp_path: Path) -> None:
    paths = Paths(home=str(tmp_path), model_dir="/data/models", bin_dir="/b")
    Path(paths.placements).parent.mkdir(parents=True)
    Path(paths.placements).write_text(json.dumps(PLACED))
    assert changes(server.presets, **{**PRESETS, "paths": paths}) == (True, False)
    text = Path(paths.presets).read_text()
    assert "[small]\nalias = claude-local\nmodel = /models/small.gguf" in text
    assert "[large]" not in text and "cache-ram = 1024" in text
    assert json.loads(Path(paths.profiles).read_text()) == {
        "default": "small",
        "models_at_once": 2,
        "deployed": {},
        "profiles": {
            "small": {"name": "Small", "description": "", "tools": "Read, Write", "ctx_size": 4096, "fit": None}
        },
    }


def test_without_the_active_model_the_stage_names_the_task_to_run(monkeypatch: Any) -> None:
    host = StrictHost({"Placements": {}})
    run(monkeypatch, server.presets, host, **PRESETS)
    assert "tasks/models.py" in host.logged[0]


# --- the container -------------------------------------------------------------------------------------------------

READ = {"Hashes": {"presets.ini": "a", "api-key": "b"}, "Placements": PLACED, "Directory": {"mode": 755}}


def config() -> str:
    stamp = json.dumps(["1", 2, 3, 4])
    return CONTAINER.config({"presets.ini": "a", "api-key": "b", "/data/models/small.gguf": stamp})


def existing(state: str, label: str | None) -> dict[str, Any]:
    return {"Config": {"Labels": {CONFIG_LABEL: label} if label else None}, "State": {"Status": state}}


OWN_NETWORK = {"Labels": {"claude-local.network": "1"}, "Driver": "bridge", "Options": {}}


def run_network(monkeypatch: Any, network: dict[str, Any], container: dict[str, Any]) -> tuple[list[str], StrictHost]:
    host = StrictHost({"DockerClient": CLIENT, "DockerNetwork": network, "DockerContainer": container}, root=True)
    return run(monkeypatch, server.network, host, containers=["server", "manager"]), host


def test_a_machine_without_the_network_gets_it(monkeypatch: Any) -> None:
    (command,), host = run_network(monkeypatch, {}, {})
    assert "enable_ip_masquerade=false" in command and "rm --force" not in command and host.sudo == [True]


def test_a_network_that_lets_nothing_out_is_left_alone(monkeypatch: Any) -> None:
    commands, host = run_network(monkeypatch, NETWORK, existing("running", "x"))
    assert commands == [] and host.noop_reason


def test_a_network_with_other_options_is_made_anew_and_the_container_with_it(monkeypatch: Any) -> None:
    (command,), _ = run_network(monkeypatch, OWN_NETWORK, existing("running", "x"))
    container, network = "docker rm --force server", "docker network rm claude-local"
    assert command.index(container) < command.index(network) < command.index("enable_ip_masquerade")


def test_a_container_of_a_network_that_is_gone_is_made_anew(monkeypatch: Any) -> None:
    (command,), _ = run_network(monkeypatch, {}, existing("exited", "x"))
    assert "docker rm --force server" in command and "docker network rm" not in command.partition("sh -c")[0]


def test_somebody_elses_network_and_container_are_not_touched(monkeypatch: Any) -> None:
    commands, host = run_network(monkeypatch, {"Driver": "bridge", "Labels": {}}, existing("running", None))
    assert commands == [] and "docker network rm claude-local" in host.logged[0]
    (command,), _ = run_network(monkeypatch, {}, existing("running", None))
    assert "rm --force" not in command


def run_container(monkeypatch: Any, container: dict[str, Any], **changes: Any) -> tuple[list[str], StrictHost]:
    host = StrictHost({"DockerClient": CLIENT, "DockerContainer": container, **READ, **changes}, root=True)
    return run(monkeypatch, server.run_container, host, container=CONTAINER, paths=PATHS), host


def test_a_container_that_runs_as_it_should_is_left_alone(monkeypatch: Any) -> None:
    commands, host = run_container(monkeypatch, existing("running", config()))
    assert commands == [] and host.noop_reason == "server runs unchanged"


def test_a_stopped_container_is_started(monkeypatch: Any) -> None:
    (command,), host = run_container(monkeypatch, existing("exited", config()))
    assert "/usr/bin/docker start server" in command
    assert host.sudo == [True]


def test_a_machine_without_the_container_gets_it(monkeypatch: Any) -> None:
    (command,), _ = run_container(monkeypatch, {})
    assert "/usr/bin/docker run" in command and "rm --force" not in command
    assert f"{CONFIG_LABEL}={config()}" in command


@pytest.mark.parametrize(
    "change",
    [
        {"Hashes": {"presets.ini": "other", "api-key": "b"}},
        {"Hashes": {"presets.ini": "a", "api-key": "other"}},
        {"Directory": None},
        {"Placements": {"files": {"/data/models/small.gguf": {"sha256": "1", "inode": 5}}}},
    ],
)
def test_another_file_makes_the_container_anew(monkeypatch: Any, change: dict[str, Any]) -> None:
    (command,), _ = run_container(monkeypatch, existing("running", config()), **change)
    assert command.index("rm --force server") < command.index("docker run")


@pytest.mark.parametrize("state", ["paused", "created", "dead"])
def test_a_container_in_an_odd_state_is_made_anew(monkeypatch: Any, state: str) -> None:
    (command,), _ = run_container(monkeypatch, existing(state, config()))
    assert "rm --force server" in command


def test_somebody_elses_container_is_not_touched(monkeypatch: Any) -> None:
    commands, host = run_container(monkeypatch, existing("running", None))
    assert commands == []
    assert "choose another name with server_container" in host.logged[0]


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("listen tcp4 127.0.0.1:8080: bind: address already in use", "set server_port"),
        ("Unable to find image 'image:tag' locally", "run tasks/image.py"),
    ],
)
def test_a_container_that_does_not_start_comes_with_a_fix(monkeypatch: Any, said: str, advice: str) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerContainer": {}, **READ})
    host.succeeds, host.output = False, [said]
    run(monkeypatch, server.run_container, host, container=CONTAINER, paths=PATHS)
    assert said in host.logged[0] and advice in host.logged[0]


# --- the answer ----------------------------------------------------------------------------------------------------

WAIT = {"port": 8080, "paths": PATHS, "container": "server", "timeout": 600}


def test_a_server_that_answers_is_not_asked_again(monkeypatch: Any) -> None:
    host = StrictHost({"ServerAnswers": True})
    assert run(monkeypatch, server.wait, host, **WAIT) == []


def test_the_wait_is_bounded_and_shows_itself(monkeypatch: Any) -> None:
    (command,) = run(monkeypatch, server.wait, StrictHost({"ServerAnswers": False}), **WAIT)
    assert "claude_local.server.wait --port 8080" in command and "--timeout 600" in command


def test_a_server_that_does_not_answer_shows_its_log_and_what_to_try(monkeypatch: Any) -> None:
    host = StrictHost(
        {"ServerAnswers": False, "DockerClient": CLIENT, "DockerContainer": existing("running", "x")}, root=True
    )
    host.succeeds = False
    host.output = ["0.1 E failed to open GGUF file '/models/small.gguf'", "[server] the model failed to load"]
    _, logs = run(monkeypatch, server.wait, host, **WAIT)
    assert "docker logs --tail" in logs and host.sudo == [False, True]
    (message,) = host.logged
    assert "does not answer: the model failed to load\n" in message
    assert "E failed to open GGUF file" in message and "run tasks/models.py" in message


def test_the_facts_on_a_real_machine(tmp_path: Path) -> None:
    assert fact_on_this_machine(Placements(), path=str(tmp_path / "none")) == {}
    (tmp_path / "models.json").write_text('{"files": {}}')
    assert fact_on_this_machine(Placements(), path=str(tmp_path / "models.json")) == {"files": {}}
    assert list(fact_on_this_machine(Hashes(), folder=str(tmp_path))) == ["models.json"]
    assert fact_on_this_machine(Hashes(), folder="/no/such") == {}
    assert fact_on_this_machine(ServerAnswers(), port=1, token="/no") is False


@pytest.mark.parametrize(
    ("states", "answers"),
    [(["loaded"], True), (["unloaded", "sleeping"], True), (["loading"], False), ([], False), (None, False)],
)
def test_the_router_is_asked_with_the_token_whether_a_model_is_ready(
    tmp_path: Path, states: list[str] | None, answers: bool
) -> None:
    (tmp_path / "token").write_text("the token\n")
    entries = [{"id": str(n), "aliases": [ACTIVE], "status": {"value": each}} for n, each in enumerate(states or [])]
    seen = []

    class Router(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers["Authorization"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"data": None if states is None else entries}).encode())

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Router) as router:
        threading.Thread(target=router.handle_request, daemon=True).start()
        asked = fact_on_this_machine(ServerAnswers(), port=router.server_port, token=str(tmp_path / "token"))
    assert asked is answers and seen == [("/v1/models", "Bearer the token")]


def test_a_containers_directory_is_made_once_for_a_user_without_a_name(tmp_path: Path) -> None:
    paths = [tmp_path / "the log", tmp_path / "state"]
    uid = 10001 if os.geteuid() == 0 else os.geteuid()
    gid = 10001 if os.geteuid() == 0 else os.getegid()
    assert changes(server.directories, paths=list(map(str, paths)), uid=uid, gid=gid) == (True, False)
    assert {(path.stat().st_uid, path.stat().st_mode & 0o777) for path in paths} == {(uid, 0o700)}
