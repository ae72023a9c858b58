"""The management API: its image and its container."""

from __future__ import annotations

import io
from collections.abc import Generator
from posixpath import join
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, operation
from pyinfra.operations import files

from claude_local.deploy import shell
from claude_local.deploy.facts.docker import DockerImage
from claude_local.deploy.facts.runtime import RuntimeStamp
from claude_local.deploy.facts.server import Hashes
from claude_local.deploy.operations import known
from claude_local.deploy.operations.docker import client
from claude_local.deploy.operations.server import run_changed
from claude_local.deploy.operations.streaming import last_lines, stream
from claude_local.docker import commands as docker
from claude_local.manager.container import ManagerContainer
from claude_local.paths import Paths

# Seconds for the first answer; it takes two.
START_SECONDS = 60
# $1 its address, $2 the seconds; the rest is a command that shows why it does not answer.
WAIT = (
    'waited=0; until curl -q -s -f --noproxy "*" --max-time 10 -o /dev/null "$1"; do '
    'test "$waited" -lt "$2" || { shift 2; "$@"; exit 1; }; sleep 1; waited=$((waited + 1)); done'
)


@operation()
def image(tag: str, dockerfile: str, base: str, paths: Paths) -> Generator[Any]:
    """Build the management API's image.

    + tag: the image's tag, which stands for the two that follow
    + dockerfile: the text of its Dockerfile
    + base: the name of its base image, which exists
    + paths: the workstation's paths; the build context is a directory of its own in the cache

    Example::

        manager.image(
            name="Build the image", tag=ws.manager_image, dockerfile="...", base="claude-local/base:bookworm",
            paths=ws.paths, _sudo=True,
        )
    """
    docker_client = client()
    if known.ask(DockerImage, client=docker_client, reference=tag):
        host.noop(f"{tag} exists")
        return
    known.forget(DockerImage)
    context = join(paths.cache, "manager")
    yield from files.put._inner(src=io.StringIO(dockerfile), dest=join(context, "Dockerfile"), mode="644")
    yield stream(
        shell.join(docker.build(docker_client, context, tag, {"BASE": base})),
        failure=last_lines("the image of the management API could not be built", 8),
    )


@operation()
def run_container(container: ManagerContainer, paths: Paths) -> Generator[Any]:
    """Run the management API's container, made anew when its arguments, program or key changed; wait for its answer.

    + container: the container to run
    + paths: the workstation's paths

    Example::

        manager.run_container(name="Run the management API", container=container, paths=ws.paths, _sudo=True)
    """
    read = {**known.ask(RuntimeStamp, lib=paths.lib, venv=paths.venv)}
    # It reads the key when it starts.
    read["api-key"] = known.ask(Hashes, folder=paths.server_dir).get("api-key", "")
    run = list(run_changed(container, read, client()))
    yield from run
    if run:
        # Its log, when it does not answer.
        logs = docker.logs(client(), container.name, 20)
        url = f"http://127.0.0.1:{container.port}/status"
        yield stream(
            StringCommand(shell.script(WAIT, url, str(START_SECONDS), *logs), "2>&1"),
            failure=last_lines(f"the management API does not answer on port {container.port}", 8),
        )
