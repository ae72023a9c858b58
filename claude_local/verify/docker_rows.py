"""Rows about Docker: the daemon, the image and each hardening property of the container."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_interface
from pathlib import Path
from typing import Any

from claude_local.docker.commands import NETWORK
from claude_local.docker.gpus import SOFTWARE_DEVICE
from claude_local.server.container import LOG_DIRECTORY
from claude_local.server.presets import PROMPTS
from claude_local.verify import processes
from claude_local.verify.checks import Check, Failed
from claude_local.verify.workbench import Workbench

PROVISION_OR_START = "sudo service docker start    (or ./provision)"
BUILD = "./provision    (builds it)"
PROVISION = "./provision"
# Asks Docker everything at once; run with sh -c SCRIPT sh CONTAINER IMAGE. Each answer starts with "@@ NAME STATUS",
# and a mark starts each line of stderr: docker prints warnings there.
# In the container, "reach" tries a closed port of each of this machine's addresses: even a refusal shows a way there.
# From there on, other machines would be in reach, too, so that the proof needs none.
SCRIPT = """export DOCKER_CONTENT_TRUST=0
ask() {
  name=$1; shift
  output=$(
    { { timeout 90 "$@" 2>&1 >&3 3>&- </dev/null; echo "@status $?" >&3; } | sed 's/^/@stderr /'; } 3>&1
  )
  printf '@@ %s %s\\n' "$name" "$(printf '%s\\n' "$output" | sed -n 's/^@status //p')"
  printf '%s\\n' "$output" | sed '/^@status /d'
}
ask version docker version --format '{{json .Server}}'
ask image docker image inspect --format '{{json .}}' "$2"
ask container docker container inspect --format '{{json .}}' "$1"
ask build docker run --rm --network none --read-only --cap-drop ALL --pids-limit 128 "$2" --version
ask reach docker exec "$1" bash -c '
  for address do
    { answer=$(timeout 8 bash -c "exec 3<>/dev/tcp/$address/9 && echo : open" 2>&1); echo "$address ${answer##*: }"; } &
  done
  wait
  if getent ahosts example.com >/dev/null; then echo "example.com resolved"; fi
' bash $(hostname -I)
"""
STDERR = "@stderr "
# The kernel's IPv4 routes and its network interfaces.
ROUTES = Path("/proc/net/route")
INTERFACES = Path("/sys/class/net")


@dataclass(frozen=True)
class DockerAnswer:
    """One answer of Docker's: the command's exit status, its stdout (the value) and its stderr (the reason)."""

    status: int
    text: str
    reason: str = ""

    @property
    def last_line(self) -> str:
        """The last line of the reason, for a report; of stdout without one."""
        lines = self.reason.strip().splitlines() or self.text.strip().splitlines()
        return lines[-1] if lines else f"exit {self.status}"

    @property
    def decoded(self) -> dict[str, Any] | None:
        """The JSON object in the answer; None when the command failed or printed none."""
        line = next((line for line in self.text.splitlines() if line.startswith("{")), None)
        if self.status != 0 or line is None:
            return None
        try:
            return dict(json.loads(line))
        except ValueError:
            return None


def parse(text: str) -> dict[str, DockerAnswer]:
    """The answers of SCRIPT by name; lines before the first heading are dropped."""
    answers: dict[str, DockerAnswer] = {}
    for section in re.split(r"^@@ ", text, flags=re.MULTILINE)[1:]:
        heading, _, output = section.partition("\n")
        name, status = heading.split(" ", 1)
        lines = output.rstrip("\n").splitlines()
        text = "\n".join(line for line in lines if not line.startswith(STDERR))
        reason = "\n".join(line.removeprefix(STDERR) for line in lines if line.startswith(STDERR))
        answers[name] = DockerAnswer(int(status), text, reason)
    return answers


def _ask(bench: Workbench) -> dict[str, DockerAnswer]:
    """Docker's answers: those that the deploy brought along, else asked for here, with sudo where Docker needs it."""
    p = bench.parameters
    if p.docker is not None:
        return parse(p.docker)
    argv = ["sh", "-c", SCRIPT, "sh", p.container, p.image]
    answers = parse(processes.run(argv, timeout=400, env=bench.environment()).stdout)
    version = answers.get("version", DockerAnswer(1, ""))
    if version.status != 0 and "permission denied" in version.reason.lower():
        with_sudo = parse(processes.run(["sudo", "-n", *argv], timeout=400, env=bench.environment()).stdout)
        return with_sudo if "version" in with_sudo else answers
    return answers


def _answer(bench: Workbench, name: str) -> DockerAnswer:
    return bench.once("docker", lambda: _ask(bench)).get(name, DockerAnswer(127, "docker gave no answer"))


def identity(bench: Workbench) -> list[Any]:
    """What makes the server this one: Docker's version, the image, and the labels of the container."""
    about = {name: _answer(bench, name).decoded or {} for name in ("version", "image", "container")}
    return [
        about["version"].get("Version"),
        about["image"].get("Id"),
        about["container"].get("Image"),
        (about["container"].get("Config") or {}).get("Labels"),
    ]


def _daemon(bench: Workbench) -> str:
    answer = _answer(bench, "version")
    if (server := answer.decoded) is not None:
        return f"Docker {server.get('Version', 'of unknown version')}"
    if answer.status == 127:
        raise Failed("docker is not installed")
    raise Failed(f"the Docker daemon does not answer: {answer.last_line}", PROVISION_OR_START)


def _image(bench: Workbench) -> str:
    answer, name = _answer(bench, "image"), bench.parameters.image
    if (image := answer.decoded) is None:
        raise Failed(f"no image {name}: {answer.last_line}", BUILD)
    return f"{name}, {image.get('Size', 0) / 1e6:.0f} MB, {image.get('Id', '')[7:19]}"


def _build(bench: Workbench) -> str:
    answer, build = _answer(bench, "build"), bench.parameters.build
    if answer.status != 0:
        raise Failed(f"llama-server --version fails in the image: {answer.last_line}", BUILD)
    # llama-server prints its version on stderr, where docker's warnings are, too.
    lines = [line for line in f"{answer.text}\n{answer.reason}".splitlines() if line.startswith("version")]
    if not (line := next(iter(lines), "")) or re.search(rf"(?<![\d.])b?{build}(?![\d.])", line) is None:
        raise Failed(f"the image holds {line or answer.last_line!r} instead of build {build}", BUILD)
    return line


def _container(bench: Workbench) -> dict[str, Any]:
    """What docker inspect reports about the container. Raises Failed."""
    answer = _answer(bench, "container")
    if (container := answer.decoded) is None:
        raise Failed(f"no container {bench.parameters.container}: {answer.last_line}")
    return container


def _present(bench: Workbench) -> str:
    container, image, name = _container(bench), bench.parameters.image, bench.parameters.container
    made_from = container["Config"].get("Image")
    image_id = (_answer(bench, "image").decoded or {}).get("Id")
    if made_from != image and (image_id is None or container.get("Image") != image_id):
        raise Failed(f"{name} was made from {made_from}, not from {image}")
    software = SOFTWARE_DEVICE in (container["Config"].get("Env") or [])
    return f"{name} from {image}{', software device: for tests' if software else ''}"


def _running(bench: Workbench) -> str:
    state, name = _container(bench)["State"], bench.parameters.container
    if not state.get("Running") or state.get("Paused") or state.get("Restarting"):
        exit_status = f", exit status {state.get('ExitCode')}" if state.get("Status") == "exited" else ""
        oom = ", out of memory" if state.get("OOMKilled") else ""
        raise Failed(f"{name} is {state.get('Status')}{exit_status}{oom}", bench.start_command)
    health = (state.get("Health") or {}).get("Status", "unknown")
    if health == "unhealthy":
        raise Failed(f"{name} runs, but its health check fails", bench.logs_command)
    return f"running since {state.get('StartedAt', '')[:19]}, health: {health}"


def _addresses(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The container's networks that gave it an address: name -> Docker's record. Raises Failed without any."""
    networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
    if not (connected := {name: about for name, about in networks.items() if about.get("IPAddress")}):
        raise Failed("the container has no address", PROVISION)
    return connected


def _no_way_out(bench: Workbench) -> str:
    connected, answer = _addresses(_container(bench)), _answer(bench, "reach")
    if answer.status != 0:
        raise Failed(f"the container cannot be asked: {answer.last_line}", bench.logs_command)
    own = [ip_interface(f"{about['IPAddress']}/{about['IPPrefixLen']}").network for about in connected.values()]
    results = dict(line.partition(" ")[::2] for line in answer.text.splitlines())
    if results.pop("example.com", None):
        raise Failed("the container resolves names: example.com", PROVISION)
    # The bridge itself has an address of this machine, which the container must reach to answer.
    tried = {
        text: result for text, result in results.items() if not any(ip_address(text) in network for network in own)
    }
    if reached := [text for text, result in tried.items() if result in ("open", "Connection refused")]:
        raise Failed(f"the container reaches {', '.join(reached)}", PROVISION)
    if list(connected) != [NETWORK]:
        raise Failed(f"the container is on {', '.join(connected)}, not only on {NETWORK}", PROVISION)
    return f"no name resolved, no answer from {', '.join(tried) or 'anywhere (this machine has no other address)'}"


def _interface_towards(address: str) -> str | None:
    """The interface that this machine's most specific IPv4 route to ``address`` uses; None without a route."""
    routes: list[tuple[int, str]] = []
    for line in ROUTES.read_text().splitlines()[1:]:
        interface, destination, _, _, _, _, _, mask, *_ = line.split()
        start, length = (IPv4Address(struct.pack("=I", int(each, 16))) for each in (destination, mask))
        if IPv4Address(address) in (network := IPv4Network(f"{start}/{length}")):
            routes.append((network.prefixlen, interface))
    return max(routes)[1] if routes else None


def _on_a_bridge(bench: Workbench) -> str:
    platform = ((_answer(bench, "version").decoded or {}).get("Platform") or {}).get("Name") or ""
    # As in docker/cli #4672. Docker Desktop carries published ports into its virtual machine, where the bridge is.
    if platform.startswith("Docker Desktop"):
        return f"in the virtual machine of {platform}"
    for name, about in _addresses(_container(bench)).items():
        interface = _interface_towards(about["IPAddress"])
        if interface is None or not (INTERFACES / interface / "bridge").exists():
            where = f"over {interface}" if interface else "nowhere"
            raise Failed(
                f"requests for {about['IPAddress']} ({name}) would go {where}: Docker's bridge is missing",
                f"sudo systemctl restart docker    (or start dockerd again), then {bench.start_command}",
            )
    return ", ".join(f"{about['IPAddress']} on {name}" for name, about in _addresses(_container(bench)).items())


# --- the container's properties: what docker inspect reports -> the evidence ----------------------------------------


def _port(container: dict[str, Any], bench: Workbench) -> str:
    host, number = container["HostConfig"], str(bench.parameters.server_port)
    published = [
        (binding.get("HostIp", ""), binding.get("HostPort", ""))
        for bindings in (host.get("PortBindings") or {}).values()
        for binding in bindings or []
    ]
    open_to_all = [f"{ip or '0.0.0.0'}:{port}" for ip, port in published if ip not in ("127.0.0.1", "::1")]
    if open_to_all or host.get("PublishAllPorts") or host.get("NetworkMode") == "host":
        where = ", ".join(open_to_all) or "host network or all ports published"
        raise Failed(f"other machines can reach the server: {where}")
    if ("127.0.0.1", number) not in published:
        raise Failed(f"127.0.0.1:{number} is not published, only {published or 'no port'}")
    return f"127.0.0.1:{number} only"


def _user(container: dict[str, Any], bench: Workbench) -> str:
    user = container["Config"].get("User") or ""
    if user.split(":")[0] in ("", "0", "root"):
        raise Failed(f"the server runs as {user or 'root (no user set)'}")
    return f"runs as {user}"


def _read_only(container: dict[str, Any], bench: Workbench) -> str:
    host = container["HostConfig"]
    if not host.get("ReadonlyRootfs"):
        raise Failed("the root file system is writable")
    binds = [mount for mount in container.get("Mounts", []) if mount.get("Type") == "bind"]
    writable = [mount["Destination"] for mount in binds if mount.get("RW")]
    if more := [path for path in writable if path not in (LOG_DIRECTORY, PROMPTS)]:
        raise Failed(f"mounted writable: {', '.join(more)}")
    return f"root and mounts read-only, except {', '.join([*writable, *(host.get('Tmpfs') or [])]) or 'none'}"


def _capabilities(container: dict[str, Any], bench: Workbench) -> str:
    dropped = [name.upper() for name in container["HostConfig"].get("CapDrop") or []]
    added = container["HostConfig"].get("CapAdd") or []
    if "ALL" not in dropped or added:
        lists = f"dropped: {', '.join(dropped) or 'none'}, added: {', '.join(added) or 'none'}"
        raise Failed(f"capabilities {lists}; all must be dropped")
    return "all dropped, none added"


def _privileges(container: dict[str, Any], bench: Workbench) -> str:
    options = container["HostConfig"].get("SecurityOpt") or []
    if not any(option.startswith("no-new-privileges") and not option.endswith("false") for option in options):
        raise Failed(f"no-new-privileges is not set (security options: {', '.join(options) or 'none'})")
    if weak := [option for option in options if option.endswith("unconfined")]:
        raise Failed(f"confinement is switched off: {', '.join(weak)}")
    return "no-new-privileges"


def _isolation(container: dict[str, Any], bench: Workbench) -> str:
    host = container["HostConfig"]
    faults = ["privileged"] if host.get("Privileged") else []
    faults += [f"host {key[:3].upper()}s" for key in ("PidMode", "IpcMode") if host.get(key) == "host"]
    sources = [str(mount.get("Source")) for mount in container.get("Mounts", [])]
    faults += [f"{path} is mounted" for path in sources if "docker.sock" in path or path in ("/", "/run", "/var/run")]
    if faults:
        raise Failed(", ".join(faults))
    return "not privileged, no Docker socket, no host namespaces"


def _init(container: dict[str, Any], bench: Workbench) -> str:
    if not container["HostConfig"].get("Init"):
        raise Failed("the container has no init process as PID 1, so zombies would stay")
    return "init is PID 1"


def _memory(container: dict[str, Any], bench: Workbench) -> str:
    limit = container["HostConfig"].get("Memory") or 0
    if limit <= 0:
        raise Failed("no memory limit")
    return f"{limit / 2**20:.0f} MiB"


def _pids(container: dict[str, Any], bench: Workbench) -> str:
    limit = container["HostConfig"].get("PidsLimit") or 0
    if limit <= 0:
        raise Failed("no limit on processes")
    return f"{limit} processes and threads"


def _health(container: dict[str, Any], bench: Workbench) -> str:
    check = container["Config"].get("Healthcheck") or {}
    if (check.get("Test") or ["NONE"]) == ["NONE"]:
        raise Failed("no health check")
    grace = (check.get("StartPeriod") or 0) / 1e9
    if grace < 60:
        raise Failed(f"the health check allows only {grace:.0f} s for loading a model")
    return f"every {(check.get('Interval') or 30e9) / 1e9:.0f} s, {grace:.0f} s for loading"


def _restart(container: dict[str, Any], bench: Workbench) -> str:
    policy = (container["HostConfig"].get("RestartPolicy") or {}).get("Name") or "no"
    if policy != "always":
        raise Failed(f"restart policy {policy!r}: the server would stay down after a crash of the server or of Docker")
    return str(policy)


def _logs(container: dict[str, Any], bench: Workbench) -> str:
    log = container["HostConfig"].get("LogConfig") or {}
    driver, options = log.get("Type"), log.get("Config") or {}
    if driver == "local" and not options.get("max-size"):
        return "the local driver, which limits its logs"
    if driver in ("json-file", "") and not options.get("max-size"):
        raise Failed("the logs have no size limit (no max-size)")
    return f"{driver}, {options.get('max-file', '1')} x {options.get('max-size', '-')}"


Property = Callable[[dict[str, Any], Workbench], str]

PROPERTIES: dict[str, tuple[str, Property]] = {
    "port": ("only this machine can reach the server", _port),
    "user": ("the server does not run as root", _user),
    "read-only": ("the container writes nothing but its log and its prompts", _read_only),
    "capabilities": ("the container has no capabilities", _capabilities),
    "privileges": ("the container cannot gain privileges", _privileges),
    "isolation": ("the container is not privileged", _isolation),
    "init": ("the container has an init process", _init),
    "memory": ("the container's memory is limited", _memory),
    "pids": ("the container's processes are limited", _pids),
    "health": ("the health check gives a model time to load", _health),
    "restart": ("the container restarts after a crash", _restart),
    "logs": ("the container's logs are limited", _logs),
}


def checks() -> list[Check]:
    """The rows of this subject, in order."""

    def row(name: str, title: str, look: Property) -> Check:
        def run(bench: Workbench) -> str:
            return look(_container(bench), bench)

        return Check(f"container.{name}", title, run, needs=("container.present",))

    return [
        Check("docker.daemon", "Docker answers", _daemon, limit=420),
        Check("image.present", "the image is built", _image, needs=("docker.daemon",)),
        Check("image.build", "the image holds the pinned llama.cpp", _build, needs=("image.present",)),
        Check("container.present", "the server's container exists", _present, needs=("docker.daemon",)),
        Check("container.running", "the server's container runs", _running, needs=("container.present",)),
        Check("container.no-way-out", "the container cannot reach out", _no_way_out, needs=("container.running",)),
        Check("container.bridge", "a bridge of this machine leads to it", _on_a_bridge, needs=("container.running",)),
        *(row(name, title, look) for name, (title, look) in PROPERTIES.items()),
    ]
