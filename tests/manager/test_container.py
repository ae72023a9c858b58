"""The management API's container: what it may do, and when its image is another one."""

from dataclasses import replace

from claude_local.manager.container import ManagerContainer, image_tag
from tests.server.test_container import values

CONTAINER = ManagerContainer(
    name="manager",
    image="claude-local/manager:tag",
    port=18081,
    uid=1000,
    gid=100,
    server="server",
    lib="/home/u/lib",
    venv="/home/u/venv",
    server_dir="/home/u/server",
    profiles_dir="/home/u/manager",
    log_dir="/home/u/log",
    state_dir="/home/u/state",
    sessions_dir="/home/u/sessions",
)


def test_the_container_is_confined() -> None:
    argv = CONTAINER.run("docker", {})
    options = argv[: argv.index(CONTAINER.image)]
    assert values(options, "--publish") == ["127.0.0.1:18081:18081"] and values(options, "--user") == ["1000:100"]
    assert values(options, "--network") == ["claude-local"] and values(options, "--userns") == ["host"]
    assert values(options, "--cap-drop") == ["ALL"] and values(options, "--security-opt") == ["no-new-privileges"]
    assert values(options, "--restart") == ["always"]
    assert {"--read-only", "--init", "--detach", "--memory", "--pids-limit"} <= set(options)
    writable = [mount for mount in values(options, "--mount") if not mount.endswith(",readonly")]
    assert [mount.split("=")[-1] for mount in writable] == ["/var/log/claude-local", "/var/lib/claude-local"]
    assert not any("docker.sock" in argument for argument in argv)


def test_it_asks_the_server_by_its_containers_name() -> None:
    program = CONTAINER.run("docker", {})
    assert values(program, "--server") == ["http://server:8080"]


def test_another_program_makes_another_container() -> None:
    assert CONTAINER.config({"files": "a"}) != CONTAINER.config({"files": "b"})
    assert CONTAINER.config({}) != replace(CONTAINER, port=1).config({})


def test_another_base_makes_another_image() -> None:
    assert image_tag("FROM x", "debian:bookworm") != image_tag("FROM x", "debian:trixie")
