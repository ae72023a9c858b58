"""The server: its key, its presets, its container, and the wait for its first answer."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, QuoteString, State, StringCommand, operation
from pyinfra.facts.files import Directory

from claude_local.deploy import shell
from claude_local.deploy.facts.docker import DockerContainer, DockerNetwork
from claude_local.deploy.facts.models import Placements
from claude_local.deploy.facts.server import ApiKey, Hashes, Owners, ServerAnswers
from claude_local.deploy.operations import known, user_files
from claude_local.deploy.operations.docker import client, look
from claude_local.deploy.operations.streaming import connector_arguments, fail, last_lines, print_error, stream
from claude_local.docker import commands as docker
from claude_local.models.fit import Fit
from claude_local.models.profile import Profile
from claude_local.paths import Paths
from claude_local.server import presets as server_presets
from claude_local.server.container import CONFIG_LABEL, Container, OwnContainer
from claude_local.server.log import advice, last_messages

LOG_LINES = 100

# Neither the arguments nor the output of these commands hold the token.
TOKEN_SCRIPT = """set -e; umask 077
mkdir -p "$(dirname "$1")"
if test ! -s "$1"; then
  head -c 32 /dev/urandom | base64 | tr -d '=\\n' | tr '+/' '-_' >"$1.new"
  echo >>"$1.new"
  mv "$1.new" "$1"
fi
chmod 600 "$1"
"""


@operation()
def token(paths: Paths, uid: int, gid: int, chown: bool) -> Generator[StringCommand]:
    """Make the API token (32 random bytes, mode 600) if there is none, and the server's copy of it (mode 400).

    + paths: the workstation's paths
    + uid: the container's user, who owns the copy
    + gid: the container's group
    + chown: whether that is somebody else than the deploying user (root deploys in that case)

    An existing token is kept. The token never leaves the workstation, so pyinfra's ``files.put`` cannot write it.

    Example::

        server.token(name="Make the API token", paths=ws.paths, uid=1000, gid=1000, chown=False)
    """
    key = host.get_fact(ApiKey, token=paths.token, copy=paths.api_key_file)
    make_token = key["token"] != "600"
    make_copy = key["copy"] != f"400 {uid}:{gid}" or not key["same"]
    if not (make_token or make_copy):
        host.noop("the token and the server's copy exist")
        return
    if make_token:
        yield shell.script(TOKEN_SCRIPT, paths.token)
    if make_copy:
        owner = f"-o {uid} -g {gid}" if chown else ""
        new = f"{paths.api_key_file}.new"
        yield StringCommand(
            f"install -D -m 400 {owner}", QuoteString(paths.token), QuoteString(new),
            "&& mv -f", QuoteString(new), QuoteString(paths.api_key_file),
        )  # fmt: skip


@operation()
def directories(paths: Sequence[str], uid: int, gid: int) -> Generator[StringCommand]:
    """Make directories that only the containers' user may enter (mode 700).

    + paths: the directories
    + uid: the containers' user, who need not have a name
    + gid: the containers' group

    Instead of pyinfra's ``files.directory``, which takes a number for another owner than the one with that number.

    Example::

        server.directories(
            name="Make the log's directory", paths=[ws.paths.server_logs], uid=10001, gid=10001, _sudo=True
        )
    """
    found = host.get_fact(Owners, paths=list(paths))
    missing = [path for path in paths if found.get(path) != f"700 {uid}:{gid}"]
    if not missing:
        host.noop(f"{', '.join(paths)} exist")
        return
    yield StringCommand(f"install -d -m 700 -o {uid} -g {gid}", *map(QuoteString, missing))


@operation()
def presets(
    profiles: Mapping[str, Profile],
    active: str,
    paths: Paths,
    search_dirs: Sequence[str],
    variant: str,
    cache_ram_mib: int,
    image: str,
    prompts_mib: int,
    idle_minutes: int,
    models_at_once: int = 1,
    fits: Sequence[Fit] = (),
    deployed: Mapping[str, Any] = MappingProxyType({}),
) -> Generator[Any]:
    """Write presets.ini for the server and profiles.json for the commands, for the profiles that are placed.

    + profiles: the profiles of models.conf
    + active: id of the profile that plain ``claude-local`` uses
    + paths: the workstation's paths
    + search_dirs: the setting model_search_dirs with ``~`` expanded
    + variant: the image's (``cpu``, ``cuda``, ``vulkan``)
    + cache_ram_mib: how much memory the prompt cache may take, MiB
    + image: the image's tag
    + prompts_mib: disk space for prompts that outlive the server, MiB; 0: none
    + idle_minutes: minutes without a request after which a model leaves the memory; 0: never
    + models_at_once: how many models the server keeps in memory, for a session to know
    + fits: how the profiles fit this machine, for llama-local to show
    + deployed: what ``llama-local update`` compares a newer checkout with

    It is an operation of its own because the models stage decides what is placed, which is known only when it has run.

    Example::

        server.presets(
            name="Write the presets", profiles=ws.profiles, active="small", paths=ws.paths, search_dirs=[],
            variant="cpu", cache_ram_mib=1024, image=ws.image.tag, prompts_mib=4096,
            idle_minutes=0,
        )
    """
    placements = known.ask(Placements, path=paths.placements)
    try:
        text = server_presets.render(
            profiles,
            active,
            placements,
            model_dir=paths.model_dir,
            search_dirs=search_dirs,
            variant=variant,
            cache_ram_mib=cache_ram_mib,
            image=image,
            prompts_mib=prompts_mib,
            idle_minutes=idle_minutes,
        )
    except server_presets.PresetsError as error:
        yield fail(str(error))
        return
    judged = {fit.profile: fit for fit in fits}
    placed = {
        name: {
            "name": profiles[name].name,
            "description": profiles[name].description,
            "tools": profiles[name].tools,
            "ctx_size": profiles[name].ctx_size,
            "fit": judged[name].as_data() if name in judged else None,
        }
        for name in server_presets.placed_ids(profiles, placements)
    }
    known_of_all = {"default": active, "models_at_once": models_at_once, "profiles": placed, "deployed": dict(deployed)}
    listing = json.dumps(known_of_all, indent=2) + "\n"
    yield from user_files.put_all._inner(files={paths.presets: text, paths.profiles: listing}, mode="644")


def _label(container: Mapping[str, Any]) -> str | None:
    """The hash that a container of ours was made from; None for a container of somebody else's and for none."""
    label: str | None = ((container.get("Config") or {}).get("Labels") or {}).get(CONFIG_LABEL)
    return label


@operation()
def network(containers: Sequence[str]) -> Generator[Any]:
    """Make the Docker network without a way out, anew when its options are others.

    + containers: names of our containers. The first is the server's: ours is removed together with the network, and
      ``run_container`` makes it again. The same command asks about all of them.

    Instead of pyinfra's ``docker.network``, which does not notice other options and cannot leave the router out.

    Example::

        server.network(name="Make the server's network", containers=["claude-local-server"], _sudo=True)
    """
    docker_client = client()
    look(("network", docker.NETWORK), *(("container", name) for name in containers))
    existing = known.ask(DockerNetwork, client=docker_client, reference=docker.NETWORK)
    if docker.has_no_way_out(existing):
        host.noop(f"the Docker network {docker.NETWORK} exists")
        return
    if existing and docker.NETWORK_LABEL not in (existing.get("Labels") or {}):
        yield fail(
            f"the Docker network {docker.NETWORK} was not made by claude-local: "
            f"remove it (docker network rm {docker.NETWORK}) and run again"
        )
        return
    steps = []
    server = containers[0]
    if _label(known.ask(DockerContainer, client=docker_client, reference=server)) is not None:
        steps.append(docker.remove(docker_client, server))
    known.forget(DockerContainer)
    if existing:
        steps.append(docker.remove_network(docker_client))
    quiet = [part for step in steps for part in (shell.join(step), ">/dev/null &&")]
    yield stream(
        StringCommand(*quiet, shell.join(docker.make_network(docker_client))),
        failure=last_lines(f"the Docker network {docker.NETWORK} cannot be made", 4),
    )


def _startup_files(paths: Paths) -> dict[str, str]:
    """Everything that the server reads at its start: path -> what identifies its content."""
    hashes: dict[str, str] = known.ask(Hashes, folder=paths.server_dir)
    stamps: dict[str, Any] = known.ask(Placements, path=paths.placements).get("files") or {}
    models = {
        path: json.dumps([stamp.get(key) for key in ("sha256", "size", "mtime_ns", "inode")])
        for path, stamp in stamps.items()
    }
    return hashes | models


@operation()
def run_container(container: Container, paths: Paths) -> Generator[Any]:
    """Run the server's container, made anew when its arguments, presets, key, templates or models changed.

    + container: the container to run
    + paths: the workstation's paths

    Instead of pyinfra's ``docker.container``, which does not notice other arguments or files.

    Example::

        server.run_container(name="Run the server", container=container, paths=ws.paths, _sudo=True)
    """
    docker_client = client()
    files_read = _startup_files(paths)
    # A trailing slash follows a link.
    container = container.with_directories(
        [path for path in container.search_dirs.values() if host.get_fact(Directory, path=f"{path.rstrip('/')}/")]
    )
    yield from run_changed(container, files_read, docker_client)


def run_changed(container: OwnContainer, files_read: Mapping[str, str], docker_client: str) -> Generator[Any]:
    """Run a container of ours, made anew when its arguments or the files that it reads changed.

    ``files_read``: path -> what identifies the content. Refuses to touch a container of that name that is not ours.
    """
    existing = known.ask(DockerContainer, client=docker_client, reference=container.name)
    # The label says that the container is ours and what it was made from.
    label = _label(existing)
    status = (existing.get("State") or {}).get("Status")
    if existing and label is None:
        yield fail(
            f"the container {container.name} was not made by claude-local: "
            "remove it, or choose another name with server_container"
        )
    elif label == container.config(files_read) and status in ("running", "restarting"):
        host.noop(f"{container.name} runs unchanged")
    elif label == container.config(files_read) and status == "exited":
        known.forget(DockerContainer)
        yield stream(shell.join(docker.start(docker_client, container.name)), failure=_start_failure)
    else:
        known.forget(DockerContainer)
        run = shell.join(container.run(docker_client, files_read))
        if existing:
            run = StringCommand(shell.join(docker.remove(docker_client, container.name)), ">/dev/null &&", run)
        yield stream(run, failure=_start_failure)


def _start_failure(tail: list[str]) -> str:
    text = "\n  ".join(tail[-4:])
    if "address already in use" in text or "port is already allocated" in text:
        text += "\nAnother program uses the port: stop it, or set server_port (manager_port) to a free one."
    if "Unable to find image" in text or "No such image" in text:
        text += "\nThe image is missing: run tasks/image.py."
    return f"the container does not start:\n  {text}"


@operation()
def wait(port: int, paths: Paths, container: str, timeout: int) -> Generator[FunctionCommand]:
    """Wait until the default profile is loaded and has answered a one-token message.

    + port: the server's port on 127.0.0.1
    + paths: the workstation's paths
    + container: name of the container; its log is shown when the server does not answer
    + timeout: seconds that loading and answering may take

    pyinfra's ``server.wait`` waits for an open port, which the server has before its model.

    Example::

        server.wait(
            name="Wait for the server", port=8080, paths=ws.paths, container="claude-local-server", timeout=600,
            _sudo=True,
        )
    """
    if host.get_fact(ServerAnswers, port=port, token=paths.token, _sudo=False):
        host.noop("the server answers")
        return
    wait_argv = [paths.python, "-I", "-m", "claude_local.server.wait", "--port", str(port), "--token", paths.token]
    as_user, as_docker_user = connector_arguments(as_user=True), connector_arguments()

    def run(state: State, host: Host) -> bool:
        command = StringCommand("(", shell.join([*wait_argv, "--timeout", str(timeout)]), ") 2>&1")
        ok, output = host.run_shell_command(command, print_output=True, **as_user)
        if ok:
            return True
        docker_client = client()
        logs = shell.join(docker.logs(docker_client, container, LOG_LINES))
        _, log_output = host.run_shell_command(StringCommand("(", logs, ") 2>&1"), **as_docker_user)
        log = [line.line for line in log_output]
        inspected = host.get_fact(DockerContainer, client=docker_client, reference=container)
        killed = bool((inspected.get("State") or {}).get("OOMKilled"))
        reason = output.stdout_lines[-1].removeprefix("[server] ") if output.stdout_lines else "the wait was cut short"
        print_error(
            host,
            f"the default profile does not answer: {reason}\n"
            "The server's last lines:\n  " + "\n  ".join(last_messages(log)) + "\n"
            "What to try: " + advice(log, container, out_of_memory=killed),
        )
        return False

    yield FunctionCommand(run, (), {})
