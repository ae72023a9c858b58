"""The image stage: nothing while the image is there, and every source's failure has its second source."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from claude_local.deploy.facts.docker import Client, DockerContainer, DockerImage
from claude_local.deploy.facts.image import CpuFlags, LlamaSource, ServerImages
from claude_local.deploy.operations import image
from claude_local.deploy.operations.image import BASE_SCRIPT
from claude_local.deploy.workstation import DOCKERFILE
from claude_local.hardware.cuda import TOOLKITS, Cuda
from claude_local.image import plan as pure
from claude_local.image.base import base_image
from claude_local.image.builds import BUILDS
from claude_local.paths import Paths
from tests.deploy.strict_host import StrictHost, fact_on_this_machine, run

CLIENT = Client(client="/usr/bin/docker", buildkit=True, version="20.10.24", daemon=True, dockerd=True)
PATHS = Paths(home="/home/u", model_dir="/home/u/models", bin_dir="/home/u/bin")


def planned(base: str = "auto") -> pure.Image:
    return pure.plan(
        dockerfile="FROM x",
        build_number=max(BUILDS),
        variant="cpu",
        cpu="native",
        base=base_image(base, "debian", "bookworm"),
        arch="x86_64",
        cpu_flags=["avx2"],
    )


def planned_cuda() -> pure.Image:
    return pure.plan(
        dockerfile=DOCKERFILE.read_text(),
        build_number=max(BUILDS),
        variant="cuda",
        cpu="native",
        base=base_image("auto", "debian", "bookworm", "cuda"),
        arch="x86_64",
        cpu_flags=["avx2"],
        cuda=Cuda(TOOLKITS[0], ("89-real",)),
    )


def images(*present: str) -> Any:
    """The fact DockerImage of a daemon that has these images; ``present`` may grow while the operation runs."""
    return lambda client, reference: {"Id": "x"} if reference in present else {}


BASE = {"distro": "debian", "codename": "bookworm", "scratch": "/scratch"}


def test_an_image_that_exists_costs_nothing(monkeypatch: Any) -> None:
    facts = {"DockerClient": CLIENT, "DockerImage": images(planned().tag)}
    for operation, arguments in (
        (image.base, BASE),
        (image.source, {"paths": PATHS}),
        (image.build, {"paths": PATHS}),
    ):
        host = StrictHost(facts)
        assert run(monkeypatch, operation, host, image=planned(), **arguments) == []
        assert host.noop_reason == f"{planned().tag} exists"


def test_a_base_image_that_exists_is_used(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images("claude-local/base:bookworm")})
    assert run(monkeypatch, image.base, host, image=planned(), **BASE) == []


def test_the_registry_is_enough_where_it_answers(monkeypatch: Any) -> None:
    asked: list[str] = []

    def fact(client: str, reference: str) -> dict[str, str]:
        asked.append(reference)
        return {"Id": "x"} if asked.count("claude-local/base:bookworm") > 1 else {}

    host = StrictHost({"DockerClient": CLIENT, "DockerImage": fact})
    (pull,) = run(monkeypatch, image.base, host, image=planned(), **BASE)
    assert "pull /usr/bin/docker claude-local/base:bookworm debian:bookworm-slim" in pull


def test_debootstrap_is_installed_and_used_where_the_registry_says_no(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images(), "DebPackages": {}, "FindFiles": []}, root=True)
    pull, install, bootstrap = run(monkeypatch, image.base, host, image=planned(), **BASE)
    assert "|| test $? -eq 3" in pull
    assert install.endswith(" install --yes --no-install-recommends debian-archive-keyring debootstrap ) 2>&1")
    assert "bootstrap /usr/bin/docker claude-local/base:bookworm debian bookworm /scratch" in bootstrap
    assert host.sudo == [True] * 3


def test_an_image_of_the_users_choice_has_no_second_source(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images()})
    commands = run(monkeypatch, image.base, host, image=planned("me/base:1"), **BASE)
    assert len(commands) == 1
    assert "image_base: me/base:1 could not be pulled" in host.logged[0]
    assert "set image_base to 'auto'" in host.logged[0] and "GPU" not in host.logged[0]


def test_cuda_needs_two_images_and_only_the_missing_one_is_pulled(monkeypatch: Any) -> None:
    devel = "nvidia/cuda:12.8.1-devel-ubuntu24.04"
    there = ["claude-local/base:noble"]
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images(*there, devel)})
    assert run(monkeypatch, image.base, host, image=planned_cuda(), **BASE) == []

    asked: list[str] = []

    def fact(client: str, reference: str) -> dict[str, str]:
        asked.append(reference)
        return {"Id": "x"} if reference in there or asked.count(devel) > 1 else {}

    host = StrictHost({"DockerClient": CLIENT, "DockerImage": fact})
    (pull,) = run(monkeypatch, image.base, host, image=planned_cuda(), **BASE)
    assert f"pull /usr/bin/docker {devel} {devel}" in pull


def test_a_cuda_image_that_cannot_be_pulled_says_how_to_bring_it_or_do_without(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images()})
    run(monkeypatch, image.base, host, image=planned_cuda(), **BASE)
    assert host.logged[0].startswith("ubuntu:noble could not be pulled")
    assert "docker load here, docker tag ubuntu:noble claude-local/base:noble" in host.logged[0]


def test_a_cuda_image_that_does_not_come_through_names_no_setting_that_is_right(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images("claude-local/base:noble")})
    run(monkeypatch, image.base, host, image=planned_cuda(), **BASE)
    (said,) = host.logged
    assert said.startswith("nvidia/cuda:12.8.1-devel-ubuntu24.04 could not be pulled")
    assert "image_base" not in said and "docker tag" not in said
    for help in ("Run again, on a faster line", "docker load here", "image_variant = 'cpu'"):
        assert help in said


GPU = ("--runtime", "nvidia", "--env", "NVIDIA_VISIBLE_DEVICES=all")


def test_a_gpu_image_gets_its_tag_only_when_it_finds_its_gpu(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images()})
    tag = planned_cuda().tag
    *_, build, devices, check = run(monkeypatch, image.build, host, image=planned_cuda(), paths=PATHS, gpu_argv=GPU)
    assert "--target runtime-cuda" in build and "'CMAKE_FLAGS=" in build
    assert "--build-arg RUNTIME_BASE=claude-local/base:noble" in build
    assert f"{' '.join(GPU)} {tag}-unchecked --list-devices" in devices and "--cap-drop=ALL" in devices
    assert f"tag {tag}-unchecked {tag}" in check


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("Available devices:\n  CUDA0: NVIDIA GeForce RTX 4090 (24564 MiB, 24090 MiB free)", 0),
        ("Available devices:\n  Vulkan0: AMD Radeon RX 7900 XTX (24560 MiB, 24000 MiB free)", 0),
        ("Available devices:\n  (none)", 1),
        ("docker: Error response from daemon: unknown or invalid runtime name: nvidia.", 1),
    ],
)
def test_the_check_for_gpus_reads_what_llama_server_lists(
    monkeypatch: Any, tmp_path: Path, said: str, status: int
) -> None:
    client = tmp_path / "docker"
    client.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    client.chmod(0o755)
    host = StrictHost({"DockerClient": {**CLIENT, "client": str(client)}, "DockerImage": images()})
    *_, devices, _ = run(monkeypatch, image.build, host, image=planned_cuda(), paths=PATHS, gpu_argv=GPU)
    done = subprocess.run(["sh", "-c", devices], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout.strip()) == (status, said)


def test_an_image_that_finds_no_gpu_is_not_taken(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images()})
    build_only = host.run_shell_command
    monkeypatch.setattr(
        host,
        "run_shell_command",
        lambda command, **rest: (
            build_only(command, **rest)
            if "--list-devices" not in command.get_raw_value()
            else (False, [type("Line", (), {"line": "Available devices:"}), type("Line", (), {"line": "  (none)"})])
        ),
    )
    commands = run(monkeypatch, image.build, host, image=planned_cuda(), paths=PATHS, gpu_argv=GPU)
    assert not any(" tag " in command for command in commands)
    assert "finds no GPU in its container" in host.logged[0] and "(none)" in host.logged[0]


def test_sources_that_are_there_are_not_fetched(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images(), "LlamaSource": True})
    assert run(monkeypatch, image.source, host, image=planned(), paths=PATHS) == []
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images(), "LlamaSource": False}, root=True)
    (fetch,) = run(monkeypatch, image.source, host, image=planned(), paths=PATHS)
    assert "claude_local.image.source" in fetch and "/home/u/.cache/claude-local/image/llama.cpp" in fetch
    assert host.sudo == [False], "the sources belong to the user"


def test_the_tag_is_given_only_after_the_image_has_said_its_build_number(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images()}, root=True)
    build, check = run(monkeypatch, image.build, host, image=planned(), paths=PATHS)
    tag = planned().tag
    assert f"--tag {tag}-unchecked" in build and "DOCKER_BUILDKIT=1" in build
    assert f"{tag}-unchecked --version" in check
    assert check.index("grep -w 11434") < check.index(f"tag {tag}-unchecked {tag}")
    assert host.sudo == [True, True]


def test_a_failing_build_says_that_the_next_run_carries_on(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images()})
    host.succeeds = False
    run(monkeypatch, image.build, host, image=planned(), paths=PATHS)
    assert "Run again: compiled files are cached" in host.logged[0]


# --- files/image/base-image.sh, with stand-ins for docker, debootstrap and apt-get ---------------------------------


def base_script(
    tmp_path: Path, *words: str, stall_seconds: int = 60, **scripts: str
) -> subprocess.CompletedProcess[str]:
    """The real script; ``tmp_path/net`` is what the kernel counts of the network."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir(exist_ok=True)
    for name, script in scripts.items():
        path = bin_dir / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    env = {
        "PATH": f"{bin_dir}:{os.environ['PATH']}",
        "CLAUDE_LOCAL_REGISTRY_SECONDS": "1",
        "CLAUDE_LOCAL_STALL_SECONDS": str(stall_seconds),
        "CLAUDE_LOCAL_NET_DEV": str(tmp_path / "net"),
        "LOG": str(tmp_path / "log"),
    }
    (tmp_path / "net").write_text(NETWORK.format(loopback=0, bytes=0))
    return subprocess.run(
        ["sh", "-c", BASE_SCRIPT, "base-image.sh", *words],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# /proc/net/dev; one interface is a bridge that repeats a part of what the other receives.
NETWORK = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: {loopback} 5    0    0    0     0          0         0 1799 5    0    0    0     0       0          0
  eth0:{bytes}  79    0    0    0     0          0         0 4511  526    0    0    0     0       0          0
docker0: 1  79    0    0    0     0          0         0 4511  526    0    0    0     0       0          0
"""
COUNTED = NETWORK.replace("{loopback}", "9$n").replace("{bytes}", "$n")


def test_a_registry_that_says_no_costs_no_time(tmp_path: Path) -> None:
    docker = "echo 'dial tcp: lookup registry: no such host' >&2; exit 1"
    done = base_script(tmp_path, "pull", "docker", "base:b", "debian:b", docker=docker)
    assert done.returncode == 3
    assert "no debian:b from the registry: dial tcp: lookup registry: no such host" in done.stdout


def test_a_registry_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    done = base_script(tmp_path, "pull", "docker", "base:b", "debian:b", docker="exec sleep 50")
    assert done.returncode == 3


def test_a_slow_registry_that_answers_is_waited_for_and_its_image_gets_our_name(tmp_path: Path) -> None:
    docker = 'echo "$@" >>"$LOG"; test "$1" != pull || { echo "b: Pulling from library/debian"; sleep 3; }'
    done = base_script(tmp_path, "pull", "docker", "base:b", "debian:b", docker=docker)
    assert done.returncode == 0
    assert (tmp_path / "log").read_text() == "pull debian:b\ntag debian:b base:b\n"


# A second of the scripts' for a tenth of one.
SHORT = "exec /bin/sleep 0.1"


def pull_for(seconds: int, network: str) -> str:
    """A docker whose pull loads one layer for so long, 30 MB a second over ``network``."""
    return (
        'test "$1" = pull || exit 0; echo "b: Pulling from library/debian"; echo "aa: Pulling fs layer"\n'
        f"n=0; until test $n -ge {seconds}0000000; do sleep 1; n=$((n + 10000000)); n3=$((n * 3))\n"
        f'cat >"$LOG.net" <<END\n{network}END\nmv "$LOG.net" "${{LOG%log}}net"; done'
    )


def test_a_pull_may_take_as_long_as_it_takes_while_something_comes_in(tmp_path: Path) -> None:
    """Docker says nothing while it loads a layer; one of 3 GB takes hours over a slow line."""
    docker = pull_for(40, COUNTED.replace("$n ", "$n3 "))
    done = base_script(tmp_path, "pull", "docker", "base:b", "debian:b", stall_seconds=15, docker=docker, sleep=SHORT)
    assert done.returncode == 0, done.stdout
    assert "pulling debian:b, 15 s, 0 of 1 layers, " in done.stdout and " MB received" in done.stdout
    assert " 0 MB" not in done.stdout


def test_a_pull_that_stands_still_is_given_up(tmp_path: Path) -> None:
    docker = pull_for(50, COUNTED.replace("eth0:$n", "eth0:7"))  # the loopback interface is busy all the same
    done = base_script(tmp_path, "pull", "docker", "base:b", "debian:b", stall_seconds=5, docker=docker, sleep=SHORT)
    assert done.returncode == 3
    assert "no debian:b from the registry: nothing arrived for 0 minutes" in done.stdout


DEBOOTSTRAP = """for root; do :; done
echo "$@" >"$LOG"
for folder do case $folder in */root) root=$folder ;; esac; done
mkdir -p "$root/etc/apt/sources.list.d" "$root/etc/dpkg/dpkg.cfg.d" "$root/usr/share/doc/x" "$root/etc/apt"
echo x >"$root/usr/share/doc/x/copyright"; echo x >"$root/usr/share/doc/x/changelog"
"""
IMPORT = 'while test "$1" != -; do shift; done; echo "import $2" >>"$LOG"; tar -x -C "$LOG.root"'


def bootstrap(
    tmp_path: Path, targets: str, distro: str = "debian", codename: str = "bookworm", keyring: bool = False
) -> subprocess.CompletedProcess[str]:
    (tmp_path / "log.root").mkdir()
    keys = f'mkdir -p "$root/usr/share/keyrings"; : >"$root/usr/share/keyrings/{distro}-archive-keyring.gpg"\n'
    return base_script(
        tmp_path, "bootstrap", "docker", "base:b", distro, codename, str(tmp_path / "scratch"),
        docker=IMPORT, debootstrap=DEBOOTSTRAP + (keys if keyring else ""), apt_get=f"printf '%s\\n' {targets}",
    )  # fmt: skip


def test_the_base_comes_from_the_mirror_that_apt_uses(tmp_path: Path) -> None:
    targets = (
        "'http://mirror.example/debian/ bookworm main Debian' "
        "'http://mirror.example/debian/ bookworm main Debian' "
        "'http://mirror.example/debian/ bookworm contrib Debian' "
        "'http://mirror.example/debian/ bookworm-updates main Debian' "
        "'http://mirror.example/security/ bookworm-security main Debian' "
        "'http://third.example/linux bookworm main Docker' "
        "'http://mirror.example/debian/ trixie main Debian'"
    )
    done = bootstrap(tmp_path, targets)
    assert done.returncode == 0, done.stdout + done.stderr
    log = (tmp_path / "log").read_text()
    assert f"bookworm {tmp_path}/scratch/root http://mirror.example/debian/" in log
    assert "import base:b" in log
    assert (tmp_path / "log.root/etc/apt/sources.list").read_text() == (
        "deb http://mirror.example/debian/ bookworm main\n"
        "deb http://mirror.example/debian/ bookworm-updates main\n"
        "deb http://mirror.example/security/ bookworm-security main\n"
    )
    # Licences stay, the rest of the documentation goes; so does the scratch folder.
    assert [path.name for path in (tmp_path / "log.root/usr/share/doc/x").iterdir()] == ["copyright"]
    assert not (tmp_path / "scratch").exists()


def test_an_ubuntu_host_makes_its_own_ubuntu(tmp_path: Path) -> None:
    """The sources of a fresh Ubuntu: four components, security from another host, backports, and a third party's."""
    archive, security = "http://archive.example/ubuntu/", "http://security.example/ubuntu/"
    targets = [
        f"'{mirror} {suite} {component} Ubuntu noble'"
        for mirror, suite in (
            (archive, "noble"),
            (archive, "noble-updates"),
            (archive, "noble-backports"),
            (security, "noble-security"),
        )
        for component in ("main", "restricted", "universe", "multiverse")
    ]
    targets += ["'https://esm.example/apps/ubuntu/ noble-apps-security main UbuntuESMApps noble'"]
    targets += ["'https://third.example/linux/ubuntu/ noble stable Docker noble'"]
    done = bootstrap(tmp_path, " ".join(targets), "ubuntu", "noble", keyring=True)
    assert done.returncode == 0, done.stdout + done.stderr
    called = (tmp_path / "log").read_text()
    assert f"noble {tmp_path}/scratch/root {archive}" in called and "--force-check-gpg" in called
    signed = "[signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg]"
    assert (tmp_path / "log.root/etc/apt/sources.list").read_text() == (
        f"deb {signed} {archive} noble main universe\n"
        f"deb {signed} {archive} noble-updates main universe\n"
        f"deb {signed} {security} noble-security main universe\n"
    )


def test_sources_that_follow_stable_are_taken_as_the_release_that_stable_is(tmp_path: Path) -> None:
    targets = (
        "'http://mirror.example/debian/ stable main Debian bookworm' "
        "'http://mirror.example/debian/ stable-updates main Debian bookworm-updates' "
        "'http://mirror.example/security/ stable-security main Debian bookworm-security' "
        "'http://mirror.example/debian/ testing main Debian trixie'"
    )
    done = bootstrap(tmp_path, targets)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "log.root/etc/apt/sources.list").read_text() == (
        "deb http://mirror.example/debian/ bookworm main\n"
        "deb http://mirror.example/debian/ bookworm-updates main\n"
        "deb http://mirror.example/security/ bookworm-security main\n"
    )


def test_a_file_that_lists_mirrors_is_followed(tmp_path: Path) -> None:
    (tmp_path / "mirrors.list").write_text("# comment\nhttp://first.example/debian\nhttp://second.example/debian\n")
    done = bootstrap(tmp_path, f"'mirror+file:{tmp_path}/mirrors.list/ bookworm main Debian'")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "http://first.example/debian" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        ("'http://third.example/ bookworm main Docker'", "apt's sources name no debian mirror with bookworm main"),
        ("'cdrom:[disc]/ bookworm main Debian'", "is not an http mirror"),
    ],
)
def test_without_a_mirror_the_reason_is_said(tmp_path: Path, targets: str, reason: str) -> None:
    done = bootstrap(tmp_path, targets)
    assert done.returncode != 0
    assert reason in done.stdout


def test_the_facts_on_a_real_machine(tmp_path: Path) -> None:
    assert fact_on_this_machine(CpuFlags()), "this machine's processor has flags"
    assert fact_on_this_machine(LlamaSource(), python="/no/python", build=1, folder="/no") is False
    assert fact_on_this_machine(DockerImage(), client="/no/docker", reference="x") == {}
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "[{\\"Args\\": \\"$*\\"}]"\n')
    docker.chmod(0o755)
    assert fact_on_this_machine(DockerContainer(), client=str(docker), reference="c") == {"Args": "container inspect c"}


# --- superseded images -----------------------------------------------------------------------------------------------

CURRENT = planned().tag
OLD = "claude-local/llama-server:b1-cpu-old"
OTHERS = "claude-local/llama-server:b2-cpu-of-another-user"


def prune(monkeypatch: Any, there: dict[str, bool], **arguments: Any) -> tuple[list[str], StrictHost]:
    host = StrictHost({"DockerClient": CLIENT, "ServerImages": there}, root=True)
    return run(monkeypatch, image.prune, host, image=planned(), **arguments), host


def test_an_image_that_nothing_uses_any_more_is_removed(monkeypatch: Any) -> None:
    there = {CURRENT: True, OLD: False, OTHERS: True, f"{CURRENT}-unchecked": True}
    (command,), host = prune(monkeypatch, there)
    assert f"/usr/bin/docker rmi {OLD} {CURRENT}-unchecked ||" in command
    assert host.sudo == [True]


@pytest.mark.parametrize("there", [{}, {CURRENT: True}, {CURRENT: False}, {CURRENT: True, OTHERS: True}])
def test_images_in_use_and_the_servers_own_stay(monkeypatch: Any, there: dict[str, bool]) -> None:
    commands, host = prune(monkeypatch, there)
    assert commands == [] and host.noop_reason == "no image is superseded"


def test_old_images_stay_where_they_are_wanted(monkeypatch: Any) -> None:
    commands, _ = prune(monkeypatch, {CURRENT: True, OLD: False}, keep=True)
    assert commands == []


def test_whether_an_image_is_used_is_asked_of_every_container(tmp_path: Path) -> None:
    client = tmp_path / "docker"
    client.write_text(
        '#!/bin/sh\ncase "$*" in\n'
        "'ps --all --quiet --no-trunc') echo c1; echo c2 ;;\n"
        "'inspect --format used {{.Image}} c1 c2') echo used sha256:aa; echo used sha256:cc ;;\n"
        "'image ls --no-trunc --filter label=claude-local.image --format image {{.ID}} {{.Repository}}:{{.Tag}} "
        "claude-local/llama-server') echo image sha256:aa r:new; echo image sha256:bb r:old; echo 'image sha256:dd r:<none>' ;;\n"
        "*) exit 1 ;;\nesac\n"
    )
    client.chmod(0o755)
    assert fact_on_this_machine(ServerImages(), client=str(client)) == {"r:new": True, "r:old": False}
    assert fact_on_this_machine(ServerImages(), client="/no/docker") == {}
