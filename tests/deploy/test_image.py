"""The image stage: nothing while the image is there, and every source's failure has its second source."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from claude_local.deploy.facts.docker import Client, DockerContainer, DockerImage
from claude_local.deploy.facts.image import LlamaSource, ServerImages
from claude_local.deploy.facts.packages import InstalledPackages
from claude_local.deploy.operations import image
from claude_local.deploy.workstation import DOCKERFILE
from claude_local.hardware.cuda import IN_DEBIAN, IN_WHEELS, TOOLKITS, Cuda, CudaToolkit
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
        patches="",
        web_ui=b"",
        build_number=max(BUILDS),
        variant="cpu",
        cpu="native",
        base=base_image(base, "debian", "bookworm"),
        arch="x86_64",
        cpu_flags=["avx2"],
    )


def planned_cuda(packages: CudaToolkit | None = None) -> pure.Image:
    return pure.plan(
        dockerfile=DOCKERFILE.read_text(),
        patches="",
        web_ui=b"",
        build_number=max(BUILDS),
        variant="cuda",
        cpu="native",
        base=base_image("auto", "debian", "bookworm", "cuda"),
        packages_base=base_image("auto", "debian", "bookworm", "cuda-debian" if packages is IN_DEBIAN else "cpu"),
        arch="x86_64",
        cpu_flags=["avx2"],
        cuda=Cuda(TOOLKITS[0], ("89-real",), packages),
    )


def images(*present: str) -> Any:
    """The fact DockerImage of a daemon that has these images; ``present`` may grow while the operation runs."""
    return lambda client, reference: {"Id": "x"} if reference in present else {}


HOST = {"distro": "debian", "codename": "bookworm", "scratch": "/scratch"}


def base_of(image: pure.Image) -> dict[str, Any]:
    """The arguments of the operation that gets what ``image`` is built from."""
    follow = image.from_packages is not None
    return {"bases": image.bases, "needed_by": [image.tag], "variant": image.variant, "packages_follow": follow, **HOST}


def test_an_image_that_exists_costs_nothing(monkeypatch: Any) -> None:
    facts = {"DockerClient": CLIENT, "DockerImage": images(planned().tag)}
    for operation, arguments in (
        (image.base, base_of(planned())),
        (image.source, {"image": planned(), "paths": PATHS}),
        (image.cuda_packages, {"image": planned(), "paths": PATHS, **HOST}),
        (image.build, {"image": planned(), "paths": PATHS}),
    ):
        host = StrictHost(facts)
        assert run(monkeypatch, operation, host, **arguments) == []
        assert host.noop_reason == f"{planned().tag} exists"


def test_a_base_image_that_exists_is_used(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images("claude-local/base:bookworm")})
    assert run(monkeypatch, image.base, host, **base_of(planned())) == []


def test_the_registry_is_enough_where_it_answers(monkeypatch: Any) -> None:
    asked: list[str] = []

    def fact(client: str, reference: str) -> dict[str, str]:
        asked.append(reference)
        return {"Id": "x"} if asked.count("claude-local/base:bookworm") > 1 else {}

    host = StrictHost({"DockerClient": CLIENT, "DockerImage": fact})
    (pull,) = run(monkeypatch, image.base, host, **base_of(planned()))
    assert "pull /usr/bin/docker claude-local/base:bookworm debian:bookworm-slim" in pull


def test_debootstrap_is_installed_and_used_where_the_registry_does_not_answer(monkeypatch: Any) -> None:
    host = StrictHost(
        {"DockerClient": CLIENT, "DockerImage": images(), "InstalledPackages": InstalledPackages.default()}, root=True
    )
    pull, install, bootstrap = run(monkeypatch, image.base, host, **base_of(planned()))
    assert "|| test $? -eq 3" in pull
    assert install.endswith(" install --yes --no-install-recommends debian-archive-keyring debootstrap ) 2>&1")
    assert "bootstrap /usr/bin/docker claude-local/base:bookworm debian bookworm /scratch" in bootstrap
    assert host.sudo == [True] * 3


def test_an_image_of_the_users_choice_has_no_second_source(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images()})
    commands = run(monkeypatch, image.base, host, **base_of(planned("me/base:1")))
    assert len(commands) == 1
    assert "image_base: me/base:1 could not be pulled" in host.logged[0]
    assert "set image_base to 'auto'" in host.logged[0] and "GPU" not in host.logged[0]


def test_cuda_needs_two_images_and_only_the_missing_one_is_pulled(monkeypatch: Any) -> None:
    devel = "nvidia/cuda:12.8.1-devel-ubuntu24.04"
    there = ["claude-local/base:noble"]
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images(*there, devel)})
    assert run(monkeypatch, image.base, host, **base_of(planned_cuda())) == []

    asked: list[str] = []

    def fact(client: str, reference: str) -> dict[str, str]:
        asked.append(reference)
        return {"Id": "x"} if reference in there or asked.count(devel) > 1 else {}

    host = StrictHost({"DockerClient": CLIENT, "DockerImage": fact})
    (pull,) = run(monkeypatch, image.base, host, **base_of(planned_cuda()))
    assert f"pull /usr/bin/docker {devel} {devel}" in pull


def test_a_cuda_image_that_cannot_be_pulled_says_how_to_bring_it_or_do_without(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images()})
    run(monkeypatch, image.base, host, **base_of(planned_cuda()))
    assert host.logged[0].startswith("ubuntu:noble could not be pulled")
    assert "docker load here, docker tag ubuntu:noble claude-local/base:noble" in host.logged[0]


def test_a_cuda_image_that_does_not_come_through_names_no_setting_that_is_right(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images("claude-local/base:noble")})
    run(monkeypatch, image.base, host, **base_of(planned_cuda()))
    (said,) = host.logged
    assert said.startswith("nvidia/cuda:12.8.1-devel-ubuntu24.04 could not be pulled")
    assert "image_base" not in said and "docker tag" not in said
    for help in (
        "Run again, on a faster line",
        "docker load here",
        "image_variant = 'cpu'",
        "7.5",
        "driver 580",
        "9.0",
    ):
        assert help in said


def test_where_no_registry_has_cuda_nvidias_packages_take_its_place(monkeypatch: Any) -> None:
    asked = planned_cuda(IN_WHEELS)
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images("claude-local/base:bookworm")})
    (pull,) = run(monkeypatch, image.base, host, **base_of(asked))
    assert "pull /usr/bin/docker claude-local/base:noble ubuntu:noble" in pull and host.logged == []
    (fetch,) = run(monkeypatch, image.cuda_packages, host, image=asked, paths=PATHS, **HOST)
    assert "-m claude_local.image.cuda_wheels /home/u/.cache/claude-local/image/cuda" in fetch
    build, _ = run(monkeypatch, image.build, host, image=asked, paths=PATHS)
    for word in ("BASE=cuda-wheels", "RUNTIME_BASE=claude-local/base:bookworm", f"--tag {asked.tag}-unchecked"):
        assert word in build


def test_debians_packages_are_installed_by_the_build_on_their_release(monkeypatch: Any) -> None:
    asked = planned_cuda(IN_DEBIAN)
    facts = {"DockerClient": CLIENT, "InstalledPackages": InstalledPackages.default()}
    host = StrictHost({**facts, "DockerImage": images("claude-local/base:bookworm")}, root=True)
    pull, *more = run(monkeypatch, image.cuda_packages, host, image=asked, paths=PATHS, **HOST)
    assert "pull /usr/bin/docker claude-local/base:trixie debian:trixie-slim" in pull
    assert "bootstrap /usr/bin/docker claude-local/base:trixie debian trixie /scratch bookworm" in more[-1]
    build, _ = run(monkeypatch, image.build, host, image=asked, paths=PATHS)
    assert "BASE=cuda-debian" in build and "RUNTIME_BASE=claude-local/base:trixie" in build


def test_a_registry_that_has_cuda_comes_first(monkeypatch: Any) -> None:
    asked = planned_cuda(IN_WHEELS)
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images(*(each.name for each in asked.bases))})
    assert run(monkeypatch, image.cuda_packages, host, image=asked, paths=PATHS, **HOST) == []
    build, _ = run(monkeypatch, image.build, host, image=asked, paths=PATHS)
    assert "BASE=nvidia/cuda:12.8.1-devel-ubuntu24.04" in build


def test_cuda_is_not_fetched_for_a_gpu_that_nvidias_packages_do_not_support(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images()})
    assert run(monkeypatch, image.cuda_packages, host, image=planned_cuda(), paths=PATHS, **HOST) == []


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


def test_existing_sources_are_not_downloaded_again(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images(), "LlamaSource": True})
    assert run(monkeypatch, image.source, host, image=planned(), paths=PATHS) == []
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images(), "LlamaSource": False}, root=True)
    (fetch,) = run(monkeypatch, image.source, host, image=planned(), paths=PATHS)
    assert "claude_local.image.source" in fetch and "/home/u/.cache/claude-local/image/llama.cpp" in fetch
    assert host.sudo == [False], "the sources belong to the user"


def test_the_image_gets_its_tag_only_after_it_reports_its_build_number(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images()}, root=True)
    build, check = run(monkeypatch, image.build, host, image=planned(), paths=PATHS)
    tag = planned().tag
    assert f"--tag {tag}-unchecked" in build and "DOCKER_BUILDKIT=1" in build
    assert f"{tag}-unchecked --version" in check
    assert check.index("grep -w 11434") < check.index(f"tag {tag}-unchecked {tag}")
    assert host.sudo == [True, True]


def test_a_failing_build_advises_to_run_again(monkeypatch: Any) -> None:
    host = StrictHost({"DockerClient": CLIENT, "DockerImage": images()})
    host.succeeds = False
    run(monkeypatch, image.build, host, image=planned(), paths=PATHS)
    assert "Run again: compiled files are cached" in host.logged[0]


def test_the_facts_on_a_real_machine(tmp_path: Path) -> None:
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


def test_old_images_stay_with_image_keep_old(monkeypatch: Any) -> None:
    commands, _ = prune(monkeypatch, {CURRENT: True, OLD: False}, keep=True)
    assert commands == []


def test_whether_an_image_is_used_is_asked_of_every_container(tmp_path: Path) -> None:
    client = tmp_path / "docker"
    client.write_text(
        '#!/bin/sh\ncase "$*" in\n'
        "'ps --all --quiet --no-trunc') echo c1; echo c2 ;;\n"
        "'inspect --format used {{.Image}} c1 c2') echo used sha256:aa; echo used sha256:cc ;;\n"
        "'image ls --no-trunc --filter label=claude-local.image --format image {{.ID}} {{.Repository}}:{{.Tag}} "
        "claude-local/llama-server') echo image sha256:aa r:new; echo image sha256:bb r:old;\n"
        "echo 'image sha256:dd r:<none>' ;;\n"
        "*) exit 1 ;;\nesac\n"
    )
    client.chmod(0o755)
    assert fact_on_this_machine(ServerImages(), client=str(client)) == {"r:new": True, "r:old": False}
    assert fact_on_this_machine(ServerImages(), client="/no/docker") == {}
