"""The server's container: the arguments of ``docker run``, and the hash that decides whether it is replaced. Pure.

The container has nothing that the server can do without: no root, no capabilities, no new privileges, no file system
to write to except its log's and its prompts', no way out (``docker.commands.NETWORK``), and one port on this machine's
loopback interface. The server downloads nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from claude_local.docker.commands import NETWORK, UNSIGNED
from claude_local.server.presets import CONFIGURATION, EXTRA_MODELS, MODELS, PROMPTS, STOP_SECONDS

# The port inside the container. It is always named: b11434 logs that llama-server will change its default.
PORT = 8080
# The server's user and group when root deploys: a number that no user of the workstation has.
UNPRIVILEGED = 10001
CONFIG_LABEL = "claude-local.config"

# Where the container sees the directory of the server's log, which it may write to.
LOG_DIRECTORY = "/var/log/claude-local"
LOG_FILE = f"{LOG_DIRECTORY}/server.log"

# The container's own loopback, as 127.0.0.1, which docker warns of.
NO_RESOLVER = "0.0.0.0"

# llama-server's default for the prompts that it evicts to main memory (b11434, --help).
CACHE_RAM_MIB = 8192

# How often a thread that waits for the others looks before it sleeps. libgomp's own 300000 lets it take the core that
# they need when two models answer at once (docs/performance.md).
SPIN = 10000

# The health check uses bash's own TCP, so that the image needs no HTTP client. /health needs no API key.
HEALTH_CHECK = (
    f'bash -c \'exec 3<>/dev/tcp/127.0.0.1/{PORT} && printf "GET /health HTTP/1.0\\r\\n\\r\\n" >&3 && '
    "read -r -t 5 -u 3 line && [[ $line == *200* ]]'"
)


def owner(uid: int, gid: int) -> tuple[int, int]:
    """The container's uid and gid: those of the deploying user, who can read the models, but never root's."""
    return (uid, gid) if uid != 0 else (UNPRIVILEGED, UNPRIVILEGED)


def memory_limit_mib(setting: int, machine_mib: int) -> int:
    """The container's memory limit in MiB: server_memory_mib, or for 0 three quarters of the machine's memory."""
    return setting or max(1024, machine_mib * 3 // 4)


def cache_ram_mib(limit_mib: int) -> int:
    """The prompt cache's share of the limit in MiB: a quarter, at most llama-server's own default."""
    return min(CACHE_RAM_MIB, limit_mib // 4)


def bind(source: str, target: str, *, writable: bool = False) -> list[str]:
    """The option for a mount. ``--mount`` fails when the directory is missing; ``--volume`` would create it."""
    return ["--mount", f'type=bind,"source={source}",target={target}{"" if writable else ",readonly"}']


class OwnContainer:
    """A container of ours: its confinement, its command line, and the hash that decides whether it is replaced."""

    name: str
    port: int
    uid: int
    gid: int

    def confinement(self, inner_port: int, memory_mib: int, pids: int, log_mb: int) -> list[str]:
        """The options that all our containers have. ``port`` is on 127.0.0.1; ``inner_port`` is the program's.
        ``log_mb``: the size of one of the three files of Docker's log, in MB."""
        # fmt: off
        return [
            # A daemon that was killed stops its containers when it starts again. Those with "unless-stopped" then count
            # as stopped by the user, and stay down. (Docker 20.10.24)
            "--detach", "--pull", "never", "--name", self.name, "--init", "--restart", "always",
            "--publish", f"127.0.0.1:{self.port}:{inner_port}",
            # Docker's own resolver asks the container's loopback, where nothing answers. By default it asks in the
            # name of the machine.
            "--network", NETWORK, "--dns", NO_RESOLVER, "--dns-option", "timeout:1", "--dns-option", "attempts:1",
            # A daemon with userns-remap would give the program's user a number that may not read the mounts.
            "--userns", "host",
            "--user", f"{self.uid}:{self.gid}",
            "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
            "--memory", f"{memory_mib}m", "--pids-limit", str(pids),
            "--log-driver", "json-file", "--log-opt", f"max-size={log_mb}m", "--log-opt", "max-file=3",
        ]
        # fmt: on

    def arguments(self) -> list[str]:
        """The arguments of ``docker run`` without the label, and those of the program behind the image's name."""
        raise NotImplementedError

    def config(self, files: Mapping[str, str]) -> str:
        """The hash of the arguments and of the files that the program reads at start. ``files`` maps path -> sha256."""
        inputs = json.dumps([self.arguments(), dict(files)], sort_keys=True)
        return hashlib.sha256(inputs.encode()).hexdigest()[:16]

    def run(self, client: str, files: Mapping[str, str]) -> list[str]:
        """The whole ``docker run`` command line, with the hash as a label. ``client`` is the docker command."""
        return [*UNSIGNED, client, "run", "--label", f"{CONFIG_LABEL}={self.config(files)}", *self.arguments()]


@dataclass(frozen=True)
class Container(OwnContainer):
    """The server's container. Paths are the workstation's.

    ``port`` is on 127.0.0.1, ``memory_mib`` in MiB. ``search_dirs`` maps the position of a directory in the setting
    model_search_dirs to its path. ``models_at_once``: how many models stay in memory. ``gpu`` are the options that give
    it the GPUs (``docker.gpus.gpu_options``). ``ui``: whether llama-server has its web page.
    """

    name: str
    image: str
    port: int
    uid: int
    gid: int
    memory_mib: int
    pids: int
    model_dir: str
    search_dirs: Mapping[int, str]
    server_dir: str
    log_dir: str
    prompts_dir: str
    models_at_once: int = 1
    gpu: tuple[str, ...] = ()
    ui: bool = True

    def with_directories(self, existing: Collection[str]) -> Container:
        """The same container with those of its search directories that exist. They keep their positions."""
        return replace(self, search_dirs={i: path for i, path in self.search_dirs.items() if path in existing})

    def arguments(self) -> list[str]:
        """The arguments of ``docker run`` without the label, and those of llama-server behind the image's name."""
        # fmt: off
        return [
            *self.confinement(PORT, self.memory_mib, self.pids, log_mb=10),
            # A model that is unloaded writes its conversations first.
            "--stop-timeout", str(STOP_SECONDS),
            "--tmpfs", "/tmp:rw,noexec,nosuid,nodev,size=64m",
            "--env", "HOME=/tmp", "--env", "LLAMA_CACHE=/tmp/llama.cpp", "--env", f"GOMP_SPINCOUNT={SPIN}",
            # The router answers while a model loads, so a failing check means that the router itself has a problem.
            "--health-cmd", HEALTH_CHECK, "--health-interval", "15s", "--health-timeout", "10s",
            "--health-retries", "5", "--health-start-period", "600s",
            *self._mounts(), *self.gpu, self.image,
            "--models-preset", f"{CONFIGURATION}/presets.ini", "--models-max", str(self.models_at_once),
            "--host", "0.0.0.0", "--port", str(PORT),
            "--api-key-file", f"{CONFIGURATION}/api-key", "--cors-origins", "http://localhost",
            "--offline", "--ui" if self.ui else "--no-ui", "--metrics", "--log-file", LOG_FILE,
        ]
        # fmt: on

    def _mounts(self) -> list[str]:
        """All mounts, read-only except those of the log and of the prompts."""
        mounts = [(self.model_dir, MODELS), (self.server_dir, CONFIGURATION)]
        mounts += [(path, f"{EXTRA_MODELS}/{index}") for index, path in sorted(self.search_dirs.items())]
        options = [part for source, target in mounts for part in bind(source, target)]
        writable = [(self.log_dir, LOG_DIRECTORY), (self.prompts_dir, PROMPTS)]
        return options + [part for source, target in writable for part in bind(source, target, writable=True)]
