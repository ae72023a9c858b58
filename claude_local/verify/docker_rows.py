"""Rows about Docker: the daemon, the image and each hardening property of the container."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from claude_local.verify import processes
from claude_local.verify.checks import Check, Failed
from claude_local.verify.workbench import Workbench

# Asks Docker everything at once; run with sh -c SCRIPT sh CONTAINER IMAGE. Each answer starts with "@@ NAME STATUS".
SCRIPT = """ask() {
  name=$1; shift
  said=$(timeout 90 "$@" 2>&1 </dev/null); status=$?
  printf '@@ %s %s\\n%s\\n' "$name" "$status" "$said"
}
ask version docker version --format '{{json .Server}}'
ask image docker image inspect --format '{{json .}}' "$2"
ask container docker container inspect --format '{{json .}}' "$1"
ask build docker run --rm --network none --read-only --cap-drop ALL --pids-limit 128 "$2" --version
"""


@dataclass(frozen=True)
class Answer:
    """One answer of Docker's: the command's exit status and what it printed."""

    status: int
    text: str

    @property
    def last_line(self) -> str:
        lines = self.text.strip().splitlines()
        return lines[-1] if lines else f"exit {self.status}"

    def decoded(self) -> dict[str, Any] | None:
        """The JSON object in the answer; None when the command failed or printed none."""
        if self.status != 0:
            return None
        for line in self.text.splitlines():
            if line.startswith("{"):
                try:
                    value = json.loads(line)
                except ValueError:
                    continue
                return value if isinstance(value, dict) else None
        return None


def parse(text: str) -> dict[str, Answer]:
    """The answers of SCRIPT by name; lines before the first heading are dropped."""
    answers: dict[str, Answer] = {}
    name, status, lines = "", 0, list[str]()
    for line in [*text.splitlines(), "@@ end 0"]:
        if line.startswith("@@ "):
            if name:
                answers[name] = Answer(status, "\n".join(lines))
            _, name, number = line.split(" ", 2)
            status, lines = int(number), []
        else:
            lines.append(line)
    return answers


def _asked(bench: Workbench) -> dict[str, Answer]:
    p = bench.parameters
    if p.docker is not None:
        return parse(p.docker)
    ask = ["sh", "-c", SCRIPT, "sh", p.container, p.image]
    answers = parse(processes.run(ask, timeout=400, env=bench.environment()).stdout)
    if answers.get("version", Answer(1, "")).status != 0 and "permission denied" in answers["version"].text.lower():
        with_sudo = parse(processes.run(["sudo", "-n", *ask], timeout=400, env=bench.environment()).stdout)
        if "version" in with_sudo:
            return with_sudo
    return answers


def _answer(bench: Workbench, name: str) -> Answer:
    return bench.once("docker", lambda: _asked(bench)).get(name, Answer(127, "docker was not asked"))


def _daemon(bench: Workbench) -> str:
    answer = _answer(bench, "version")
    server = answer.decoded()
    if server is None:
        missing = answer.status == 127
        what = "docker is not installed" if missing else f"the Docker daemon does not answer: {answer.last_line}"
        raise Failed(what, PROVISION_OR_START if not missing else "./provision")
    return f"Docker {server.get('Version', 'of unknown version')}"


PROVISION_OR_START = "sudo service docker start    (or ./provision)"


def _image(bench: Workbench) -> str:
    found = _answer(bench, "image").decoded()
    if found is None:
        raise Failed(
            f"no image {bench.parameters.image}: {_answer(bench, 'image').last_line}", "./provision    (builds it)"
        )
    return f"{bench.parameters.image}, {found.get('Size', 0) / 1e6:.0f} MB, {found.get('Id', '')[7:19]}"


def _build(bench: Workbench) -> str:
    answer = _answer(bench, "build")
    wanted = str(bench.parameters.build)
    line = next((line for line in answer.text.splitlines() if "version" in line.lower()), answer.last_line)
    if answer.status != 0:
        raise Failed(
            f"llama-server --version fails in the image: {answer.last_line}", "./provision    (builds it again)"
        )
    if re.search(rf"(?<![\d.])b?{wanted}(?![\d.])", line) is None:
        raise Failed(f"found {line!r}, build {wanted} was expected", "./provision    (builds it again)")
    return line


def _inspected(bench: Workbench) -> dict[str, Any]:
    found = _answer(bench, "container").decoded()
    if found is None:
        raise Failed(f"no container {bench.parameters.container}: {_answer(bench, 'container').last_line}")
    return found


def _present(bench: Workbench) -> str:
    found = _inspected(bench)
    image, wanted = found["Config"].get("Image"), bench.parameters.image
    built = (_answer(bench, "image").decoded() or {}).get("Id")
    if image != wanted and (built is None or found.get("Image") != built):
        raise Failed(f"{bench.parameters.container} was made from {image}, not from {wanted}")
    return f"{bench.parameters.container} from {image}"


def _running(bench: Workbench) -> str:
    state = _inspected(bench)["State"]
    if not state.get("Running") or state.get("Paused") or state.get("Restarting"):
        ended = f", exit status {state.get('ExitCode')}" if state.get("Status") == "exited" else ""
        oom = ", out of memory" if state.get("OOMKilled") else ""
        raise Failed(f"{bench.parameters.container} is {state.get('Status')}{ended}{oom}", bench.start_command)
    health = (state.get("Health") or {}).get("Status", "unknown")
    if health == "unhealthy":
        raise Failed(f"{bench.parameters.container} runs, but its health check fails", bench.logs_command)
    return f"running since {state.get('StartedAt', '')[:19]}, health: {health}"


Property = Callable[[dict[str, Any], Workbench], str]


def _port(found: dict[str, Any], bench: Workbench) -> str:
    bindings = found["HostConfig"].get("PortBindings") or {}
    published = [(port, b.get("HostIp", ""), b.get("HostPort", "")) for port, bs in bindings.items() for b in bs or []]
    wrong = [f"{ip or '0.0.0.0'}:{number}" for _, ip, number in published if ip not in ("127.0.0.1", "::1")]
    if wrong or found["HostConfig"].get("PublishAllPorts") or found["HostConfig"].get("NetworkMode") == "host":
        raise Failed(f"reachable from other machines: {', '.join(wrong) or 'host network or all ports published'}")
    if ("127.0.0.1", str(bench.parameters.server_port)) not in [(ip, number) for _, ip, number in published]:
        raise Failed(f"127.0.0.1:{bench.parameters.server_port} is not published, found {published or 'no port'}")
    return f"127.0.0.1:{bench.parameters.server_port} only"


def _user(found: dict[str, Any], bench: Workbench) -> str:
    user = found["Config"].get("User") or ""
    if user.split(":")[0] in ("", "0", "root"):
        raise Failed(f"the server runs as {user or 'root (no user set)'}")
    return f"runs as {user}"


def _read_only(found: dict[str, Any], bench: Workbench) -> str:
    host = found["HostConfig"]
    if not host.get("ReadonlyRootfs"):
        raise Failed("the root file system is writable")
    writable = [
        mount["Destination"] for mount in found.get("Mounts", []) if mount.get("RW") and mount.get("Type") == "bind"
    ]
    if writable:
        raise Failed(f"mounted writable: {', '.join(writable)}")
    return "root and mounts read-only" + (f", tmpfs {', '.join(host['Tmpfs'])}" if host.get("Tmpfs") else "")


def _capabilities(found: dict[str, Any], bench: Workbench) -> str:
    dropped = [name.upper() for name in found["HostConfig"].get("CapDrop") or []]
    added = found["HostConfig"].get("CapAdd") or []
    if "ALL" not in dropped or added:
        raise Failed(
            f"capabilities dropped: {', '.join(dropped) or 'none'}, added: {', '.join(added) or 'none'}; all must be dropped"
        )
    return "all dropped, none added"


def _privileges(found: dict[str, Any], bench: Workbench) -> str:
    options = found["HostConfig"].get("SecurityOpt") or []
    if not any(option.startswith("no-new-privileges") and not option.endswith("false") for option in options):
        raise Failed(f"no-new-privileges is not set (security options: {', '.join(options) or 'none'})")
    if weak := [option for option in options if option.endswith("unconfined")]:
        raise Failed(f"confinement is switched off: {', '.join(weak)}")
    return "no-new-privileges"


def _isolation(found: dict[str, Any], bench: Workbench) -> str:
    host = found["HostConfig"]
    faults = [name for name, bad in (("privileged", host.get("Privileged")), ("host PIDs", host.get("PidMode") == "host"),
                                     ("host IPC", host.get("IpcMode") == "host")) if bad]  # fmt: skip
    faults += [
        f"{mount.get('Source')} is mounted"
        for mount in found.get("Mounts", [])
        if "docker.sock" in str(mount.get("Source")) or str(mount.get("Source")) in ("/", "/run", "/var/run")
    ]
    if faults:
        raise Failed(", ".join(faults))
    return "not privileged, no Docker socket, no host namespaces"


def _init(found: dict[str, Any], bench: Workbench) -> str:
    if not found["HostConfig"].get("Init"):
        raise Failed("no init process as PID 1: zombies would stay")
    return "init is PID 1"


def _memory(found: dict[str, Any], bench: Workbench) -> str:
    limit = found["HostConfig"].get("Memory") or 0
    if limit <= 0:
        raise Failed("no memory limit")
    return f"{limit / 2**20:.0f} MiB"


def _pids(found: dict[str, Any], bench: Workbench) -> str:
    limit = found["HostConfig"].get("PidsLimit") or 0
    if limit <= 0:
        raise Failed("no limit on processes")
    return f"{limit} processes and threads"


def _health(found: dict[str, Any], bench: Workbench) -> str:
    check = found["Config"].get("Healthcheck") or {}
    test = check.get("Test") or []
    if not test or test == ["NONE"]:
        raise Failed("no health check")
    grace = (check.get("StartPeriod") or 0) / 1e9
    if grace < 60:
        raise Failed(f"the health check allows only {grace:.0f} s for loading a model")
    return f"every {(check.get('Interval') or 30e9) / 1e9:.0f} s, {grace:.0f} s for loading"


def _restart(found: dict[str, Any], bench: Workbench) -> str:
    policy = (found["HostConfig"].get("RestartPolicy") or {}).get("Name") or "no"
    if policy not in ("unless-stopped", "always", "on-failure"):
        raise Failed(f"restart policy {policy!r}: it would not come back after a crash")
    return policy


def _logs(found: dict[str, Any], bench: Workbench) -> str:
    log = found["HostConfig"].get("LogConfig") or {}
    config = log.get("Config") or {}
    if log.get("Type") in ("json-file", "local", "") and not config.get("max-size"):
        if log.get("Type") == "local":
            return "local driver (bounded by itself)"
        raise Failed("logs grow without bound (no max-size)")
    return f"{log.get('Type')}, {config.get('max-file', '1')} x {config.get('max-size', '-')}"


PROPERTIES: dict[str, tuple[str, Property]] = {
    "port": ("the server is reachable from this machine only", _port),
    "user": ("the server does not run as root", _user),
    "read-only": ("the container cannot write", _read_only),
    "capabilities": ("the container has no capabilities", _capabilities),
    "privileges": ("the container cannot gain privileges", _privileges),
    "isolation": ("the container is not privileged", _isolation),
    "init": ("the container has an init process", _init),
    "memory": ("the container's memory is bounded", _memory),
    "pids": ("the container's processes are bounded", _pids),
    "health": ("the container has a patient health check", _health),
    "restart": ("the container comes back after a crash", _restart),
    "logs": ("the container's logs are bounded", _logs),
}


def checks() -> list[Check]:
    """The rows of this subject, in order."""

    def row(name: str, title: str, look: Property) -> Check:
        def run(bench: Workbench) -> str:
            return look(_inspected(bench), bench)

        return Check(f"container.{name}", title, run, needs=("container.present",))

    return [
        Check("docker.daemon", "Docker answers", _daemon, limit=420),
        Check("image.present", "the image is built", _image, needs=("docker.daemon",)),
        Check("image.build", "the image holds the pinned llama.cpp", _build, needs=("image.present",)),
        Check("container.present", "the server's container exists", _present, needs=("docker.daemon",)),
        Check("container.running", "the server's container runs", _running, needs=("container.present",)),
        *(row(name, title, look) for name, (title, look) in PROPERTIES.items()),
    ]
