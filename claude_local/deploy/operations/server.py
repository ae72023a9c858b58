"""The server: its key, its presets, its container, and that it answers."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FunctionCommand, Host, QuoteString, State, StringCommand, operation

from claude_local.deploy.facts.docker import DockerClient, DockerContainer
from claude_local.deploy.facts.server import ApiKey, Directories, Hashes, Placements, ServerAnswers
from claude_local.deploy.operations import user_files
from claude_local.deploy.operations.docker import fails
from claude_local.deploy.operations.streaming import shell, streamed
from claude_local.docker import commands as docker
from claude_local.models.profiles import Profile
from claude_local.paths import Paths
from claude_local.server import presets
from claude_local.server.container import CONFIG_LABEL, Container
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
def keyed(paths: Paths, uid: int, gid: int, chown: bool) -> Generator[StringCommand]:
    """Make the API token (32 random bytes, mode 600) if there is none, and the server's copy of it (mode 400).

    + paths: the workstation's paths
    + uid: the container's user and ``gid`` its group, to whom the copy belongs
    + chown: whether that is somebody else than the user who deploys (then root deploys)

    A token that is there is kept.
    """
    key = host.get_fact(ApiKey, token=paths.token, copy=paths.api_key_file)
    made = False
    if key["token"] != "600":
        made = True
        yield StringCommand("sh", "-c", QuoteString(TOKEN_SCRIPT), "sh", QuoteString(paths.token))
    if key["copy"] != f"400 {uid}:{gid}" or not key["same"]:
        made = True
        owner = f"-o {uid} -g {gid}" if chown else ""
        new = f"{paths.api_key_file}.new"
        yield StringCommand(
            f"install -D -m 400 {owner}", QuoteString(paths.token), QuoteString(new),
            "&& mv -f", QuoteString(new), QuoteString(paths.api_key_file),
        )  # fmt: skip
    if not made:
        host.noop("the token and the server's copy of it are there")


@operation()
def configured(
    profiles: Mapping[str, Profile],
    active: str,
    paths: Paths,
    search_dirs: Sequence[str],
    variant: str,
    cache_ram_mib: int,
) -> Generator[Any]:
    """Write presets.ini (for the server) and profiles.json (for the commands) from what the models stage placed.

    + profiles: the profiles of models.conf, ``active`` the id of the one that plain ``claude-local`` uses
    + paths: the workstation's paths
    + search_dirs: the setting model_search_dirs with ``~`` expanded
    + variant: the image's (``cpu``, ``cuda``, ``vulkan``)
    + cache_ram_mib: how much memory the prompt cache may take
    """
    placements = host.get_fact(Placements, path=paths.placements)
    try:
        text = presets.render(
            profiles,
            active,
            placements,
            model_dir=paths.model_dir,
            search_dirs=search_dirs,
            variant=variant,
            cache_ram_mib=cache_ram_mib,
        )
    except presets.PresetsError as error:
        yield fails(str(error))
        return
    known = {
        name: {"name": profiles[name].name, "tools": profiles[name].tools, "ctx_size": profiles[name].ctx_size}
        for name in presets.placed(profiles, placements)
    }
    listing = json.dumps({"default": active, "profiles": known}, indent=2) + "\n"
    yield from user_files.whole_file._inner(dest=paths.presets, text=text, mode="644")
    yield from user_files.whole_file._inner(dest=paths.profiles, text=listing, mode="644")


def _as_root(root: bool) -> dict[str, Any]:
    return {"_sudo": True} if root else {}


def _read_at_start(paths: Paths, root: bool) -> dict[str, str]:
    """Everything that the server reads at its start, as path -> what identifies its content."""
    hashes: dict[str, str] = host.get_fact(Hashes, folder=paths.server_dir, **_as_root(root))
    read = dict(hashes)
    for path, stamp in (host.get_fact(Placements, path=paths.placements).get("files") or {}).items():
        read[path] = json.dumps([stamp.get(key) for key in ("sha256", "size", "mtime_ns", "inode")])
    return read


@operation()
def running(container: Container, paths: Paths, root: bool = False) -> Generator[Any]:
    """Run the server's container; made anew when its arguments, presets, key, templates or models are others.

    + container: the container as it should be
    + paths: the workstation's paths
    + root: whether to run docker through sudo (``bool(ws.root)``)
    """
    client = host.get_fact(DockerClient, **_as_root(root))["client"] or "/usr/bin/docker"
    found = host.get_fact(DockerContainer, client=client, reference=container.name, **_as_root(root))
    read = _read_at_start(paths, root)
    present: list[str] = host.get_fact(Directories, paths=list(container.search_dirs.values()))
    container = container.with_directories(present)
    # The label says whose the container is and what it was made from.
    label = ((found.get("Config") or {}).get("Labels") or {}).get(CONFIG_LABEL)
    state = (found.get("State") or {}).get("Status")
    if found and label is None:
        yield fails(
            f"there is a container {container.name} that claude-local did not make: "
            "remove it, or choose another name with server_container"
        )
    elif label == container.config(read) and state in ("running", "restarting"):
        host.noop(f"{container.name} runs as it should")
    elif label == container.config(read) and state == "exited":
        yield streamed(shell(docker.start(client, container.name)), root=root, failure=_not_started)
    else:
        run = shell(container.run(client, read))
        if found:
            run = StringCommand(shell(docker.remove(client, container.name)), ">/dev/null &&", run)
        yield streamed(run, root=root, failure=_not_started)


def _not_started(tail: list[str]) -> str:
    text = "\n  ".join(tail[-4:])
    if "address already in use" in text or "port is already allocated" in text:
        text += "\nAnother program has the port: end it, or set server_port to a free one."
    if "Unable to find image" in text or "No such image" in text:
        text += "\nThe image is not there: run tasks/image.py."
    return f"the server's container does not start:\n  {text}"


@operation()
def answering(port: int, paths: Paths, container: str, timeout: int, root: bool = False) -> Generator[FunctionCommand]:
    """Wait until the default profile is loaded and has answered a one-token message.

    + port: the server's port on 127.0.0.1
    + paths: the workstation's paths
    + container: the container's name, whose log is shown when it fails
    + timeout: seconds that loading and answering may take
    + root: whether to run docker through sudo (``bool(ws.root)``)
    """
    if host.get_fact(ServerAnswers, python=paths.python, port=port, token=paths.token):
        host.noop("the server answers")
        return
    # fmt: off
    wait = shell([
        paths.python, "-m", "claude_local.server.wait", "--port", str(port), "--token", paths.token,
        "--timeout", str(timeout),
    ])
    # fmt: on

    def run(state: State, host: Host) -> bool:
        ok, output = host.run_shell_command(StringCommand("(", wait, ") 2>&1"), print_output=True)
        if ok:
            return True
        client = host.get_fact(DockerClient, **_as_root(root))["client"] or "/usr/bin/docker"
        words = shell(docker.logs(client, container, LOG_LINES))
        _, said = host.run_shell_command(StringCommand("(", words, ") 2>&1"), **_as_root(root))
        log = [line.line for line in said]
        found = host.get_fact(DockerContainer, client=client, reference=container, **_as_root(root))
        killed = bool((found.get("State") or {}).get("OOMKilled"))
        reason = output.stdout_lines[-1].removeprefix("[server] ") if output.stdout_lines else "the wait was cut short"
        host.log_styled(
            f"the default profile does not answer: {reason}\n"
            "The server's last lines:\n  " + "\n  ".join(last_messages(log)) + "\n"
            "What to try: " + advice(log, container, out_of_memory=killed),
            fg="red",
            log_func=logger.error,
        )
        return False

    yield FunctionCommand(run, (), {})
