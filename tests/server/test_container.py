"""The server's container: what it may do, and when it is replaced."""

from dataclasses import replace

import pytest

from claude_local.server.container import Container, cache_ram_mib, memory_limit_mib, owner

CONTAINER = Container(
    name="server",
    image="claude-local/llama-server:tag",
    port=18080,
    uid=1000,
    gid=100,
    memory_mib=4096,
    pids=512,
    model_dir="/data/models",
    search_dirs={0: "/mnt/a", 1: "/mnt/b,c"},
    server_dir="/home/u/server",
    log_dir="/home/u/log",
    prompts_dir="/home/u/prompts",
    models_at_once=2,
)


def values(argv: list[str], option: str) -> list[str]:
    """The values of an option in a command line."""
    return [argv[i + 1] for i, argument in enumerate(argv) if argument == option]


def test_the_container_is_confined() -> None:
    argv = CONTAINER.run("docker", {})
    options = argv[: argv.index(CONTAINER.image)]
    assert values(options, "--publish") == ["127.0.0.1:18080:8080"]
    assert values(options, "--user") == ["1000:100"]
    assert values(options, "--cap-drop") == ["ALL"]
    assert values(options, "--security-opt") == ["no-new-privileges"]
    assert values(options, "--memory") == ["4096m"] and values(options, "--pids-limit") == ["512"]
    assert values(options, "--restart") == ["always"]
    assert values(options, "--log-opt") == ["max-size=10m", "max-file=3"]
    assert {"--read-only", "--init", "--detach", "--tmpfs"} <= set(options)
    writable = [mount for mount in values(options, "--mount") if not mount.endswith(",readonly")]
    assert writable == [
        'type=bind,"source=/home/u/log",target=/var/log/claude-local',
        'type=bind,"source=/home/u/prompts",target=/var/lib/claude-local/prompts',
    ]
    assert not {"--privileged", "--volume", "-v"} & set(options)
    assert not any("docker.sock" in argument for argument in argv)


def test_the_container_is_on_the_network_without_a_way_out_and_resolves_no_names() -> None:
    options = CONTAINER.arguments()
    assert values(options, "--network") == ["claude-local"] and values(options, "--dns") == ["0.0.0.0"]


def test_a_daemon_that_renumbers_users_leaves_the_servers_user_alone() -> None:
    assert values(CONTAINER.arguments(), "--userns") == ["host"]


def test_our_own_image_runs_where_the_user_wants_signed_ones() -> None:
    assert CONTAINER.run("docker", {})[:4] == ["env", "DOCKER_CONTENT_TRUST=0", "docker", "run"]


def test_the_server_is_offline_needs_a_key_and_has_no_web_page() -> None:
    argv = CONTAINER.run("docker", {})
    server = argv[argv.index(CONTAINER.image) :]
    assert {"--offline", "--metrics"} <= set(server)
    assert values(server, "--api-key-file") == ["/etc/claude-local/api-key"]
    assert values(server, "--cors-origins") == ["http://localhost"]
    assert values(server, "--models-max") == ["2"] and values(server, "--port") == ["8080"]


def test_a_gpu_adds_its_own_options_and_nothing_else() -> None:
    gpu = ("--device", "/dev/dri/renderD128", "--group-add", "105")
    argv = replace(CONTAINER, gpu=gpu).run("docker", {})
    options = argv[: argv.index(CONTAINER.image)]
    assert values(options, "--device") == ["/dev/dri/renderD128"] and values(options, "--group-add") == ["105"]
    plain = CONTAINER.run("docker", {})
    start = plain.index("--detach")
    assert [argument for argument in argv[start:] if argument not in gpu] == plain[start:]


def test_without_a_gpu_no_device_is_given() -> None:
    assert not {"--device", "--runtime", "--gpus", "--group-add"} & set(CONTAINER.arguments())


def test_a_search_directory_keeps_its_position_when_another_is_missing() -> None:
    container = CONTAINER.with_directories(["/mnt/b,c"])
    mounts = values(container.arguments(), "--mount")
    assert 'type=bind,"source=/mnt/b,c",target=/models-extra/1,readonly' in mounts
    assert not any("/models-extra/0" in mount for mount in mounts)


@pytest.mark.parametrize(
    "change",
    [
        {"image": "other"},
        {"port": 1},
        {"uid": 1},
        {"memory_mib": 1},
        {"pids": 1},
        {"model_dir": "/other"},
        {"search_dirs": {}},
        {"server_dir": "/other"},
        {"gpu": ("--runtime", "nvidia")},
    ],
)
def test_another_argument_replaces_the_container(change: dict[str, object]) -> None:
    assert replace(CONTAINER, **change).config({}) != CONTAINER.config({})  # type: ignore[arg-type]


def test_other_files_replace_the_container_and_the_label_is_the_hash() -> None:
    files = {"presets.ini": "1", "api-key": "2"}
    assert CONTAINER.config(files) == CONTAINER.config(dict(reversed(files.items())))
    assert CONTAINER.config(files) != CONTAINER.config({**files, "api-key": "3"})
    assert values(CONTAINER.run("docker", files), "--label") == [f"claude-local.config={CONTAINER.config(files)}"]


def test_root_never_runs_the_server() -> None:
    assert owner(0, 0) == (10001, 10001)
    assert owner(1000, 100) == (1000, 100)


def test_memory_is_the_setting_or_three_quarters_and_the_prompt_cache_fits_in_it() -> None:
    assert memory_limit_mib(2000, 64000) == 2000
    assert memory_limit_mib(0, 16000) == 12000
    assert cache_ram_mib(12000) == 3000
    assert cache_ram_mib(100_000) == 8192


def test_the_web_page_is_a_setting() -> None:
    assert "--ui" in CONTAINER.arguments() and "--no-ui" not in CONTAINER.arguments()
    off = replace(CONTAINER, ui=False)
    assert "--no-ui" in off.arguments() and "--ui" not in off.arguments()
    assert off.config({}) != CONTAINER.config({}), "the container is replaced when the setting changes"
