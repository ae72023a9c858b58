"""A bare machine with one of the releases in releases/*.json: it answers the deploy's facts from what is recorded
there, and it changes as the deploy's commands would change it. What it is asked to install must exist in that release.

The facts' and operations' own scripts are recognised, not run. Whatever is not known here succeeds and says nothing, as
pyinfra's @fake does it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from claude_local.deploy.facts.docker import CLIENT_SCRIPT, OBJECTS, DockerPackages
from claude_local.deploy.facts.fence import EXPERIMENTS, ROOT
from claude_local.deploy.facts.packages import SCRIPT as PACKAGES_SCRIPT
from claude_local.deploy.facts.preflight import SCRIPT as PREFLIGHT_SCRIPT
from claude_local.deploy.operations import apt_repository
from claude_local.deploy.operations.docker import START_SCRIPT
from claude_local.deploy.operations.fence import COPY_SCRIPT
from claude_local.deploy.operations.image import BASE_SCRIPT
from claude_local.docker.commands import PACKAGES, UPSTREAM_PACKAGES
from claude_local.fence.probe import BWRAP, COPY

RELEASES = Path(__file__).parent / "releases"
OUTER_INNER_BOTH = ("outer", "inner", "both")


def script_of(command: Any) -> str:
    """The script in ``sh -c SCRIPT sh ...`` as the fact sends it."""
    return shlex.split(command.get_raw_value())[2]


DOCKER_PACKAGES_SCRIPT = script_of(DockerPackages().command(names=[]))


class RecordedMachine:
    """``release``: a file's name in releases/, without its ending. ``repository``: Docker's own repository answers for
    this release. ``registry``: base images can be pulled. ``os_release`` and ``arch``: what it says of itself instead
    of what is recorded; ``apt``: it has apt-get."""

    def __init__(
        self,
        release: str,
        *,
        repository: bool = False,
        registry: bool = True,
        os_release: dict[str, str] | None = None,
        arch: tuple[str, str] = ("x86_64", "amd64"),
        apt: bool = True,
    ) -> None:
        self.recorded = json.loads((RELEASES / f"{release}.json").read_text())
        self.recorded["os_release"] = os_release or self.recorded["os_release"]
        self.repository, self.registry, self.arch, self.apt = repository, registry, arch, apt
        self.packages = set(self.recorded["packages"])
        self.installed = set(self.recorded["installed"])
        self.images: set[str] = set()
        self.placed: dict[str, Any] = {}
        self.daemon = self.copied = False
        self.ran: list[str] = []
        self.uploads: dict[str, str] = {}

    def run(self, command: str) -> tuple[bool, list[str]]:
        """Whether a command succeeds, and the lines that it prints. Commands that are no facts are kept in ``ran``."""
        words = split(command)
        if words[:2] == ["sh", "-c"]:
            script, arguments = words[2], words[4:]
            facts = {
                PREFLIGHT_SCRIPT: self._preflight,
                CLIENT_SCRIPT: self._docker_client,
                DOCKER_PACKAGES_SCRIPT: self._docker_packages,
                EXPERIMENTS: self._experiments,
                ROOT: self._root_view,
                PACKAGES_SCRIPT: self._installed_packages,
                OBJECTS: self._docker_objects,
            }
            if script in facts:
                return True, list(facts[script](arguments))
        if command.startswith("command -v "):
            return True, [f"/usr/bin/{words[2]}"]
        if "/etc/os-release" in command:
            return True, self._identity()
        if command.startswith("curl --connect-timeout"):
            return True, ["yes"] if self.repository and "download.docker.com" in command else []
        if " image inspect " in command or " container inspect " in command:
            return True, ['[{"Id": "sha256:0"}]'] if words[3] in self.images else []
        if command.startswith("! test -r") and "models.json" in command:
            return True, [json.dumps({"files": {}, "profiles": self.placed})]
        if "placement check" not in command:
            self.ran.append(command)
        return self._change(words, command)

    # --- facts

    def _installed_packages(self, arguments: list[str]) -> list[str]:
        programs = [f"program {name}" for name in arguments[0].split()]
        return programs + [f"package {name}" for name in arguments[1:] if name in self.installed]

    def _identity(self) -> list[str]:
        user = ["uid 1000", "gid 1000", "user user", "home /home/user", f"arch {self.arch[0]}", "sudo yes"]
        lines = self.recorded["os_release"]
        return [*user, f"userland {self.arch[1]}", *(f"{name} {value}" for name, value in lines.items())]

    def _preflight(self, arguments: list[str]) -> list[str]:
        places = arguments[3:]
        return [
            *(["apt yes"] if self.apt else []),
            "root yes",
            *(f"mount /dev/sda1 ext4 {2**40} {path}" for path in places),
        ]

    def _docker_client(self, _: list[str]) -> Iterable[str]:
        about = self.recorded["docker"]
        if {"docker.io", "docker-ce"} & self.installed:
            yield "dockerd yes"
        if not {about["client_in"], "docker-ce-cli"} & self.installed:
            return
        if about["buildkit_built_in"] or {"docker-buildx", "docker-buildx-plugin"} & self.installed:
            yield "buildkit yes"
        yield "client /usr/bin/docker"
        yield f"version {about['version']}"
        if self.daemon:
            yield "daemon yes"

    def _docker_objects(self, arguments: list[str]) -> Iterable[str]:
        for each in arguments[1:]:
            if each.partition(" ")[2] in self.images:
                yield f'{each} {{"Id": "sha256:0"}}'

    def _docker_packages(self, names: list[str]) -> Iterable[str]:
        for name in names:
            if name in self.installed:
                yield f"installed {name}"
            if name in self.packages:
                yield f"candidates {name}"

    def _experiments(self, _: list[str]) -> Iterable[str]:
        about = self.recorded["fence"]
        yield "uid 1000"
        for name, value in about["sysctls"].items():
            yield f"sysctl {name} {value}"
        if "socat" in self.installed:
            yield "socat yes"
        if "bubblewrap" not in self.installed:
            return
        for path, said in ((BWRAP, about["distribution"]), (COPY, ["", "", ""])):
            if path == COPY and not self.copied:
                continue
            yield f"bwrap {path} {'0' * 64} bubblewrap {self.recorded['packages']['bubblewrap'].partition('-')[0]}"
            for name, words in zip(OUTER_INNER_BOTH, said, strict=True):
                yield f"try {path} {name} {int(bool(words))}"
                if words:
                    yield f"stderr {path} {name} {words}"

    def _root_view(self, _: list[str]) -> list[str]:
        about = self.recorded["fence"]
        loaded = [*about["loaded"], *(["claude-local-bwrap"] if self.copied else [])]
        return [*about["apparmor"], *(f"loaded {name}" for name in loaded)]

    # --- what changes the machine

    def _change(self, words: list[str], command: str) -> tuple[bool, list[str]]:
        if "apt.sh" in words and "install" in words:
            return self._install(words[len(words) - words[::-1].index("install") :])
        if "claude_local.models.placement" in words and "place" in words:
            plan = json.loads(words[words.index("%s") + 1])
            paths = {each["id"]: f"{plan['model_dir']}/{each['id']}.gguf" for each in plan["profiles"]}
            self.placed = {name: {"model": path, "files": [path]} for name, path in paths.items()}
        if words[:2] != ["sh", "-c"]:
            return True, []
        script, arguments = words[2], words[4:]
        if script == apt_repository.SCRIPT and self.repository:
            self.packages |= set(UPSTREAM_PACKAGES)
        elif script == START_SCRIPT:
            self.daemon = True
        elif script == COPY_SCRIPT:
            self.copied = True
        elif script == BASE_SCRIPT and (arguments[0] == "bootstrap" or self.registry):
            self.images.add(arguments[2])
        return True, []

    def _install(self, arguments: list[str]) -> tuple[bool, list[str]]:
        names = [word for word in arguments if not word.startswith("-")]
        unknown = [name for name in names if name not in self.packages]
        if unknown:
            return False, [f"E: Unable to locate package {name}" for name in unknown]
        self.installed |= set(names)
        return True, []

    # --- what a test asks

    @property
    def docker(self) -> list[str]:
        return sorted(self.installed & set(PACKAGES))

    def scripts(self, script: str) -> list[list[str]]:
        """The arguments of each call of a script."""
        return [words[4:] for words in map(split, self.ran) if words[:2] == ["sh", "-c"] and words[2] == script]

    def dump(self) -> dict[str, Any]:
        return {
            "installed": sorted(self.installed),
            "docker": self.docker,
            "repository": self.scripts(apt_repository.SCRIPT),
            "profiles": self.scripts(COPY_SCRIPT),
            "base": self.scripts(BASE_SCRIPT),
            "uploads": self.uploads,
            "ran": self.ran,
        }


def split(command: str) -> list[str]:
    """The words of a command; of a streamed one (``( COMMAND ) 2>&1``) those within."""
    inner = re.fullmatch(r"\( (.*) \) 2>&1", command, re.DOTALL)
    try:
        return shlex.split(inner[1] if inner else command)
    except ValueError:
        return [command]
